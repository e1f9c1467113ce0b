"""Export: whole or not at all, and an import gives the same again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import yaml

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import sha256_of_folder
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.export import export_version
from visionloop.data.datasets.import_source import import_source
from visionloop.data.datasets.table import RawSample
from visionloop.data.raw import RawStore

CLASSES = ["open", "short"]
RING = (8.0, 8.0, 40.0, 8.0, 40.0, 24.0, 8.0, 24.0)


@pytest.fixture
def boards(workspace, make, fill):
    """Four pictures: two boxes, an outline, nothing there, nobody looked."""
    make.set_params(workspace, vision_task="detection", classes=CLASSES)
    samples = []
    for number, split in enumerate(["train", "test", "train", None]):
        raw = make.raw_sample(make.png(make.picture(number)), official_split=split)
        rows = {
            0: [
                Annotation(raw.sample_id, "open", (1.0, 2.0, 9.0, 12.0)),
                Annotation(raw.sample_id, "short", (20.0, 20.0, 64.0, 64.0)),
            ],
            1: [Annotation(raw.sample_id, "short", (8.0, 8.0, 40.0, 24.0), polygon=(RING,))],
            2: [Annotation(raw.sample_id, "")],
            3: [],
        }[number]
        samples.append(RawSample(**{**vars_of(raw), "annotations": tuple(rows)}))
    fill(samples, classes=CLASSES)
    return workspace


def vars_of(raw: RawSample) -> dict:
    return {name: getattr(raw, name) for name in RawSample.__dataclass_fields__}


def said(workspace: Workspace, *, outlines: bool) -> set:
    return {
        (row.sample_id, row.class_name, row.xyxy, row.polygon if outlines else ())
        for row in RawStore.load(workspace).annotations
    }


def elsewhere(tmp_path, make, name: str, **fields) -> Workspace:
    other = Workspace(tmp_path / f"again-{name}")
    make.set_params(other, **fields)
    return other


@pytest.mark.parametrize("name", ["coco", "yolo", "labelme", "voc", "deeppcb"])
def test_an_import_of_the_export_gives_the_same_samples(boards, tmp_path, make, name):
    out = tmp_path / "out"
    report = export_version(workspace=boards, version="raw", format_name=name, out=out)
    assert report.samples == 4
    other = elsewhere(tmp_path, make, name, vision_task="detection", classes=CLASSES)
    found = import_source(workspace=other, source=out)
    assert found.format == name and found.faults == 0
    outlines = name in ("coco", "yolo", "labelme")
    assert bool(report.notes) != outlines
    assert said(other, outlines=outlines) == said(boards, outlines=outlines)
    frame = RawStore.load(other).frame
    splits = dict(zip(frame["sample_id"], frame["official_split"], strict=True))
    assert sorted(map(str, splits.values())).count("test") == 1
    stamp = yaml.safe_load((out / "visionloop-export.yaml").read_text())
    assert stamp["format"] == name and stamp["samples"] == 4


@pytest.mark.parametrize("name", ["imagefolder", "csv", "coco"])
def test_classes_of_pictures_come_back(workspace, fill, tmp_path, make, name):
    fill(
        [
            make.raw_sample(make.png(make.picture(n)), ("functional", "defective")[n % 2])
            for n in range(4)
        ]
    )
    export_version(workspace=workspace, version="raw", format_name=name, out=tmp_path / "out")
    other = elsewhere(tmp_path, make, name)
    assert import_source(workspace=other, source=tmp_path / "out").format == name
    assert said(other, outlines=True) == said(workspace, outlines=True)


def test_what_a_format_cannot_hold_is_refused_or_told(boards, tmp_path, workspace, make, fill):
    with pytest.raises(DataError, match="holds no plain boxes and outlines"):
        export_version(workspace=boards, version="raw", format_name="csv", out=tmp_path / "a")
    with pytest.raises(DataError, match="choose coco, yolo"):
        export_version(workspace=boards, version="raw", format_name="mask", out=tmp_path / "a")
    report = export_version(workspace=boards, version="raw", format_name="voc", out=tmp_path / "b")
    assert report.notes == ("outlines are not held by this format: their boxes are written",)
    assert not (tmp_path / "a").exists()


def test_places_that_are_taken_are_refused(boards, tmp_path):
    def put(out, **options):
        return export_version(
            workspace=boards, version="raw", format_name="coco", out=out, **options
        )

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "mine", boards.root, tmp_path, boards.raw / "x"):
        for replace in (False, True):
            with pytest.raises(DataError):
                put(out, replace=replace)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    put(tmp_path / "out")
    with pytest.raises(DataError, match="is there already"):
        put(tmp_path / "out")
    assert put(tmp_path / "out", replace=True).samples == 4
    with pytest.raises(ConfigError, match="did you mean 'coco'"):
        export_version(workspace=boards, version="raw", format_name="cocoa", out=tmp_path / "c")
    with pytest.raises(DataError):
        export_version(workspace=boards, version="v9", format_name="coco", out=tmp_path / "c")


def test_hardlinks_share_the_bytes_of_the_store(boards, tmp_path):
    for hardlink, links in ((False, 1), (True, 2)):
        out = tmp_path / f"out-{hardlink}"
        export_version(
            workspace=boards, version="raw", format_name="coco", out=out, hardlink=hardlink
        )
        assert {path.stat().st_nlink for path in (out / "images").iterdir()} == {links}


@pytest.mark.parametrize("place", ["files.before_folder_rename:kill:1"])
def test_killed_half_way_there_is_nothing_and_the_same_command_completes(boards, tmp_path, place):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "visionloop.data", "export", "raw", str(out)]
    command += ["--format", "coco", "-w", str(boards.root)]
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": place}
    assert (
        subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL
    )
    assert not out.exists()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 pictures, 4 annotations as coco" in done.stdout
    export_version(workspace=boards, version="raw", format_name="coco", out=tmp_path / "other")
    assert sha256_of_folder(out) == sha256_of_folder(tmp_path / "other")
