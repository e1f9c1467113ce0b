"""Import: by content hash, damaged files listed, killed half-way and run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import cv2
import pandas
import pytest

from visionloop.core.errors import DataError
from visionloop.core.files import sha256_of_file
from visionloop.core.tables import SAMPLES, read_table
from visionloop.data.formats import coco


def test_samples_lie_under_their_content_hash_with_statistics(fill, make, workspace):
    report = fill(
        [
            make.raw_sample(make.png(make.picture(n)), "functional", attributes={"lot": n})
            for n in range(5)
        ]
    )
    frame = read_table(workspace.raw / "samples.parquet", SAMPLES)
    assert report.added == len(frame) == 5
    assert list(frame["sample_id"]) == sorted(frame["sample_id"])
    assert set(frame["lot"]) == set(range(5))
    assert (frame["contrast"] > 10).all() and (frame["width"] == 64).all()
    for name in frame["file_name"]:
        assert sha256_of_file(workspace.images / name) == name.partition(".")[0]
    _, annotations, classes = coco.load(workspace.raw / "annotations.json")
    assert len(annotations) == 5 and classes == ["functional", "defective"]


def test_damaged_files_are_listed_and_left_out(fill, make, workspace):
    good = make.png(make.picture(0))
    jpeg = cv2.imencode(".jpg", make.picture(1, size=256))[1].tobytes()
    report = fill(
        [
            make.raw_sample(good, "functional"),
            make.raw_sample(b"", "functional"),
            make.raw_sample(make.png(make.picture(2))[:-40], "functional"),
            make.raw_sample(jpeg[: len(jpeg) // 2], "defective", suffix="jpg"),
            make.raw_sample(jpeg, "defective"),  # a JPEG named .png
            make.raw_sample(b"<html>not found</html>", "defective"),
        ]
    )
    assert (report.added, report.rejected) == (1, 5)
    rows = json.loads((workspace.reports / "import" / "rejected.json").read_text())["files"]
    reasons = [row["reason"] for row in rows]
    assert "empty" in reasons[0]
    assert "truncated" in reasons[1] and "truncated" in reasons[2]
    assert "JPEG" in reasons[3]
    assert "neither" in reasons[4]
    assert len(list(workspace.images.iterdir())) == 1
    _, annotations, _ = coco.load(workspace.raw / "annotations.json")
    assert len(annotations) == 1


def test_nothing_readable_is_an_error_that_names_the_list(fill, make):
    with pytest.raises(DataError, match="not one of its 1 images"):
        fill([make.raw_sample(b"")])


def test_the_same_bytes_twice_are_one_sample(fill, make, workspace):
    content = make.png(make.picture(0))
    report = fill(
        [
            make.raw_sample(content, "functional", camera="first"),
            make.raw_sample(content, "defective", camera="second"),
        ]
    )
    assert (report.added, report.duplicates) == (1, 1)
    frame = read_table(workspace.raw / "samples.parquet", SAMPLES)
    assert list(frame["camera"]) == ["first"]
    _, annotations, _ = coco.load(workspace.raw / "annotations.json")
    assert sorted(row.class_name for row in annotations) == ["defective", "functional"]


def test_a_second_import_adds_only_what_is_new(fill, make, workspace):
    samples = [make.raw_sample(make.png(make.picture(n)), "functional") for n in range(4)]
    fill(samples[:3])
    before = (workspace.raw / "samples.parquet").read_bytes()
    report = fill(samples[:3])
    assert (report.added, report.known) == (0, 3)
    assert (workspace.raw / "samples.parquet").read_bytes() == before
    report = fill(samples)
    assert (report.added, report.known) == (1, 3)
    assert report.phases == {"commissioning": 4}


def test_a_lost_image_is_brought_back(fill, make, workspace):
    samples = [make.raw_sample(make.png(make.picture(n)), "functional") for n in range(3)]
    fill(samples)
    lost = next(workspace.images.iterdir())
    lost.unlink()
    assert fill(samples).added == 1
    assert lost.exists()


@pytest.mark.parametrize("place", ["import.sample:kill:12", "files.before_rename:kill:9"])
def test_killed_half_way_the_same_command_completes(workspace, make, place):
    pytest.importorskip("elpv_dataset", reason="the data package elpv-dataset is not installed")
    make.set_params(
        workspace,
        **{"import": {"phases": ["commissioning"], "phase_sizes": {"commissioning": 20}}},
    )
    command = [sys.executable, "-m", "visionloop.data", "import", "-w", str(workspace.root)]
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": place}
    killed = subprocess.run(command, env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (workspace.raw / "samples.parquet").exists()
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    frame = pandas.read_parquet(workspace.raw / "samples.parquet")
    assert len(frame) == 20
    names = {path.name for path in workspace.images.glob("[!.]*")}
    assert names == set(frame["file_name"])
    assert all(sha256_of_file(workspace.images / name) == name[:64] for name in names)
