"""Search: trials are trainings, the study goes on after a kill, nonsense is refused at once."""

import csv

import pytest
import torch
import yaml
from mlflow.tracking import MlflowClient

from visionloop.core.errors import ConfigError, VisionloopError
from visionloop.training.search.search import search
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import find_weights

SPACE = {"l2": {"low": 0.01, "high": 5000.0, "log": True}}


@pytest.fixture
def set_search(set_training):
    """``set_search(workspace, trials=3)``: change the block training.search."""

    def set_it(workspace, **changes) -> None:
        known = yaml.safe_load(workspace.params.read_text())["training"]["search"]
        set_training(workspace, search=known | {"space": SPACE, "trials": 4} | changes)

    return set_it


def test_trials_are_runs_below_the_search_and_the_best_is_written(embedded_cells, set_search):
    set_search(embedded_cells)
    report = search(workspace=embedded_cells)
    assert report.trials == 4
    with (report.folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    values = [float(row["val_loss"]) for row in rows if row["state"] == "complete"]
    assert report.value == pytest.approx(min(values))
    assert yaml.safe_load((report.folder / "best.yaml").read_text()).keys() == {"l2"}
    assert (report.folder / "search.png").read_bytes().startswith(b"\x89PNG")
    client = MlflowClient()
    (experiment,) = client.search_experiments(filter_string="name = 'cells'")
    runs = client.search_runs([experiment.experiment_id], max_results=50)
    (whole,) = [run for run in runs if run.info.run_name == "search search"][:1]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == whole.info.run_id]
    assert len(children) == 4
    assert whole.data.metrics["best_val_loss"] == pytest.approx(report.value)
    assert "search/search.png" in {
        row.path for row in client.list_artifacts(whole.info.run_id, "search")
    }


def test_more_trials_go_on_with_those_there_are(embedded_cells, set_search):
    set_search(embedded_cells, trials=2)
    first = search(workspace=embedded_cells)
    set_search(embedded_cells, trials=3)
    second = search(workspace=embedded_cells)
    assert (second.resumed_from, second.trials) == (2, 3)
    assert second.value <= first.value


def test_cut_off_inside_a_trial_it_goes_on_with_that_trial(embedded_cells, set_search, fail_at):
    set_search(embedded_cells, trials=2, prune=False)
    fail_at("training.epoch:interrupt:8")  # 6 epochs a trial: the second one is cut off
    with pytest.raises(KeyboardInterrupt):
        search(workspace=embedded_cells)
    (state,) = embedded_cells.root.glob("variants/search/*/artifacts/training_state/state.json")
    fail_at("")
    report = search(workspace=embedded_cells)
    assert (report.resumed_from, report.trials) == (1, 2)
    assert not state.exists(), "the resume point of the trial that was cut off was not used"
    assert len(list(embedded_cells.root.glob("variants/search/*"))) == 2


def test_other_numbers_need_another_study(embedded_cells, set_search, set_training):
    set_search(embedded_cells, trials=1)
    search(workspace=embedded_cells)
    set_training(embedded_cells, epochs=3)
    with pytest.raises(ConfigError, match="another name"):
        search(workspace=embedded_cells)


def test_all_wrong_names_are_told_at_once(embedded_cells, set_search):
    set_search(embedded_cells, space={"l3": {"low": 1, "high": 2}, "export": {"choices": [1]}})
    with pytest.raises(ConfigError) as caught:
        search(workspace=embedded_cells)
    assert "no 'l3'" in str(caught.value)
    assert "no 'export'" in str(caught.value)


@pytest.mark.parametrize(
    "row", [{"low": 2, "high": 1}, {"low": 0.0, "high": 1.0, "log": True}, {"low": 1}]
)
def test_ranges_that_are_none_are_refused(embedded_cells, set_search, row):
    set_search(embedded_cells, space={"l2": row})
    with pytest.raises(ConfigError, match=r"search\.space\.l2"):
        search(workspace=embedded_cells)


def test_an_unknown_metric_names_those_there_are(embedded_cells, set_search):
    set_search(embedded_cells, metric="val_map50")
    with pytest.raises(ConfigError, match="val_balanced_accuracy"):
        search(workspace=embedded_cells)


def test_when_every_trial_fails_the_reason_is_told(cells, set_search, tmp_path, monkeypatch):
    tensors = load_tensors(find_weights("efficientnet-lite0"))
    next(iter(tensors.values())).fill_(float("nan"))
    torch.save(tensors, tmp_path / "efficientnet-lite0-57934424.pth")
    monkeypatch.setenv("VISIONLOOP_WEIGHTS", str(tmp_path))
    set_search(cells, trials=2, space={"batch_size": {"choices": [8, 16]}})
    with pytest.raises(VisionloopError, match=r"no trial could be finished.*not finite"):
        search(workspace=cells)
