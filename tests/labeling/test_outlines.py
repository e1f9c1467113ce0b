"""Outlines in second looks: drawn as the interface can; untouched ones are accepted."""

from __future__ import annotations

import pytest

from visionloop.core.entities import Annotation
from visionloop.labeling.doubts import Asked, Doubt, draw, regions_before
from visionloop.labeling.region_changes import compare
from visionloop.labeling.regions import from_result, to_result
from visionloop.labeling.shapes import placed, repainted

RING = (10.0, 10.0, 40.0, 12.0, 38.0, 44.0, 12.0, 30.0)
SECOND = (60.0, 60.0, 80.0, 60.0, 80.0, 80.0)
ONE = Annotation("a", "crack", (10.0, 10.0, 40.0, 44.0), polygon=(RING,))
TWO = Annotation("a", "crack", (10.0, 10.0, 80.0, 80.0), polygon=(RING, SECOND))
BOX = Annotation("a", "spot", (5.0, 5.0, 25.0, 15.0))
SIZE = 100, 100


@pytest.mark.parametrize(
    ("interface", "controls"),
    [
        ("boxes", ["box", "box", "box"]),
        ("polygons", ["polygon", "box", "box"]),
        ("masks", ["mask", "mask", "box"]),
        ("anomaly", ["mask", "mask", "mask"]),
    ],
)
def test_what_an_interface_can_show_is_shown_as_it_was(interface, controls) -> None:
    regions = regions_before([ONE, TWO, BOX], interface)
    result = to_result(regions, *SIZE)
    assert [entry["from_name"] for entry in result] == controls
    back, problems = from_result(result, *SIZE)
    assert not problems
    assert compare(regions, back) == (["accepted"] * 3, 0)


def test_a_mask_that_was_painted_over_is_an_adjustment() -> None:
    regions = regions_before([ONE], "masks")
    ring = (10.0, 10.0, 44.0, 12.0, 38.0, 44.0, 12.0, 30.0)
    wider = Annotation("a", "crack", ONE.xyxy, polygon=(ring,))
    assert compare(regions, regions_before([wider], "masks")) == (["adjusted"], 0)


@pytest.mark.parametrize("interface", ["polygons", "masks"])
def test_a_shifted_object_takes_its_outline_along(interface) -> None:
    doubt = Doubt("shifted", 0.9, "It is elsewhere.", "", ONE.xyxy, (20.0, 10.0, 50.0, 78.0))
    (drawn,) = draw(Asked("f", regions_before([ONE], interface), [doubt]), 1, "m@1").regions
    assert drawn.xyxy == (20.0, 10.0, 50.0, 78.0)
    assert drawn.polygon == ((20.0, 10.0, 50.0, 14.0, 48.0, 78.0, 22.0, 50.0),)


def test_one_mask_said_in_two_ways_is_one() -> None:
    square = ((10.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0),)
    more_points = ((10.0, 10.0, 15.0, 10.0, 20.0, 10.0, 20.0, 20.0, 10.0, 20.0),)
    assert repainted(square) == repainted(more_points)
    assert placed((), (0, 0, 1, 1), (1, 1, 2, 2)) == ()
