"""What annotation costs: from decisions in the store to figures, page and MLflow."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.labeling.decisions import Decision, open_decisions
from visionloop.labeling.meter import meter
from visionloop.labeling.metering.costs import compare_with_hand, cost_of
from visionloop.labeling.metering.page import curves_of
from visionloop.labeling.metering.times import measure_times

OLD, NEW = "boards@3fa91c07de55", "boards@b27c40e8a916"


def decision(number: int, seconds: float, **changes) -> Decision:
    minute = f"2026-11-{1 + number // 40:02d}T09:{number % 60:02d}:00Z"
    content = {
        "annotation": number,
        "task": number,
        "sample_id": f"{number:064x}",
        "look": "first",
        "annotator": "ann@plant",
        "created_at": minute,
        "decided_at": minute,
        "lead_time": seconds,
        "actions": ["added"] * 4,
    }
    return Decision(**{**content, **changes})


def drafted(number: int, seconds: float, version: str = NEW, **changes) -> Decision:
    shown = {"draft": number, "draft_version": version, "actions": ["accepted"] * 4}
    return decision(number, seconds, **{**shown, **changes})


def a_campaign(seed: int = 0) -> list[Decision]:
    """Drawn first, then with drafts that get better; every eighth is a control image."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(240):
        noise = float(random.lognormal(0, 0.3))
        by_hand, with_draft = 30 * noise, (18 if number < 140 else 9) * noise
        who = ("ann@plant", "ben@plant")[number % 2]
        if number < 40:
            rows.append(decision(number, by_hand, annotator=who))
        elif number % 8 == 0:
            rows.append(decision(number, by_hand, annotator=who, is_control=True))
        else:
            version = OLD if number < 140 else NEW
            rows.append(drafted(number, with_draft, version, annotator=who))
    return rows


def test_a_tab_left_open_over_lunch_counts_as_a_long_answer_not_as_a_lunch() -> None:
    rows = [drafted(number, 10.0) for number in range(20)] + [drafted(20, 3900.0)]
    timed = measure_times(rows)
    assert [row.is_cut for row in timed] == [False] * 20 + [True]
    assert timed[-1].seconds == pytest.approx(6 * 10.0)
    assert cost_of(timed).seconds_per_image == pytest.approx(260 / 21, abs=0.01)
    full = drafted(21, 100.0, actions=["added"] * 60)  # many objects take their time
    assert not measure_times([*rows, full])[-1].is_cut


def test_a_few_answers_have_no_median_and_skipped_ones_no_cost() -> None:
    rows = [drafted(0, 300.0), drafted(1, 5000.0), decision(2, 40.0, is_skipped=True)]
    assert [row.seconds for row in measure_times(rows)] == [300.0, 1800.0]


def test_an_answer_without_a_time_is_counted_but_costs_nothing_and_helps_no_average() -> None:
    cost = cost_of(measure_times([drafted(0, 8.0), drafted(1, 0.0)]))
    assert (cost.images, cost.objects, cost.unmeasured) == (2, 8, 1)
    assert (cost.seconds_per_image, cost.seconds_per_object) == (8.0, 2.0)


def test_cost_with_drafts_beside_the_control_share() -> None:
    rows = measure_times(a_campaign())
    saving = compare_with_hand(rows, seed=1)
    assert (saving.drafted, saving.control) == (175, 25)
    assert saving.share.low < saving.share.value < saving.share.high
    # 88 images at 18 s and 87 at 9 s beside 30 s
    assert saving.share.low < 0.45 < saving.share.high
    assert saving.share_with_checks.value == saving.share.value
    assert compare_with_hand(rows, seed=1) == saving
    checks = [decision(1000 + number, 9.0, look="review") for number in range(100, 140)]
    checks = [
        Decision(**{**vars(row), "sample_id": f"{row.annotation - 1000:064x}"}) for row in checks
    ]
    charged = compare_with_hand(measure_times([*a_campaign(), *checks]), seed=1)
    assert charged.share.value == pytest.approx(saving.share.value)
    assert charged.share_with_checks.value > saving.share.value + 0.03


def test_the_interval_holds_the_true_share_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        rows = [drafted(one, 10 * float(random.lognormal(0, 0.5))) for one in range(60)]
        rows += [
            decision(60 + one, 30 * float(random.lognormal(0, 0.5)), is_control=True)
            for one in range(40)
        ]
        share = compare_with_hand(measure_times(rows), seed=seed).share
        held += share.low <= 1 / 3 <= share.high
    assert held >= 34


def test_too_few_control_images_say_not_enough_data() -> None:
    rows = [row for row in a_campaign() if not row.is_control or row.annotation < 160]
    saving = compare_with_hand(measure_times(rows))
    assert 0 < saving.control < 20
    assert (saving.is_known, saving.share.value) == (False, None)
    # Images annotated before there was a model are not the control share.
    before = [row for row in a_campaign() if not row.is_control]
    assert compare_with_hand(measure_times(before)).control == 0


def test_the_curve_shows_where_a_better_model_began() -> None:
    curve = curves_of(measure_times(a_campaign()), 30.0)
    assert [name for _, name in curve.changes] == [OLD[-12:], NEW[-12:]]
    assert len(curve.points) == 24
    assert curve.points[1][1] < curve.points[12][1] < curve.points[-1][1]  # y grows downwards
    assert curves_of(measure_times(a_campaign()[:9]), None) is None


def store(workspace, rows) -> None:
    with open_decisions(workspace) as decisions:
        decisions.put(rows)


def test_the_page_and_the_figures_hold_looks_people_and_versions(project) -> None:
    second = decision(900, 12.0, look="second", annotator="cleo <b>@plant</b>")
    store(project.boards, [*a_campaign(), second])
    report = meter(workspace=project.boards)
    content = read_json(report.path)
    assert list(content["versions"]) == ["no draft", OLD, "no draft (control)", NEW]
    assert content["second"]["images"] == 1
    assert content["saving"]["control"] == 25
    assert sum(cost["images"] for cost in content["annotators"].values()) == 241
    page = report.page.read_text()
    for text in ("second look", OLD, "ben@plant", "<polyline", "control share"):
        assert text in page
    assert "<b>@plant" not in page


def test_a_page_without_control_images_states_no_saving(project) -> None:
    store(project.boards, [drafted(number, 9.0) for number in range(30)])
    report = meter(workspace=project.boards)
    assert "not enough data" in report.page.read_text()
    assert not report.saving.is_known


def test_without_answers_the_meter_says_so(project) -> None:
    store(project.boards, [decision(0, 4.0, is_skipped=True)])
    with pytest.raises(DataError, match="nobody has answered"):
        meter(workspace=project.boards)


def test_the_figures_are_steps_of_one_mlflow_run(project, monkeypatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    rows = a_campaign()
    for count in (120, 240):
        store(project.boards, rows[:count])
        assert meter(workspace=project.boards, track=True).is_tracked
    client = MlflowClient(tracking_uri=project.boards.tracking_uri)
    experiment = client.get_experiment_by_name("test-detection")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "labeling meter"
    history = client.get_metric_history(run.info.run_id, "labeling_first_seconds_per_image")
    assert [row.step for row in history] == [120, 240]
    assert "labeling_cost_share" in run.data.metrics


def test_an_unreachable_mlflow_stops_nothing(project, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    store(project.boards, a_campaign())
    report = meter(workspace=project.boards, track=True)
    assert not report.is_tracked
    assert report.page.is_file()
