"""Freeze, diff and verify: a version is frozen, its differences are told, damage is named."""

from __future__ import annotations

import json

import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.formats import coco
from visionloop.data.splits.split import split
from visionloop.data.versions.diff import diff, render_diff
from visionloop.data.versions.freeze import freeze
from visionloop.data.versions.verify import verify
from visionloop.data.versions.version import load_version


@pytest.fixture
def ready(fill, make, workspace):
    """20 samples, 15 annotated by experts, split."""
    samples = [
        make.raw_sample(
            make.png(make.picture(number)),
            None if number >= 15 else ("defective" if number % 3 == 0 else "functional"),
            official_split="test" if number < 4 else None,
        )
        for number in range(20)
    ]
    fill(samples)
    split(workspace=workspace)
    return samples


def annotate_in_studio(workspace, verdicts: dict[str, str]) -> None:
    images = [coco.CocoImage(one, f"{one}.png", 64, 64) for one in verdicts]
    rows = [
        Annotation(one, name, annotator="ann", source="studio") for one, name in verdicts.items()
    ]
    coco.save(workspace.studio_annotations, images, rows, ["functional", "defective"])


def test_only_annotated_samples_are_frozen(ready, workspace):
    report = freeze(workspace=workspace)
    version = load_version(workspace.version("v1"), workspace.images)
    assert report.samples == len(version.samples) == 15
    assert report.fingerprint == version.fingerprint and report.parent == ""
    assert version.manifest["sources"] == {"expert": 15}
    assert set(version.samples["split"]) == {"train", "val", "test"}
    assert version.image_path(ready[0].sample_id).exists()


def test_the_same_content_gives_the_same_fingerprint(ready, workspace):
    first = freeze(workspace=workspace)
    again = freeze(workspace=workspace)
    assert again.unchanged and again.fingerprint == first.fingerprint


def test_a_frozen_name_is_not_overwritten_unless_asked(ready, workspace):
    first = freeze(workspace=workspace)
    annotate_in_studio(workspace, {ready[16].sample_id: "functional"})
    with pytest.raises(DataError, match="frozen with other content"):
        freeze(workspace=workspace)
    assert load_version(workspace.version("v1"), workspace.images).fingerprint == first.fingerprint
    assert freeze(workspace=workspace, replace=True).samples == 16


def test_studio_outranks_experts_and_the_parent_is_recorded(ready, workspace, make):
    first = freeze(workspace=workspace)
    doubted = ready[5].sample_id
    annotate_in_studio(workspace, {doubted: "defective", ready[17].sample_id: "functional"})
    make.set_params(workspace, version="v2")
    second = freeze(workspace=workspace)
    assert second.parent == first.fingerprint and second.samples == 16
    version = load_version(workspace.version("v2"), workspace.images)
    (row,) = version.annotations_of(doubted)
    assert (row.class_name, row.source, row.annotator) == ("defective", "studio", "ann")
    assert version.manifest["second_look"] == 1
    make.set_params(workspace, version="v3")
    annotate_in_studio(workspace, {doubted: "functional"})
    assert freeze(workspace=workspace).parent == second.fingerprint


def test_diff_counts_what_changed(ready, workspace, make):
    freeze(workspace=workspace)
    doubted, added = ready[5].sample_id, ready[17].sample_id
    annotate_in_studio(workspace, {doubted: "defective", added: "functional"})
    make.set_params(workspace, version="v2")
    freeze(workspace=workspace)
    report = diff("v1", "v2", workspace=workspace)
    assert (report.samples_added, report.samples_removed, report.split_changed) == (1, 0, 0)
    assert (report.annotations_added, report.annotations_changed) == (1, 1)
    assert report.changes == [
        {"sample_id": doubted, "before": [["functional", []]], "after": [["defective", []]]}
    ]
    assert report.class_counts["defective"][1] == report.class_counts["defective"][0] + 1
    assert "annotations changed" in render_diff(report)
    stored = json.loads((workspace.reports / "diff" / "v1-v2.json").read_text())
    assert stored["samples_added"] == 1
    backwards = diff("v2", "v1", workspace=workspace)
    assert (backwards.samples_removed, backwards.annotations_removed) == (1, 1)


def test_diff_of_a_missing_version_names_it(ready, workspace):
    freeze(workspace=workspace)
    with pytest.raises(DataError, match="v9"):
        diff("v1", "v9", workspace=workspace)


def test_freeze_without_splits_says_what_to_run(fill, make, workspace):
    fill([make.raw_sample(make.png(make.picture(0)), "functional")])
    with pytest.raises(DataError, match="splits"):
        freeze(workspace=workspace)
    split(workspace=workspace)
    fill([make.raw_sample(make.png(make.picture(1)), "functional")])
    with pytest.raises(DataError) as caught:
        freeze(workspace=workspace)
    assert "1 annotated samples have no split" in str(caught.value)
    assert "visionloop data split" in str(caught.value)


def test_nothing_annotated_is_an_error(fill, make, workspace):
    fill([make.raw_sample(make.png(make.picture(0)))])
    split(workspace=workspace)
    with pytest.raises(DataError, match="not one sample is annotated"):
        freeze(workspace=workspace)


def test_verify_names_damaged_and_missing_files(ready, workspace):
    freeze(workspace=workspace)
    report = verify(workspace=workspace)
    assert (report.images, report.versions, report.problems) == (20, 1, ())
    damaged = workspace.images / f"{ready[3].sample_id}.png"
    content = bytearray(damaged.read_bytes())
    content[60] ^= 1
    damaged.write_bytes(bytes(content))
    gone = workspace.images / f"{ready[4].sample_id}.png"
    gone.unlink()
    problems = "\n".join(verify(workspace=workspace).problems)
    assert f"{damaged.name}: its content does not match its name" in problems
    assert f"dataset version v1: image {gone.name} is missing" in problems


def test_verify_sees_a_changed_version(ready, workspace):
    freeze(workspace=workspace)
    path = workspace.version("v1") / "annotations.json"
    path.write_text(path.read_text().replace('"category_id": 1', '"category_id": 2', 1))
    (problem,) = verify(workspace=workspace).problems
    assert "does not match its fingerprint" in problem
