"""The whole of a check: files, verdict, requests."""

from __future__ import annotations

import json

import numpy as np
import pandas
import pytest
from typer.testing import CliRunner

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.tables import REQUESTS, read_table, write_table
from visionloop.data.formats import coco
from visionloop.monitoring.cli import app
from visionloop.monitoring.drift import drift
from visionloop.monitoring.feedback import feedback, measure_uncertainty, rank_requests
from visionloop.monitoring.params import FeedbackParams
from visionloop.monitoring.summarise import summarise
from visionloop.monitoring.windows import load_window, save_window


@pytest.fixture
def drifted(workspace, play):
    play(workspace, "mono", 60, seed=1)
    play(workspace, "poly", 60, seed=2, first=60)
    summarise(workspace=workspace)
    return workspace


def test_drift_is_found_shown_and_explained(drifted) -> None:
    report = drift(workspace=drifted)
    assert report.is_drift
    assert report.null_false_alarms == 0
    content = json.loads(report.report.read_text())
    assert content["verdict"] == "drift"
    assert {family["status"] for family in content["families"].values()} == {"drift"}
    assert content["null_draws"] == 3
    assert "probability of defective" in content["sentence"]
    page = report.page.read_text()
    assert page.count("data:image/jpeg;base64") == 9
    assert page.count("data:image/png;base64") == 6
    assert "http" not in page
    for name in ("embeddings", "image_statistics", "predictions"):
        assert (report.report.parent / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "switched off" in report.evidently.read_text()


def test_a_check_repeats_exactly(drifted) -> None:
    first = drift(workspace=drifted)
    before = first.report.read_bytes(), first.page.read_bytes()
    second = drift(workspace=drifted)
    assert (second.report.read_bytes(), second.page.read_bytes()) == before


def test_evidently_writes_its_report(drifted) -> None:
    params = drifted.params.read_text().replace("evidently: false", "evidently: true")
    drifted.params.write_text(params)
    report = drift(workspace=drifted)
    text = report.evidently.read_text()
    assert "luminance" in text
    assert "embedding component 1" in text
    assert len(text) > 100_000


def test_boxes_drift_too(boards, play) -> None:
    play(boards, "mono", 60, seed=1)
    play(boards, "poly", 60, seed=2, first=60)
    summarise(workspace=boards)
    report = drift(workspace=boards)
    content = json.loads(report.report.read_text())
    tests = content["families"]["predictions"]["tests"]
    assert [test["name"] for test in tests] == ["boxes", "confidence", "class mix"]
    assert content["families"]["predictions"]["status"] == "drift"


@pytest.mark.parametrize("count", [0, 3])
def test_insufficient_data_gives_a_page_and_no_alarm(workspace, play, count: int) -> None:
    play(workspace, "mono", 40, seed=1)
    if count:
        play(workspace, "poly", count, seed=2, first=60)
    summarise(workspace=workspace)
    report = drift(workspace=workspace)
    assert report.verdict == "insufficient data"
    assert f"{count} frames, 30 are needed" in report.sentence
    assert "insufficient data" in report.page.read_text()


def test_the_same_window_twice_is_steady(drifted) -> None:
    report = drift(workspace=drifted, reference="current", current="current")
    assert report.verdict == "steady"
    found = feedback(workspace=drifted)
    assert found.requests == 0
    assert "steady" in found.sentence
    assert len(read_table(found.path, REQUESTS)) == 0


def test_unknown_window_names_those_that_exist(drifted) -> None:
    with pytest.raises(DataError, match="windows here: current, reference"):
        drift(workspace=drifted, current="poly")


def test_feedback_asks_for_kept_frames_that_nobody_annotated(drifted) -> None:
    drift(workspace=drifted)
    window = load_window(drifted, "current")
    annotated, lost = window.frames["sample_id"].iloc[:2]
    coco.save(
        drifted.studio_annotations,
        [coco.CocoImage(annotated, f"{annotated}.png", 32, 32)],
        [Annotation(annotated, "defective", source="studio")],
        ["functional", "defective"],
    )
    (drifted.edge / "frames" / f"{lost}.png").unlink()
    others = {"sample_id": "f" * 64, "reason": "why", "priority": 9.0, "requested_by": "verdict"}
    ours = others | {"sample_id": "e" * 64, "requested_by": "feedback"}
    path = drifted.root / "data" / "requests.parquet"
    write_table(path, REQUESTS, pandas.DataFrame([others, ours]))
    report = feedback(workspace=drifted)
    requests = read_table(report.path, REQUESTS)
    assert report.requests == 58
    assert "1 annotated already, 1 without a kept picture" in report.sentence
    assert set(requests["requested_by"]) == {"feedback", "verdict"}
    asked = requests[requests["requested_by"] == "feedback"]
    assert not {annotated, lost, "e" * 64} & set(asked["sample_id"])
    assert asked["priority"].is_monotonic_decreasing
    assert asked["priority"].between(0, 1).all()
    assert asked["reason"].str.contains("farther from window reference than").all()


def test_priority_follows_novelty_and_uncertainty(make_window) -> None:
    reference = make_window("reference", 60, seed=1)
    current = make_window("current", 20, seed=2)
    current.frames.at[3, "embedding"] = np.tile([9, -9], 12).astype(np.float32)
    current.frames.loc[7, ["probability_functional", "probability_defective"]] = 0.5
    rows = np.arange(20)
    novel = rank_requests(reference, current, rows, FeedbackParams(novelty_weight=1.0))
    unsure = rank_requests(reference, current, rows, FeedbackParams(novelty_weight=0.0))
    few = rank_requests(reference, current, rows, FeedbackParams(max_requests=4))
    assert novel[0]["sample_id"] == current.frames["sample_id"][3]
    assert unsure[0]["sample_id"] == current.frames["sample_id"][7]
    assert len(few) == 4
    current.frames["embedding"] = None
    blind = rank_requests(reference, current, rows, FeedbackParams())
    assert blind[0]["sample_id"] == current.frames["sample_id"][7]


def test_uncertainty_of_boxes(make_window) -> None:
    window = make_window("current", 3, seed=1)
    window.frames.drop(columns=["probability_functional", "probability_defective"], inplace=True)
    window.frames["boxes"] = [2, 0, -1]
    window.frames["confidence"] = [0.9, np.nan, np.nan]
    assert measure_uncertainty(window) == pytest.approx([0.1, 0.5, 1.0])


def test_feedback_before_drift_says_what_to_run(workspace) -> None:
    with pytest.raises(DataError, match="no drift report"):
        feedback(workspace=workspace)


def test_cameras_and_embeddings_may_be_missing_in_one_window(workspace, make_window) -> None:
    first, second = make_window("reference", 40, seed=1), make_window("current", 40, seed=2)
    second.frames["embedding"] = None
    second.frames.drop(columns=["luminance"], inplace=True)
    save_window(workspace, first)
    save_window(workspace, second)
    report = drift(workspace=workspace)
    assert report.verdict == "steady"
    assert "missing in window current" in report.page.read_text()


def test_commands(drifted) -> None:
    runner = CliRunner()
    place = ["--workspace", str(drifted.root)]
    for command, said in (
        (["summarise", "--window", "all", "--where", "site=plant"], "all: 120 frames (120 new)"),
        (["drift"], "Drift in current against reference (60 and 60 frames)"),
        (["feedback"], "60 of 60 frames of window current are asked for"),
    ):
        result = runner.invoke(app, [*command, *place])
        assert result.exit_code == 0, result.output
        assert said in result.output
        assert "next: visionloop" in result.output
