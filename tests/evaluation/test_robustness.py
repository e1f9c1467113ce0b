"""The worst case: what is measured, how it resumes, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from visionloop.core.errors import ConfigError
from visionloop.evaluation.measurements import load_robustness
from visionloop.evaluation.robustness import robustness
from visionloop.evaluation.worst_case import stratified_subset


def test_the_worst_case_is_measured_on_guarded_samples(made_measured) -> None:
    folder = made_measured.workspace.reports / "robustness"
    found = load_robustness(folder)
    assert found.samples == 60 and found.clean.n == 60
    assert [(row.condition, row.severity) for row in found.results] == [
        ("noise", 2),
        ("occlusion", 2),
    ]
    values = [row.metric.value for row in found.results]
    assert found.worst == min(values) and found.mean == pytest.approx(np.mean(values))
    assert found.retained == pytest.approx(np.mean(values) / found.clean.value)
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert found.mean_under_conditions == pytest.approx(np.mean(values))
    for row in found.results:
        summary = found.conditions[row.condition]
        assert summary.mean == row.metric.value
        assert summary.retained == pytest.approx(row.metric.value / found.clean.value)
    page = (folder / "index.html").read_text()
    assert page.index(found.worst_condition) < page.index("By condition")


def test_darkness_hurts_a_brightness_model(cells) -> None:
    def change(params) -> None:
        params["evaluation"]["robustness"] |= {"conditions": ["darkness"], "severities": [5]}

    cells.edit("params.yaml", change)
    found = robustness(workspace=cells.workspace).robustness
    assert {row.severity for row in found.results} == {2, 5}, "that of targets.yaml is added"
    assert found.results[-1].metric.value == pytest.approx(0.5)
    assert found.clean.value > 0.9 and found.retained < 0.9


def test_conditions_come_together(cells) -> None:
    def change(params) -> None:
        both = "darkness+occlusion"
        params["evaluation"]["robustness"] |= {
            "conditions": ["darkness", "occlusion", both],
            "severities": [2],
        }

    cells.edit("params.yaml", change)
    found = robustness(workspace=cells.workspace).robustness
    alone = [found.conditions[name].mean for name in ("darkness", "occlusion")]
    assert found.conditions["darkness+occlusion"].mean <= min(alone) + 0.05


def test_an_interrupted_run_goes_on(cells, monkeypatch, capsys) -> None:
    monkeypatch.setenv("VISIONLOOP_FAILPOINT", "robustness.condition:interrupt:2")
    with pytest.raises(KeyboardInterrupt):
        robustness(workspace=cells.workspace)
    folder = cells.workspace.reports / "robustness"
    assert len(list((folder / "cache").iterdir())) == 2
    assert not (folder / "robustness.json").exists()
    monkeypatch.delenv("VISIONLOOP_FAILPOINT")
    capsys.readouterr()
    first = robustness(workspace=cells.workspace).robustness
    assert capsys.readouterr().err.count("from cache") == 2
    assert robustness(workspace=cells.workspace).robustness == first


def test_another_package_does_not_use_the_cache(cells) -> None:
    good = robustness(workspace=cells.workspace).robustness
    cells.ship("inverted")
    bad = robustness(workspace=cells.workspace).robustness
    assert good.mean > 0.8 and bad.mean < 0.2 and good.package != bad.package
    assert len(list((cells.workspace.reports / "robustness" / "cache").iterdir())) == 3


def test_no_slice_binds(cells) -> None:
    def change(targets) -> None:
        for one in targets["quality"]["slices"]:
            one["applies_after_train_samples"] = 1000

    cells.edit("targets.yaml", change)
    found = robustness(workspace=cells.workspace).robustness
    assert found.samples == 0 and found.mean is None and not found.clean.enough


def test_unknown_condition_is_refused_before_the_first_image(cells) -> None:
    cells.edit("params.yaml", lambda p: p["evaluation"]["robustness"].update(conditions=["dark"]))
    with pytest.raises(ConfigError, match="darkness"):
        robustness(workspace=cells.workspace)
    assert not (cells.workspace.reports / "robustness").exists()


def test_boxes(boards) -> None:
    found = robustness(workspace=boards.workspace).robustness
    assert found.metric == "map50" and found.samples == 40
    assert found.worst == pytest.approx(found.clean.value), "fixed boxes do not see the image"


def test_truth_follows_a_camera_that_was_pushed(boards, capsys) -> None:
    """The fixed boxes stay where they were, the things do not: nothing is found any more."""

    def change(params) -> None:
        params["evaluation"]["robustness"] |= {"conditions": ["camera_shift"], "severities": [5]}

    boards.edit("params.yaml", change)
    found = robustness(workspace=boards.workspace).robustness
    of_severity = {row.severity: row.metric.value for row in found.results}
    assert found.clean.value > 0.9 and of_severity[5] < 0.3
    capsys.readouterr()
    assert robustness(workspace=boards.workspace).robustness == found, "from cache as well"
    assert capsys.readouterr().err.count("from cache") == 3


def test_subset_keeps_the_mix() -> None:
    strata = ["a"] * 900 + ["b"] * 95 + ["c"] * 5
    ids = [f"sample {number}" for number in range(1000)]
    chosen = stratified_subset(strata, ids, size=100, seed=0)
    names = [strata[row] for row in chosen]
    assert len(chosen) == 100 and names.count("c") >= 1
    assert 8 <= names.count("b") <= 11
    assert (chosen == stratified_subset(strata, ids, size=100, seed=0)).all()
    assert (chosen != stratified_subset(strata, ids, size=100, seed=1)).any()
    assert len(stratified_subset(strata, ids, size=2000, seed=0)) == 1000


def test_means_have_intervals_and_fewer_samples_their_error(made_measured) -> None:
    found = load_robustness(made_measured.workspace.reports / "robustness")
    assert found.mean_low < found.mean < found.mean_high
    assert found.mean_under_conditions_low < found.mean_under_conditions
    sizes = [row.samples for row in found.subset_errors]
    assert sizes == [6, 15, 30]
    means = [row.mean for row in found.subset_errors]
    assert means == sorted(means, reverse=True) and 0 < means[-1] < means[0] < 0.3
    assert all(row.high >= row.mean for row in found.subset_errors)


def test_a_budget_is_a_quick_look_that_no_gate_takes(measured, capsys) -> None:
    """Three times ten answers; the full report stays, and the error against it is said."""
    full = load_robustness(measured.workspace.reports / "robustness")
    report = robustness(workspace=measured.workspace, budget=30)
    assert report.folder.name == "robustness-budget"
    found = report.robustness
    assert found.samples == 10 and not found.is_full
    expected = found.mean_under_conditions - full.mean_under_conditions
    assert found.error_against_full == pytest.approx(expected)
    assert f"off by {expected:+.4f}" in capsys.readouterr().err
    assert load_robustness(measured.workspace.reports / "robustness") == full


def test_sixteen_conditions_at_five_severities(cells) -> None:
    """Occlusion and darkness alone and together among them; every cell of the card is filled."""
    names = ["darkness", "overexposure", "glare", "flicker", "blur", "vibration", "defocus", "fog",
             "droplets", "dirt", "occlusion", "noise", "row_noise", "compression",
             "low_resolution", "darkness+occlusion"]  # fmt: skip

    def change(params) -> None:
        params["evaluation"]["robustness"] |= {
            "conditions": names,
            "severities": [1, 2, 3, 4, 5],
            "max_samples": 30,
        }

    cells.edit("params.yaml", change)
    report = robustness(workspace=cells.workspace)
    found = report.robustness
    assert len(found.results) == 80 and set(found.conditions) == set(names)
    assert all(row.metric.value is not None and row.metric.n == 30 for row in found.results)
    assert all(one.mean is not None and one.retained for one in found.conditions.values())
    page = (report.folder / "index.html").read_text()
    assert page.count("<tr><td>") >= 16 and "severity 5" in page
