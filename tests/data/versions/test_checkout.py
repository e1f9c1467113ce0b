"""Checkout: a version becomes current, work goes on from it, and nothing is thrown away."""

from __future__ import annotations

import json
import shutil

import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError, RefusedError
from visionloop.data.formats import coco
from visionloop.data.params import load_params
from visionloop.data.splits.split import split
from visionloop.data.versions.checkout import checkout, set_version
from visionloop.data.versions.freeze import freeze
from visionloop.data.versions.pack import pack


def annotate(workspace, verdicts: dict[str, str]) -> None:
    images = [coco.CocoImage(one, f"{one}.png", 64, 64) for one in verdicts]
    rows = [Annotation(one, name, source="studio") for one, name in verdicts.items()]
    coco.save(workspace.studio_annotations, images, rows, ["functional", "defective"])


@pytest.fixture
def two(ready, workspace, make, fill):
    """v1; then one annotation doubted, one added and a new sample imported: v2, current."""
    first = freeze(workspace=workspace)
    fill([make.raw_sample(make.png(make.picture(50)), "defective")])
    split(workspace=workspace)
    annotate(workspace, {ready[5].sample_id: "defective", ready[17].sample_id: "functional"})
    make.set_params(workspace, version="v2")
    second = freeze(workspace=workspace)
    assert (first.samples, second.samples) == (15, 17)
    return first, second


def test_back_and_forth(two, workspace):
    first, second = two
    report = checkout("v1", workspace=workspace)
    assert (report.fingerprint, report.samples, report.kept_aside) == (first.fingerprint, 15, None)
    assert report.later == 6
    assert load_params(workspace)[1].version == "v1"
    again = freeze(workspace=workspace)
    assert again.unchanged and again.fingerprint == first.fingerprint
    assert checkout("v2", workspace=workspace).fingerprint == second.fingerprint
    assert freeze(workspace=workspace).unchanged


def test_work_goes_on_and_later_samples_come_back(two, workspace, make):
    first, _ = two
    checkout("v1", workspace=workspace)
    split(workspace=workspace)
    make.set_params(workspace, version="v3")
    third = freeze(workspace=workspace)
    assert third.parent == first.fingerprint
    assert third.samples == 16  # the expert's new sample is in; what v2's people said is not


def test_work_that_no_version_holds_is_not_thrown_away(two, workspace, ready):
    annotate(workspace, {ready[18].sample_id: "functional"})
    before = workspace.studio_annotations.read_bytes()
    with pytest.raises(RefusedError, match="no dataset version has") as caught:
        checkout("v1", workspace=workspace)
    assert caught.value.exit_code == 3 and "visionloop data freeze" in str(caught.value)
    assert workspace.studio_annotations.read_bytes() == before
    assert load_params(workspace)[1].version == "v2"
    report = checkout("v1", workspace=workspace, force=True)
    assert (report.kept_aside / "studio.json").read_bytes() == before
    assert freeze(workspace=workspace).unchanged


def test_comments_in_params_stay(two, workspace):
    text = (
        "# numbers\nproject:\n  recipe: test   # a recipe\n  model: test\n"
        "  vision_task: classification\n  classes: [functional, defective]\ndata:\n"
        "  dataset: elpv\n  import: {phases: [commissioning]}\n"
        "  version: v2     # what freeze writes\n"
    )
    workspace.params.write_text(text)
    checkout("v1", workspace=workspace)
    assert workspace.params.read_text() == text.replace("version: v2 ", "version: v1 ")
    set_version(workspace.params, "1.0")
    assert load_params(workspace)[1].version == "1.0"  # text, not a number
    workspace.params.write_text("data: {}\n")
    with pytest.raises(DataError, match=r"no data\.version"):
        set_version(workspace.params, "v1")


def test_lost_images_come_out_of_the_shards(two, workspace):
    pack(workspace=workspace)
    lost = sorted(workspace.images.iterdir())[:4]
    content = {path: path.read_bytes() for path in lost}
    for path in lost:
        path.unlink()
    report = checkout("v1", workspace=workspace)
    there = [path for path in lost if path.exists()]
    assert report.images_brought == len(there) > 0
    assert all(path.read_bytes() == content[path] for path in there)


def test_lost_images_that_nobody_has_are_named_and_nothing_changes(two, workspace, ready):
    path = workspace.images / f"{ready[4].sample_id}.png"
    path.unlink()
    with pytest.raises(DataError, match=path.name):
        checkout("v1", workspace=workspace)
    assert load_params(workspace)[1].version == "v2" and freeze(workspace=workspace).unchanged


def test_a_project_of_other_classes_is_refused(two, workspace, make):
    make.set_params(workspace, version="v2", classes=["defective", "functional"])
    with pytest.raises(DataError, match="functional, defective"):
        checkout("v1", workspace=workspace)


def test_rows_that_data_raw_lost_are_restored(two, workspace):
    """A version stands by itself: import was run again for fewer phases."""
    shutil.copytree(workspace.images, workspace.root / "images")
    shutil.rmtree(workspace.raw)
    shutil.copytree(workspace.root / "images", workspace.images)
    coco.save(workspace.studio_annotations, [], [], ["functional", "defective"])
    first, _ = two
    assert checkout("v1", workspace=workspace).fingerprint == first.fingerprint
    assert freeze(workspace=workspace).unchanged


@pytest.mark.parametrize(
    "failpoint",
    [
        "checkout.annotations_written:kill:1",
        "checkout.splits_written:kill:1",
        "checkout.params_written:kill:1",
    ],
)
def test_killed_checkout_completes(two, workspace, kill_at, failpoint):
    first, _ = two
    kill_at(failpoint, lambda: checkout("v1", workspace=workspace))
    assert checkout("v1", workspace=workspace).fingerprint == first.fingerprint
    assert freeze(workspace=workspace).unchanged
    assert not (workspace.versions / ".checkout.json").exists()
    assert json.loads((workspace.versions / "base.json").read_text())["name"] == "v1"


def test_an_unknown_version_changes_nothing(two, workspace):
    with pytest.raises(DataError, match="there are: v1, v2"):
        checkout("v3", workspace=workspace)
    workspace.params.unlink()
    with pytest.raises(ConfigError):
        checkout("v1", workspace=workspace)
