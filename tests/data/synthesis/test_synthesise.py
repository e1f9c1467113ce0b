"""The verb: made samples are marked, exact, reproducible, from train, and stay in train."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError, DataError, RefusedError
from visionloop.core.files import read_json, sha256_of_folder
from visionloop.core.tables import read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.imports import import_samples
from visionloop.data.formats import coco
from visionloop.data.raw import read_samples
from visionloop.data.splits.split import SPLITS, split
from visionloop.data.synthesis.mark import COLUMNS, is_synthetic
from visionloop.data.synthesis.synthesise import synthesise
from visionloop.data.versions.freeze import freeze
from visionloop.data.versions.version import load_version

CLASSES = ["open", "short", "mousebite", "spur", "copper", "pin-hole"]
BOARDS = {"name": "boards", "count": 4, "per_image": [3, 5]}
PASTED = {
    "name": "pasted",
    "count": 2,
    "per_image": [2, 4],
    "outline": "template",
    "where": "matching",
    "blend": "alpha",
    "scale": [1.0, 1.0],
}
SIZES = {"commissioning": 8, "acceptance": 3, "production_1": 0, "production_2": 0}


def ask(workspace: Workspace, make, **recipes) -> Workspace:
    """Write params.yaml of the drawn boards with these recipes."""
    what = {"phases": ["commissioning", "acceptance"], "phase_sizes": SIZES}
    make.set_params(
        workspace,
        dataset="deeppcb",
        vision_task="detection",
        classes=CLASSES,
        synthesise=recipes,
        **{"import": what},
    )
    return workspace


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """``data/raw`` of drawn boards, imported once."""
    import yaml

    place = Workspace(tmp_path_factory.mktemp("boards"))
    project = {"recipe": "t", "model": "t", "vision_task": "detection", "classes": CLASSES}
    what = {"phases": ["commissioning", "acceptance"], "phase_sizes": SIZES}
    data = {"dataset": "deeppcb", "version": "v1", "import": what}
    place.params.write_text(yaml.safe_dump({"project": project, "data": data}))
    with pytest.MonkeyPatch.context() as patch:
        _without_mirror(patch, place)
        import_samples(workspace=place)
    return place


def _without_mirror(patch: pytest.MonkeyPatch, place: Workspace) -> None:
    patch.delenv("VISIONLOOP_MIRROR", raising=False)
    patch.setenv("VISIONLOOP_OFFLINE", "1")
    patch.setenv("XDG_CACHE_HOME", str(place.root / "cache"))


@pytest.fixture
def boards(imported, workspace, monkeypatch) -> Workspace:
    """A workspace of its own with the drawn boards in it."""
    _without_mirror(monkeypatch, workspace)
    shutil.copytree(imported.raw, workspace.raw)
    return workspace


def rows_of(workspace: Workspace, *, made: bool = True):
    frame = read_samples(workspace)
    chosen = np.array(is_synthetic(frame), bool)
    return frame[chosen if made else ~chosen].reset_index(drop=True)


def said_of(workspace: Workspace):
    return coco.load(workspace.raw / "annotations.json")[1]


def picture(workspace: Workspace, name: str) -> np.ndarray:
    return cv2.imread(str(workspace.images / name))


def test_samples_are_made_marked_and_exact(boards, make):
    report = synthesise(
        workspace=ask(boards, make, template_defects=[BOARDS], paste=[PASTED], seed=5)
    )
    assert report.added == 6 and report.recipes == {"boards": 4, "pasted": 2}
    frame = rows_of(boards)
    assert set(COLUMNS) <= set(frame.columns) and not rows_of(boards, made=False).empty
    assert (frame["synthesis_seed"] == 5).all() and (frame["phase"] == "synthetic").all()
    assert frame["official_split"].isna().all() and frame["licence"].str.contains("Apache").all()
    for row in frame.itertuples():
        boxes = [one for one in said_of(boards) if one.sample_id == row.sample_id]
        assert boxes and all(one.source == "synthetic" for one in boxes)
        mask = cv2.imread(str(boards.raw / "masks" / row.mask_file), cv2.IMREAD_GRAYSCALE)
        assert mask.shape == (640, 640)
        numbers = np.unique(mask[mask > 0])
        assert 0 < len(numbers) <= len(boxes)
        for number in numbers:
            ys, xs = np.nonzero(mask == number)
            around = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            fits = [
                x1 <= around[0] and y1 <= around[1] and x2 >= around[2] and y2 >= around[3]
                for x1, y1, x2, y2 in (one.xyxy for one in boxes)
            ]
            assert any(fits)
        assert set(np.unique(picture(boards, row.file_name))) <= {0, 255}
    page = (boards.reports / "synthesise" / "index.html").read_text()
    assert page.count("<figure>") == 6 and "boards" in page and "pasted" in page


def test_mask_of_template_defects_is_what_changed(boards, make):
    from visionloop.data.datasets.table import open_workspace_dataset

    synthesise(workspace=ask(boards, make, template_defects=[BOARDS]))
    templates = open_workspace_dataset(boards).templates()
    for row in rows_of(boards).itertuples():
        clean = cv2.imdecode(np.frombuffer(templates[row.source_sample_ids](), np.uint8), 1)
        mask = cv2.imread(str(boards.raw / "masks" / row.mask_file), cv2.IMREAD_GRAYSCALE)
        changed = (picture(boards, row.file_name) != clean).any(axis=2)
        assert np.array_equal(changed, mask > 0)


def test_sources_are_real_and_of_train(boards, make):
    synthesise(workspace=ask(boards, make, template_defects=[BOARDS], paste=[PASTED]))
    report = split(workspace=boards)
    sides = read_table(boards.root / "data" / "splits.parquet", SPLITS).set_index("sample_id")
    made = rows_of(boards)
    assert report.counts["train"] >= len(made) and report.crossing == 0
    assert (sides.loc[made["sample_id"], "split"] == "train").all()
    for row in made.itertuples():
        for source in row.source_sample_ids.split():
            assert sides.loc[source, "split"] == "train"
            assert sides.loc[source, "group"] == sides.loc[row.sample_id, "group"]


def test_again_makes_nothing_and_changed_recipes_replace(boards, make):
    first = synthesise(workspace=ask(boards, make, template_defects=[BOARDS]))
    before = read_samples(boards)
    again = synthesise(workspace=boards)
    assert (first.added, again.added, again.known, again.removed) == (4, 0, 4, 0)
    assert read_samples(boards).equals(before)
    more = synthesise(workspace=ask(boards, make, template_defects=[{**BOARDS, "count": 6}]))
    assert (more.added, more.known, more.removed) == (2, 4, 0)
    other = synthesise(workspace=ask(boards, make, template_defects=[{**BOARDS, "scale": 0.7}]))
    assert (other.added, other.known, other.removed) == (4, 0, 6)
    none = synthesise(workspace=ask(boards, make))
    assert none.removed == 4 and len(rows_of(boards)) == 0
    assert {one.source for one in said_of(boards)} == {"expert"}
    assert len(rows_of(boards, made=False)) == 11, "real samples stay as they were"


def test_the_split_that_is_foreseen_is_the_one_that_comes(boards, make, tmp_path):
    """Made before the first split or after it: the same samples."""
    ask(boards, make, template_defects=[BOARDS])
    other = Workspace(tmp_path / "other")
    shutil.copytree(boards.root, other.root)
    synthesise(workspace=boards)
    split(workspace=other)
    synthesise(workspace=other)
    assert list(rows_of(boards)["sample_id"]) == list(rows_of(other)["sample_id"])
    split(workspace=boards)
    assert synthesise(workspace=boards).added == 0


def test_killed_and_run_again_completes(boards, make):
    ask(boards, make, template_defects=[BOARDS])
    whole = Workspace(boards.root.parent / "whole")
    shutil.copytree(boards.root, whole.root)
    synthesise(workspace=whole)
    command = [sys.executable, "-m", "visionloop.data", "synthesise", "-w", str(boards.root)]
    for place in ("synthesise.sample:kill:2", "synthesise.before_tables:kill:1"):
        killed = {**os.environ, "VISIONLOOP_FAILPOINT": place}
        assert subprocess.run(command, env=killed, capture_output=True).returncode == -9
        assert len(rows_of(boards)) == 0, "until the tables are written nothing counts"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 samples made" in done.stdout and "visionloop data split" in done.stdout
    assert list(rows_of(boards)["sample_id"]) == list(rows_of(whole)["sample_id"])
    for part in ("images", "masks"):
        assert sha256_of_folder(boards.raw / part) == sha256_of_folder(whole.raw / part)


def test_a_version_records_what_was_made_and_refuses_it_in_val_and_test(boards, make):
    synthesise(workspace=ask(boards, make, template_defects=[BOARDS], seed=3))
    split(workspace=boards)
    freeze(workspace=boards)
    version = load_version(boards.version("v1"), boards.images)
    recorded = version.manifest["synthetic"]["boards"]
    assert recorded["samples"] == 4 and recorded["seeds"] == [3]
    assert recorded["numbers"]["per_image"] == [3, 5] and recorded["numbers"]["margin"] == 9.0
    assert recorded["kind"] == "template_defects" and "Apache" in recorded["licences"][0]
    assert sum(is_synthetic(version.split("train"))) == 4
    path = boards.root / "data" / "splits.parquet"
    sides = read_table(path, SPLITS)
    group = sides.loc[sides["sample_id"] == rows_of(boards)["sample_id"][0], "group"].iloc[0]
    for side in ("val", "test"):
        sides.loc[sides["group"] == group, "split"] = side
        write_table(path, SPLITS, sides)
        with pytest.raises(RefusedError, match=f"synthetic samples in {side}") as caught:
            freeze(workspace=boards, replace=True)
        assert caught.value.exit_code == 3


def test_a_made_sample_whose_source_became_test_is_left_out(boards, make):
    synthesise(workspace=ask(boards, make, template_defects=[BOARDS]))
    frame = read_samples(boards)
    source = rows_of(boards)["source_sample_ids"][0]
    frame.loc[frame["sample_id"] == source, "official_split"] = "test"
    from visionloop.core.tables import SAMPLES

    write_table(boards.raw / "samples.parquet", SAMPLES, frame)
    split(workspace=boards)
    sides = read_table(boards.root / "data" / "splits.parquet", SPLITS).set_index("sample_id")
    made = rows_of(boards)
    of_it = made[made["source_sample_ids"] == source]["sample_id"]
    assert sides.loc[source, "split"] == "test" and (sides.loc[of_it, "split"] == "excluded").all()


def test_samples_and_drawn_boards_as_templates(boards, make):
    on_real = {**BOARDS, "name": "on-real", "count": 2, "templates": "samples"}
    drawn = {**BOARDS, "name": "drawn", "count": 2, "templates": "drawn"}
    synthesise(workspace=ask(boards, make, template_defects=[on_real, drawn]))
    frame = rows_of(boards).set_index("synthesis_recipe")
    assert (frame.loc["drawn", "source_sample_ids"] == "").all()
    by_sample: dict[str, set] = {}
    for one in said_of(boards):
        by_sample.setdefault(one.sample_id, set()).add((one.class_name, one.xyxy))
    for row in frame.loc["on-real"].itertuples():
        assert by_sample[row.source_sample_ids] < by_sample[row.sample_id], "its own boxes stay"


def test_surface_defects_become_classes_of_whole_images(fill, make, workspace):
    rng = np.random.default_rng(0)
    fill(
        [
            make.raw_sample(
                make.png(rng.normal(60 + 20 * n, 6, (64, 64, 3)).clip(0, 255).astype(np.uint8)),
                "defective" if n % 2 else "functional",
            )
            for n in range(8)
        ]
    )
    scratched = {
        "name": "scratched",
        "count": 4,
        "defects": {"scratch": "defective", "stain": "defective"},
        "on_classes": ["functional"],
    }
    make.set_params(workspace, synthesise={"surface_defects": [scratched]})
    report = synthesise(workspace=workspace)
    assert report.added == 4 and report.classes == {"defective": 4}
    functional = {one.sample_id for one in said_of(workspace) if one.class_name == "functional"}
    for row in rows_of(workspace).itertuples():
        assert row.source_sample_ids in functional
        said = [one for one in said_of(workspace) if one.sample_id == row.sample_id]
        assert [(one.class_name, one.xyxy) for one in said] == [("defective", None)]


def test_what_cannot_be_made_is_refused(boards, make, fill):
    wrong = {**BOARDS, "defects": {"open": "gap"}}
    with pytest.raises(ConfigError, match=r"class .gap. is not in project"):
        synthesise(workspace=ask(boards, make, template_defects=[wrong]))
    for recipe, said in (
        ({**BOARDS, "defects": {"hole": "open"}}, "known kinds"),
        ({**BOARDS, "per_image": [5, 2]}, "fewest, most"),
        ({**BOARDS, "colour": "red"}, "unknown key"),
    ):
        with pytest.raises(ConfigError, match=said):
            synthesise(workspace=ask(boards, make, template_defects=[recipe]))
    with pytest.raises(ConfigError, match="same name"):
        synthesise(workspace=ask(boards, make, template_defects=[BOARDS, BOARDS]))
    folder = {**BOARDS, "templates": "nowhere"}
    with pytest.raises(DataError, match="holds no PNG or JPEG"):
        synthesise(workspace=ask(boards, make, template_defects=[folder]))
    assert len(rows_of(boards)) == 0


def test_gallery_shows_every_condition_at_every_severity(workspace, tmp_path, make):
    from visionloop.data.synthesis.conditions.table import CONDITIONS
    from visionloop.data.synthesis.gallery import gallery

    path = tmp_path / "picture.png"
    path.write_bytes(make.png(make.picture(3, size=72)))
    report = gallery(workspace=workspace, image=path)
    assert report.conditions == len(CONDITIONS) and report.pictures == 5 * len(CONDITIONS)
    page = (workspace.reports / "gallery" / "index.html").read_text()
    assert page.count("<figure>") == report.pictures
    assert read_json(workspace.reports / "gallery" / "gallery.json")["difference"].keys() == set(
        CONDITIONS
    )
