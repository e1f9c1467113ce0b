"""Freeze and verify: a version is frozen, listed, and its damage is named."""

from __future__ import annotations

import shutil

import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.data.formats import coco
from visionloop.data.splits.split import split
from visionloop.data.versions.freeze import freeze
from visionloop.data.versions.listing import list_versions, render_versions
from visionloop.data.versions.verify import verify
from visionloop.data.versions.version import load_version


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


def test_next_takes_a_free_name_only_where_the_content_is_new(ready, workspace, run_verb):
    text = "# the ring\n" + workspace.params.read_text().replace(
        "version: v1", "version: v1  # now"
    )
    workspace.params.write_text(text)
    for _ in range(2):
        assert "v1" in run_verb(workspace, "freeze", "--next").stdout
    assert workspace.params.read_text() == text
    annotate_in_studio(workspace, {ready[16].sample_id: "functional"})
    done = run_verb(workspace, "freeze", "--next")
    assert done.returncode == 0, done.stderr
    assert "v2 frozen, 16 samples" in done.stdout
    assert workspace.params.read_text() == text.replace("version: v1", "version: v2")
    assert workspace.version("v1").exists()


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


def test_a_new_version_grows_from_the_one_frozen_or_checked_out_last(ready, workspace, make):
    from visionloop.data.versions.checkout import checkout

    first = freeze(workspace=workspace)
    make.set_params(workspace, version="v2")
    annotate_in_studio(workspace, {ready[16].sample_id: "functional"})
    second = freeze(workspace=workspace)
    checkout("v1", workspace=workspace)
    assert freeze(workspace=workspace).parent == ""  # not v2, its own child
    annotate_in_studio(workspace, {ready[17].sample_id: "functional"})
    split(workspace=workspace)
    make.set_params(workspace, version="v3")
    assert freeze(workspace=workspace).parent == first.fingerprint != second.fingerprint


def test_a_version_is_never_its_own_ancestor(ready, workspace, make):
    freeze(workspace=workspace)
    make.set_params(workspace, version="v2")
    annotate_in_studio(workspace, {ready[16].sample_id: "functional"})
    freeze(workspace=workspace)
    # As in a fresh clone in which DVC removed the output of the stage before it ran again.
    (workspace.versions / "base.json").unlink()
    shutil.rmtree(workspace.version("v1"))
    workspace.studio_annotations.unlink()
    make.set_params(workspace, version="v1")
    assert freeze(workspace=workspace).parent == ""


def test_the_list_marks_the_current_version_and_names_parents(ready, workspace, make):
    for number in (1, 2, 11):
        make.set_params(workspace, version=f"v{number}")
        annotate_in_studio(
            workspace, {ready[14 + n].sample_id: "functional" for n in range(number % 4 or 4)}
        )
        freeze(workspace=workspace)
    rows = list_versions(workspace=workspace)
    assert [(row.name, row.parent, row.is_current) for row in rows] == [
        ("v1", "", False),
        ("v2", "v1", False),
        ("v11", "v2", True),
    ]
    lines = render_versions(rows).splitlines()
    assert lines[3].startswith("* v11") and rows[2].fingerprint[:12] in lines[3]
    assert "defective 5" in lines[1] and f"{rows[0].samples}" in lines[1]


@pytest.mark.parametrize(
    ("failpoint", "is_replaced"),
    [
        ("files.before_rename:kill:1", False),  # annotations.json
        ("files.before_rename:kill:2", False),  # manifest.json
        ("files.before_folder_rename:kill:1", False),
        ("files.before_folder_rename:kill:1", True),
        ("freeze.before_base:kill:1", True),
        ("files.before_rename:kill:3", False),  # base.json
    ],
)
def test_killed_freeze_completes_with_nothing_doubled(
    ready, workspace, kill_at, failpoint, is_replaced
):
    if is_replaced:
        freeze(workspace=workspace)
        annotate_in_studio(workspace, {ready[16].sample_id: "functional"})
    kill_at(failpoint, lambda: freeze(workspace=workspace, replace=True))
    freeze(workspace=workspace, replace=True)
    rows = list_versions(workspace=workspace)
    assert [row.name for row in rows] == ["v1"]
    version = load_version(workspace.version("v1"), workspace.images)
    assert len(version.samples) == 15 + is_replaced
    assert sorted(path.name for path in workspace.versions.iterdir()) == ["base.json", "v1"]
    assert verify(workspace=workspace).problems == ()
