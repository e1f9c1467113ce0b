"""False alarms: counts, intervals, thresholds, real footage, a made day."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import read_json
from visionloop.evaluation.false_alarms import (
    alarms,
    count_alarms,
    rate_interval,
    threshold_for,
)
from visionloop.evaluation.made_day import light_at

RULE = {"name": "defect", "kind": "class_confidence", "class_name": "defective"}
MINUTES = 1.0 / 60


@pytest.fixture
def watched(cells):
    """Cells with a rule; the made day has a frame every twenty minutes."""

    def change(params) -> None:
        params["serving"] = {"edge": {"rules": [RULE | {"minimum_confidence": 0.9999}]}}
        params["evaluation"]["alarms"] = {"day_frames_per_second": 1 / 1200}

    cells.edit("params.yaml", change)
    return cells


def test_four_minutes_bound_only_a_thousand_alarms_a_day() -> None:
    low, high = rate_interval(0, 240.0)
    assert low == 0 and high == pytest.approx(1080)
    low, high = rate_interval(5, 86_400.0)
    assert (low, high) == pytest.approx((1.6235, 11.668), abs=1e-3), "Garwood's table"


def test_frames_close_together_are_one_alarm() -> None:
    assert count_alarms(np.array([])) == 0
    assert count_alarms(np.array([1.0, 2.0, 3.0])) == 1
    assert count_alarms(np.array([1.0, 2.0, 30.0, 41.0])) == 3


def test_a_threshold_from_a_target() -> None:
    """Ten days of one frame a minute: peaks of .9 on each of 40 hours, else below .5."""
    generator = np.random.default_rng(0)
    times = np.arange(0, 10 * 86_400, 60.0)
    peaks = generator.uniform(0, 0.5, len(times))
    peaks[:: len(times) // 40] = 0.9
    seconds = 10 * 86_400.0
    value, is_shown = threshold_for(peaks, times, seconds, target=6.0)
    assert is_shown and 0.49 < value <= 0.7, "40 alarms in ten days may be up to 5.4 a day"
    value, is_shown = threshold_for(peaks, times, seconds, target=1.0)
    assert is_shown and value > 0.9
    value, is_shown = threshold_for(peaks[:60], times[:60], 3600.0, target=1.0)
    assert not is_shown and value > 0.9


def test_untouched_videos_raise_no_event(watched) -> None:
    """Real footage: nothing fires, and a few minutes are said to prove little."""
    folder = os.environ.get("VISIONLOOP_VIDEOS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("VISIONLOOP_VIDEOS names no folder of videos")
    videos = sorted(Path(folder).glob("*.mp4"), key=lambda one: one.stat().st_size)[:2]
    report = alarms(workspace=watched.workspace, footage=videos, with_day=False)
    assert [row.name for row in report.footage] == [*(one.name for one in videos), "all footage"]
    for row in report.footage:
        assert (row.alarms, row.frames_fired) == (0, 0), row
        assert row.verdict == "not enough data" and "72 hours would show it" in row.why
        assert row.high_per_day == pytest.approx(3 * 86_400 / row.seconds)
        assert row.frames > 100
    assert not report.thresholds[0].is_shown


def test_a_made_day_gives_at_most_one_alarm(watched) -> None:
    """Of a model that looks at more than brightness this holds; this one sees brightness alone."""
    report = alarms(workspace=watched.workspace)
    (row,) = report.made_day
    assert row.frames == 72 and row.seconds == 86_400
    assert row.alarms <= 1
    assert read_json(watched.workspace.reports / "alarms" / "alarms.json")["package"]


def test_a_nervous_rule_is_found_out(watched) -> None:
    """At a limit of .01 the brightness model fires at noon; at the named threshold it does not."""
    watched.edit(
        "params.yaml", lambda p: p["serving"]["edge"]["rules"][0].update(minimum_confidence=0.01)
    )
    report = alarms(workspace=watched.workspace)
    (row,) = report.made_day
    assert row.alarms > 1 and row.verdict in ("refuse", "not enough data")
    limit = report.thresholds[0].minimum_confidence
    watched.edit(
        "params.yaml", lambda p: p["serving"]["edge"]["rules"][0].update(minimum_confidence=limit)
    )
    assert alarms(workspace=watched.workspace).made_day[0].alarms <= 1


def test_the_light_of_a_day() -> None:
    day = [light_at(second) for second in range(0, 86_400, 600)]
    assert min(day) == pytest.approx(0.55) and 1.0 < max(day) < 1.25
    assert day[0] < light_at(8 * 3600) < light_at(12 * 3600)


def test_bad_input(watched, tmp_path) -> None:
    with pytest.raises(DataError, match="no such video"):
        alarms(workspace=watched.workspace, footage=[tmp_path / "x.mp4"])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match="is no video"):
        alarms(workspace=watched.workspace, footage=[tmp_path])
    with pytest.raises(DataError, match="there is none"):
        alarms(workspace=watched.workspace, with_day=False)
    watched.edit("params.yaml", lambda p: p["serving"]["edge"].update(rules=[]))
    with pytest.raises(ConfigError, match="has no rule"):
        alarms(workspace=watched.workspace)


def test_the_command(watched) -> None:
    from visionloop.evaluation.cli import app

    done = CliRunner().invoke(app, ["alarms", "-w", str(watched.workspace.root)])
    assert done.exit_code == 0 and "made day" in done.output
    assert "minimum_confidence" in done.output


@pytest.mark.slow
def test_a_whole_day_at_one_frame_a_second(watched) -> None:
    watched.edit("params.yaml", lambda p: p["evaluation"].update(alarms={}))
    (row,) = alarms(workspace=watched.workspace).made_day
    assert row.frames == 86_400 and row.alarms <= 1
    assert row.verdict == "not enough data", "one day bounds three alarms a day"
