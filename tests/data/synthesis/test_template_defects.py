"""Board defects: drawn where their kind can occur, with exact masks and boxes."""

from __future__ import annotations

import random

import cv2
import numpy as np
import pytest

from visionloop.data.synthesis.board_recipe import make_template_defects
from visionloop.data.synthesis.board_template import Template
from visionloop.data.synthesis.boards import draw_template
from visionloop.data.synthesis.params import TemplateDefectParams
from visionloop.data.synthesis.template_defects import KINDS, DefectSizes, draw_defect


@pytest.fixture(scope="module")
def templates() -> list[Template]:
    """Clean boards, open and dense."""
    return [
        Template(draw_template(random.Random(f"t{number}"), dense=number % 2 == 1)[0] > 0)
        for number in range(6)
    ]


def drawn(templates, kind, count=18, **options):
    found = [
        draw_defect(
            templates[number % len(templates)], kind, np.random.default_rng(number), **options
        )
        for number in range(count)
    ]
    return [
        (templates[number % len(templates)], one)
        for number, one in enumerate(found)
        if one is not None
    ]


def parts(copper: np.ndarray) -> int:
    return cv2.connectedComponents(copper.astype(np.uint8), connectivity=8)[0] - 1


@pytest.mark.parametrize("kind", KINDS)
def test_mask_and_box_are_exact(templates, kind):
    found = drawn(templates, kind)
    assert len(found) >= 12
    for template, defect in found:
        assert np.array_equal(defect.mask, defect.board != template.copper)
        rows, columns = np.nonzero(defect.mask)
        x1, y1, x2, y2 = defect.xyxy
        assert x1 <= columns.min() and y1 <= rows.min() and x2 > columns.max() and y2 > rows.max()
        gaps = [columns.min() - x1, rows.min() - y1, x2 - columns.max() - 1, y2 - rows.max() - 1]
        inside = [x1 > 0, y1 > 0, x2 < 640, y2 < 640]
        wanted = {gap for gap, free in zip(gaps, inside, strict=True) if free}
        assert len(wanted) <= 1 and max(wanted, default=9) <= 12, "one margin on every free side"


@pytest.mark.parametrize("kind", KINDS)
def test_copper_is_added_or_taken_as_the_kind_says(templates, kind):
    adds = kind in ("short", "spur", "copper")
    for template, defect in drawn(templates, kind):
        assert (defect.board[defect.mask] == adds).all()
        assert (template.copper[defect.mask] != adds).all()


def test_each_kind_does_what_its_name_says(templates):
    changes = {
        kind: [
            parts(one.board) - parts(template.copper) for template, one in drawn(templates, kind)
        ]
        for kind in ("short", "copper", "spur")
    }
    assert np.mean([change <= -1 for change in changes["short"]]) > 0.8, "nets are joined"
    assert all(change == 1 for change in changes["copper"]), "a part of its own"
    assert all(change == 0 for change in changes["spur"]), "part of its trace"
    solid = DefectSizes(crumbs=0.0)
    holes = [
        parts(~one.board) - parts(~template.copper)
        for template, one in drawn(templates, "pin-hole", sizes=solid)
    ]
    assert all(change == 1 for change in holes)
    cut = [
        parts(one.board) - parts(template.copper)
        for template, one in drawn(templates, "open", sizes=solid)
    ]
    assert np.mean([change >= 1 for change in cut]) > 0.8, "a trace falls in two"
    bitten = [
        parts(one.board) - parts(template.copper)
        for template, one in drawn(templates, "mousebite", sizes=solid)
    ]
    assert np.mean([change == 0 for change in bitten]) > 0.8, "a bitten trace still conducts"


def test_seed_decides_and_scale_scales(templates):
    one, same, other = (
        draw_defect(templates[0], "copper", np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.mask, same.mask) and not np.array_equal(one.mask, other.mask)
    areas = [
        np.mean(
            [d.mask.sum() for _, d in drawn(templates, "pin-hole", sizes=DefectSizes().scaled(s))]
        )
        for s in (0.6, 1.0)
    ]
    assert areas[0] < 0.6 * areas[1]


def test_what_is_taken_stays_free(templates):
    taken = np.zeros(templates[0].shape, bool)
    taken[:, 200:] = True
    for kind in KINDS:
        for seed in range(4):
            one = draw_defect(templates[0], kind, np.random.default_rng(seed), taken=taken)
            assert one is None or one.xyxy[2] <= 200


def test_a_board_without_copper_has_no_place_but_for_copper():
    empty = Template(np.zeros((120, 120), bool))
    found = {kind: draw_defect(empty, kind, np.random.default_rng(0)) for kind in KINDS}
    assert [kind for kind, one in found.items() if one is not None] == ["copper"]
    with pytest.raises(KeyError):
        draw_defect(empty, "crack", np.random.default_rng(0))


def test_dark_is_copper_on_a_photograph():
    photograph = np.full((60, 80, 3), (90, 200, 210), np.uint8)
    photograph[20:40] = (30, 40, 50)
    assert np.array_equal(Template.of_image(photograph).copper[:, 0], np.arange(60) // 20 == 1)


def test_some_kinds_may_be_drawn_more_often():
    def made(**numbers):
        params = TemplateDefectParams(
            name="more", count=1, per_image=[20, 20], templates="drawn", **numbers
        )
        samples = [
            make_template_defects(params, None, np.random.default_rng(seed)) for seed in range(8)
        ]
        kinds = [one.class_name for sample in samples for one in sample.objects]
        return {kind: kinds.count(kind) / len(kinds) for kind in KINDS}

    alike, more = made(), made(often={"short": 4.0})
    assert more["short"] > 1.8 * alike["short"]
    assert all(more[kind] > 0 for kind in KINDS)


@pytest.mark.parametrize("often", [{"shorts": 2.0}, {"short": 0.0}, {"short": 1000.0}])
def test_how_often_is_checked(often):
    with pytest.raises(ValueError, match="often"):
        TemplateDefectParams(name="more", count=1, often=often)
