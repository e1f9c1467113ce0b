"""The data contract: every fault becomes a row with a reason; only breaches refuse."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pandas
import pytest

from visionloop.core.cli import run_command
from visionloop.core.entities import Annotation
from visionloop.core.tables import SAMPLES, read_table, write_table
from visionloop.data.cli import app
from visionloop.data.quality.contract import check
from visionloop.data.splits.split import SPLITS, split

LENIENT = {"min_per_class": 2}


@pytest.fixture
def ready(fill, make, workspace):
    make.set_params(workspace, check=LENIENT)
    samples = [
        make.raw_sample(make.png(make.picture(n)), "functional" if n % 2 else "defective")
        for n in range(12)
    ]
    fill(samples)
    return samples


def found(report, kind):
    return [row for row in report.findings if row.kind == kind]


def test_good_data_pass_and_the_report_is_written(ready, workspace):
    report = check(workspace=workspace)
    assert report.is_passed and report.breaches == () and report.findings == ()
    assert report.class_counts == {"functional": 6, "defective": 6}
    stored = json.loads((workspace.reports / "check" / "check.json").read_text())
    assert stored["verdict"] == "passed" and stored["counts"]["samples"] == 12
    assert "kept" in (workspace.reports / "check" / "index.html").read_text()


def test_too_few_and_missing_classes_are_refused(ready, workspace, make):
    make.set_params(workspace, check={"min_per_class": 7}, classes=["functional", "defective", "x"])
    report = check(workspace=workspace)
    assert not report.is_passed
    assert len(report.breaches) == 3
    assert any("class 'x' has 0 annotations" in row for row in report.breaches)


def test_imbalance_is_a_warning(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 1, "max_imbalance": 3.0})
    fill(
        [
            make.raw_sample(make.png(make.picture(n)), "functional" if n else "defective")
            for n in range(9)
        ]
    )
    report = check(workspace=workspace)
    assert report.is_passed
    assert "8 times as frequent" in found(report, "imbalance")[0].reason


def test_corrupt_and_missing_images_are_counted_and_refused_above_the_limit(ready, workspace, make):
    damaged = workspace.images / f"{ready[0].sample_id}.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    (workspace.images / f"{ready[1].sample_id}.png").unlink()
    report = check(workspace=workspace)
    assert {row.sample_id for row in found(report, "corrupt")} == {
        ready[0].sample_id,
        ready[1].sample_id,
    }
    assert any("2 of 12 images cannot be read" in row for row in report.breaches)
    make.set_params(workspace, check={**LENIENT, "max_corrupt_fraction": 0.5})
    assert check(workspace=workspace).is_passed


def test_files_rejected_at_import_count_as_corrupt(fill, make, workspace):
    make.set_params(workspace, check=LENIENT)
    fill(
        [
            make.raw_sample(b""),
            *[
                make.raw_sample(make.png(make.picture(n)), "functional" if n % 2 else "defective")
                for n in range(9)
            ],
        ]
    )
    report = check(workspace=workspace)
    assert any("1 of 10 images" in row for row in report.breaches)
    assert "left out at import" in found(report, "corrupt")[0].reason


def test_dark_bright_and_blurred(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 0})
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    images = {
        "dark": (texture // 40).astype(np.uint8),
        "bright": np.maximum(texture, 251).astype(np.uint8),
        "blurred": cv2.GaussianBlur(texture, (0, 0), 12),
    }
    fill([make.raw_sample(make.png(image), camera=name) for name, image in images.items()])
    report = check(workspace=workspace)
    cameras = read_table(workspace.raw / "samples.parquet", SAMPLES).set_index("sample_id")[
        "camera"
    ]
    for kind in images:
        assert kind in {cameras[row.sample_id] for row in found(report, kind)}, kind
    assert report.is_passed


def test_duplicates_conflicts_and_leaks(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 0})
    image = make.picture(1, size=128)
    twin = cv2.convertScaleAbs(image, alpha=0.95)
    samples = [
        make.raw_sample(make.png(image), "functional", official_split="test"),
        make.raw_sample(make.png(twin), "defective"),
        make.raw_sample(make.png(make.picture(2)), "functional"),
    ]
    fill(samples)
    before = check(workspace=workspace)
    assert before.is_passed
    assert found(before, "reserved_twin")[0].sample_id == samples[1].sample_id
    assert "'functional'" in found(before, "conflict")[0].reason
    split(workspace=workspace)
    after = check(workspace=workspace)
    assert after.is_passed and not found(after, "leak")
    # A split that somebody made by hand does leak.
    frame = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    frame["split"] = frame["split"].replace("excluded", "train")
    write_table(workspace.root / "data" / "splits.parquet", SPLITS, frame)
    leaking = check(workspace=workspace)
    assert not leaking.is_passed and len(found(leaking, "leak")) == 1


def test_two_classes_on_the_same_bytes_are_refused(fill, make, workspace):
    make.set_params(workspace, check={"min_per_class": 0})
    content = make.png(make.picture(0))
    fill([make.raw_sample(content, "functional"), make.raw_sample(content, "defective")])
    report = check(workspace=workspace)
    assert not report.is_passed
    assert "annotated defective and functional" in report.breaches[0]


def test_schema_faults_are_refused(ready, workspace):
    path = workspace.raw / "samples.parquet"
    frame = read_table(path, SAMPLES)
    frame.loc[0, "captured_at"] = "yesterday"
    frame.loc[1, "width"] = 63
    frame = pandas.concat([frame, frame.tail(1)], ignore_index=True)
    write_table(path, SAMPLES, frame)
    report = check(workspace=workspace)
    reasons = " ".join(row.reason for row in found(report, "schema"))
    assert "yesterday" in reasons and "the table says 63" in reasons and "comes twice" in reasons
    assert not report.is_passed


def test_boxes_that_make_no_sense_are_told(fill, make, workspace):
    make.set_params(
        workspace, vision_task="detection", classes=["open"], check={"min_per_class": 1}
    )
    raw = make.raw_sample(make.png(make.picture(0)))
    boxes = [(1, 1, 2, 30), (0, 0, 64, 64), (5, 5, 20, 20), (5, 5, 20, 20)]
    rows = tuple(Annotation(raw.sample_id, "open", box) for box in boxes)
    fill([make.raw_sample(raw.content, annotations=rows)], classes=["open"])
    report = check(workspace=workspace)
    reasons = " ".join(row.reason for row in found(report, "box"))
    assert "1.0 pixels thin" in reasons and "whole image" in reasons and "comes twice" in reasons


def test_the_command_exits_3_on_a_breach_unless_only_the_verdict_is_wanted(
    ready, workspace, make, capsys
):
    make.set_params(workspace, check={"min_per_class": 50})
    place = ["check", "-w", str(workspace.root)]
    assert run_command(lambda: app(place)) == 3
    assert "fewer than 50" in capsys.readouterr().err
    assert run_command(lambda: app([*place, "--write-verdict-only"])) == 0
    stored = json.loads((workspace.reports / "check" / "check.json").read_text())
    assert stored["verdict"] == "refused"
