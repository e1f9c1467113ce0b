"""The verb ``thresholds``: measured on annotated val samples, used by the next draft."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.tables import write_table
from visionloop.data.formats import coco
from visionloop.data.splits.split import SPLITS
from visionloop.labeling.calibration import thresholds
from visionloop.labeling.drafts import load_drafter
from visionloop.labeling.params import load_params

OPEN_BOX = (6.0, 8.0, 18.0, 17.0)
"""Where the detector always sees an "open", as surely as the image is bright."""


@pytest.fixture
def boards(project, signed, new_detector):
    """An "open" is there in the brighter half of 60 images; a "short" never is."""
    space = project.boards
    new_detector(space.package)
    bright = float(np.median(list(project.levels.values())))
    truth = [
        Annotation(one, "open", OPEN_BOX) if level > bright else Annotation(one, "")
        for one, level in project.levels.items()
    ]
    images = [coco.CocoImage(one, f"{one}.png", 60, 40) for one in project.ids]
    coco.save(space.raw / "annotations.json", images, truth, ["open", "short", "spur"])
    split(space, dict.fromkeys(project.ids, "val"))
    return space


def split(space, splits) -> None:
    frame = pandas.DataFrame({"sample_id": list(splits), "split": list(splits.values())})
    for column in SPLITS.columns:
        if column not in frame:
            frame[column] = ""
    write_table(space.root / "data" / "splits.parquet", SPLITS, frame)


def shown(space, project, paths) -> list[set[str]]:
    drafter = load_drafter(space, *load_params(space))
    return [{region.class_name for region in draft.regions} for draft in drafter.draft(paths)]


def test_drafts_show_what_saves_time_and_nothing_else(boards, project) -> None:
    by_level = sorted(project.ids, key=lambda one: project.levels[one])
    paths = [boards.images / f"{one}.png" for one in by_level]
    assert {"open", "short"} in shown(boards, project, paths)
    before = load_drafter(boards, *load_params(boards)).version
    report = thresholds(workspace=boards)
    again = load_drafter(boards, *load_params(boards)).version
    assert again != before, "open tasks would keep the drafts that show too much"
    assert load_drafter(boards, *load_params(boards)).version == again
    assert (report.samples, report.boxes) == (60, 120)
    surest_short = 0.9 * max(project.levels.values()) / 255
    assert report.thresholds["short"] > surest_short - 0.02
    assert 0.45 < report.thresholds["open"] < 0.55  # the median grey level
    assert report.saved > report.saved_before
    stored = read_json(report.path)
    assert stored["thresholds"] == report.thresholds
    after = shown(boards, project, paths)
    assert after[:28] == [set()] * 28
    assert after[32:] == [{"open"}] * 28


def test_thresholds_are_of_one_package(boards, project, signed) -> None:
    """Another package begins with labeling.draft_confidence."""
    report = thresholds(workspace=boards)
    report.path.rename(report.path.with_name("0123456789ab.json"))
    drafter = load_drafter(boards, *load_params(boards))
    assert set(drafter.minimum.values()) == {0.25}


def test_samples_of_train_do_not_count(boards, project) -> None:
    split(
        boards, {one: "train" if number < 50 else "val" for number, one in enumerate(project.ids)}
    )
    report = thresholds(workspace=boards)
    assert report.path is None
    assert "20 boxes on 10 annotated val samples are too few" in report.why_not


def test_a_class_of_the_whole_image_needs_no_threshold(project, signed, new_package) -> None:
    with pytest.raises(DataError, match="there is no model yet"):
        thresholds(workspace=project.cells)
    new_package(project.cells.package, 4.0)
    assert thresholds(workspace=project.cells).path is None


def test_an_image_that_fails_costs_its_own_draft_alone(boards, project, capsys) -> None:
    paths = [boards.images / f"{one}.png" for one in project.ids[:20]]
    paths[3].write_bytes(b"\x89PNG broken")
    paths[11].unlink()
    drafter = load_drafter(boards, *load_params(boards))
    drafts = drafter.draft_each(paths)
    assert [number for number, draft in enumerate(drafts) if draft is None] == [3, 11]
    with pytest.raises(DataError):
        drafter.draft(paths)
    told = capsys.readouterr().err
    assert f"no draft for {paths[3].name}" in told and f"no draft for {paths[11].name}" in told
