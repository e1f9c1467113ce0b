"""Diff: every change of a box has a name, numbers and a picture."""

from __future__ import annotations

import json

import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.formats import coco
from visionloop.data.splits.split import split
from visionloop.data.versions.box_changes import find_box_changes, find_class_change
from visionloop.data.versions.diff import diff, render_diff
from visionloop.data.versions.freeze import freeze

CLASSES = ["open", "short", "spur"]


def box(class_name: str, x: float, y: float, *, size: float = 20, **fields) -> Annotation:
    return Annotation("s", class_name, xyxy=(x, y, x + size, y + size), **fields)


def kinds(before, after) -> list[tuple[str, str, str]]:
    changes = find_box_changes(before, after)
    return [(one.kind, one.class_before, one.class_after) for one in changes]


def test_equal_boxes_in_any_order_are_no_change():
    rows = [box("open", 0, 0), box("short", 50, 50), box("open", 90, 9)]
    assert find_box_changes(rows, rows[::-1]) == []
    assert find_box_changes(rows, [box("open", 0.04, 0), *rows[1:]]) == []  # formats round


def test_a_moved_box_tells_overlap_and_pixels():
    (change,) = find_box_changes([box("open", 10, 10)], [box("open", 13, 14)])
    assert (change.kind, change.shift_px, change.edge_px) == ("moved", 5.0, 4.0)
    assert change.iou == pytest.approx(17 * 16 / (800 - 17 * 16), abs=1e-4)
    (grown,) = find_box_changes([box("open", 10, 10)], [box("open", 8, 8, size=24)])
    assert (grown.kind, grown.shift_px, grown.edge_px) == ("moved", 0.0, 2.0)


def test_far_apart_is_removed_and_added():
    assert kinds([box("open", 0, 0)], [box("open", 19, 19)]) == [
        ("removed", "open", ""),
        ("added", "", "open"),
    ]


def test_another_class_in_the_same_place_is_relabelled():
    assert kinds([box("open", 0, 0)], [box("short", 1, 0)]) == [("relabelled", "open", "short")]
    assert len(kinds([box("open", 0, 0)], [box("short", 12, 0)])) == 2  # too far for that
    # Two boxes in one place: the one of the same class is the pair.
    assert kinds([box("open", 0, 0)], [box("short", 0, 0), box("open", 0, 0)]) == [
        ("added", "", "short")
    ]


def test_the_best_overlap_wins_and_each_box_is_used_once():
    before = [box("open", 0, 0), box("open", 12, 0)]
    after = [box("open", 10, 0)]
    assert kinds(before, after) == [("removed", "open", ""), ("moved", "open", "open")]
    assert find_box_changes(before, after)[1].xyxy_before == (12, 0, 32, 20)


def test_an_outline_that_changed_in_its_box():
    square = ((0.0, 0.0, 20.0, 0.0, 20.0, 20.0),)
    (change,) = find_box_changes([box("open", 0, 0)], [box("open", 0, 0, polygon=square)])
    assert (change.kind, change.iou) == ("reshaped", 1.0)


def test_whole_image_classes_and_soft_ones():
    one, two = Annotation("s", "cat"), Annotation("s", "dog")
    assert find_class_change([one], [one]) is None
    assert find_class_change([one], [two]) == (["cat"], ["dog"])
    soft = Annotation("s", "cat", probabilities=(("cat", 0.7), ("dog", 0.3)))
    assert find_class_change([one], [soft]) == (["cat"], ["cat 0.70 dog 0.30"])


@pytest.fixture
def versions(fill, make, workspace):
    """v1 and v2 of eight annotated pictures; the ids by number, and what happened to each.

    0 relabelled, 1 moved, 2 a box removed, 3 a box added, 4 to 6 as they were, 7 only in v2.
    """
    make.set_params(workspace, vision_task="detection", classes=CLASSES)
    contents = [make.png(make.picture(number)) for number in range(8)]
    samples = [make.raw_sample(content) for content in contents]
    ids = [one.sample_id for one in samples]
    fill(samples, classes=CLASSES)
    split(workspace=workspace)

    def annotate(boxes):
        images = [coco.CocoImage(ids[n], f"{ids[n]}.png", 64, 64) for n in boxes]
        rows = [
            Annotation(ids[n], name, xyxy=(x, y, x + 20, y + 20), source="studio")
            for n, said in boxes.items()
            for name, x, y in said
        ]
        coco.save(workspace.studio_annotations, images, rows, CLASSES)

    before = {n: [("open", 10, 10), ("short", 40, 40)] for n in range(7)}
    annotate(before)
    freeze(workspace=workspace)
    after = {
        **before,
        0: [("spur", 10, 10), ("short", 40, 40)],
        1: [("open", 14, 13), ("short", 40, 40)],
        2: [("open", 10, 10)],
        3: [*before[3], ("spur", 40, 5)],
        7: [("spur", 1, 1)],
    }
    annotate(after)
    make.set_params(workspace, vision_task="detection", classes=CLASSES, version="v2")
    freeze(workspace=workspace)
    return ids


def test_versions_are_compared_and_drawn(versions, workspace):
    report, page = diff("v1", "v2", workspace=workspace)
    assert report.boxes == {"added": 1, "removed": 1, "moved": 1, "reshaped": 0, "relabelled": 1}
    assert (report.added, report.removed) == ((versions[7],), ())
    assert report.class_moves == {"open → spur": 1}
    assert report.classes["spur"] == {
        "before": 0, "after": 3, "added": 1, "removed": 0, "moved": 0, "reshaped": 0,
        "relabelled_from": 0, "relabelled_to": 1,
    }  # fmt: skip
    worst = [one.sample_id for one in report.changes]
    assert worst[0] == versions[0] and worst[-1] == versions[1]  # other class first, moved last
    assert {*worst[1:3]} == {versions[2], versions[3]}
    text = page.read_text()
    assert "open is now spur" in text and "open moved 5.0 px" in text
    assert text.count("<image ") == 5 and text.count("data:image/") == 5  # once each, embedded
    assert "http" not in text  # nothing is loaded from elsewhere
    stored = json.loads(page.with_suffix(".json").read_text())
    assert stored["changes"][0]["boxes"][0]["class_after"] == "spur"
    assert "boxes relabelled" in render_diff(report)


def test_backwards_is_the_mirror_image(versions, workspace):
    forth, _ = diff("v1", "v2", workspace=workspace)
    back, _ = diff("v2", "v1", workspace=workspace)
    assert (back.added, back.removed) == (forth.removed, forth.added)
    assert back.boxes["added"] == forth.boxes["removed"]
    assert back.class_moves == {"spur → open": 1}
    nothing, page = diff("v1", "v1", workspace=workspace)
    assert nothing.is_empty and "say the same" in page.read_text()


def test_many_changes_are_spread_over_pages(versions, workspace, monkeypatch):
    monkeypatch.setattr("visionloop.data.versions.diff_page.PER_PAGE", 2)
    _, page = diff("v1", "v2", workspace=workspace)
    names = sorted(path.name for path in page.parent.glob("*.html"))
    assert names == ["v1-v2-2.html", "v1-v2.html"]
    assert 'href="v1-v2-2.html"' in page.read_text()
    _, page = diff("v1", "v2", workspace=workspace, pictures=1)
    assert [path.name for path in page.parent.glob("*.html")] == ["v1-v2.html"]
    assert "the worst 1 are drawn" in page.read_text()


def test_a_picture_that_is_not_here_does_not_stop_the_page(versions, workspace):
    (workspace.images / f"{versions[0]}.png").unlink()
    _, page = diff("v1", "v2", workspace=workspace)
    assert "image is not here" in page.read_text()


def test_an_unknown_version_is_answered_with_the_list(versions, workspace):
    with pytest.raises(DataError) as caught:
        diff("v1", "v22", workspace=workspace)
    assert "'v22'" in str(caught.value) and "there are: v1, v2" in str(caught.value)
    assert "did you mean 'v2'?" in str(caught.value)


def test_other_splits_and_classes_of_whole_images(ready, workspace, make):
    make.set_params(workspace)
    freeze(workspace=workspace)
    import pandas

    one = ready[5].sample_id
    said = [Annotation(one, "defective", source="studio")]
    image = coco.CocoImage(one, f"{one}.png", 64, 64)
    coco.save(workspace.studio_annotations, [image], said, ["functional", "defective"])
    path = workspace.root / "data" / "splits.parquet"
    frame = pandas.read_parquet(path)
    chosen = frame["sample_id"] == ready[6].sample_id
    before = frame.loc[chosen, "split"].iloc[0]
    after = "val" if before == "train" else "train"
    frame.loc[chosen, "split"] = after
    frame.to_parquet(path)
    make.set_params(workspace, version="v2")
    freeze(workspace=workspace)
    report, page = diff("v1", "v2", workspace=workspace)
    assert report.split_moves == {f"{before} → {after}": 1}
    assert report.class_moves == {"functional → defective": 1}
    assert "functional → <b>defective</b>" in page.read_text()
