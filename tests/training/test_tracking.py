"""MLflow: joined, resumed, or away; training never stops for it and nothing is lost."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from mlflow.tracking import MlflowClient

from visionloop.core.errors import ConfigError
from visionloop.core.workspace import Workspace
from visionloop.training.tracking import start_run
from visionloop.training.train import train


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def spool_of(workspace: Workspace) -> list[dict]:
    path = workspace.reports / "training" / "spool.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_training_goes_on_without_mlflow_and_the_next_one_sends_what_waited(
    embedded_cells, closed_port, tracking_database, monkeypatch, capsys
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    start = time.monotonic()
    report = train(workspace=embedded_cells)
    assert time.monotonic() - start < 60
    assert report.run_id == ""
    assert "not reachable" in report.tracking_problem
    said = capsys.readouterr().err
    assert "training goes on" in said
    assert "secret" not in said
    kinds = [row["kind"] for row in spool_of(embedded_cells)]
    assert kinds[0] == "run"
    assert kinds.count("metrics") == 6
    assert kinds[-1] == "end"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_database)
    second = train(workspace=embedded_cells)
    assert second.tracking_problem == ""
    assert not (embedded_cells.reports / "training" / "spool.jsonl").exists()
    client = MlflowClient()
    experiment = client.get_run(second.run_id).info.experiment_id
    runs = client.search_runs([experiment], order_by=["attributes.start_time DESC"], max_results=2)
    spooled = next(run for run in runs if run.info.run_id != second.run_id)
    assert spooled.info.status == "FINISHED"
    assert len(client.get_metric_history(spooled.info.run_id, "train_loss")) == 6


def test_a_server_that_dies_in_the_middle_is_given_up_once(tmp_path, closed_port, monkeypatch):
    workspace = Workspace(tmp_path)
    run = start_run(workspace, experiment="dying", name="v1")
    run_id = run.run_id
    run.log_epoch({"epoch": 1.0, "train_loss": 0.5})
    run._client = MlflowClient(tracking_uri=f"http://127.0.0.1:{closed_port}")
    run.log_epoch({"epoch": 2.0, "train_loss": 0.4})
    run.log_epoch({"epoch": 3.0, "train_loss": 0.3})
    run.finish("FINISHED")
    assert [row["kind"] for row in spool_of(workspace)] == ["run", "metrics", "metrics", "end"]
    with (tmp_path / "reports" / "training" / "spool.jsonl").open("a") as file:
        file.write('{"kind": "metr')  # the process was killed while it wrote
    start_run(workspace, experiment="dying", name="v2")
    history = MlflowClient().get_metric_history(run_id, "train_loss")
    assert [row.step for row in history] == [1, 2, 3]


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        threading.Thread(target=accept_all, args=(silent,), daemon=True).start()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        run = start_run(Workspace(tmp_path), experiment="silent", name="v1")
        assert "not reachable" in run.problem


def accept_all(server: socket.socket) -> None:
    """Take connections and say nothing."""
    kept = []
    while True:
        try:
            kept.append(server.accept())
        except OSError:
            return


def test_a_run_of_mlflow_projects_is_joined_and_left_open(tmp_path, monkeypatch):
    client = MlflowClient()
    experiment = client.create_experiment("joined")
    run_id = client.create_run(experiment).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    run = start_run(Workspace(tmp_path), experiment="cells", name="v1")
    assert run.run_id == run_id
    run.log_epoch({"epoch": 1.0, "train_loss": 0.5})
    run.finish("FINISHED")
    assert client.get_run(run_id).info.status == "RUNNING"
    assert client.get_run(run_id).data.metrics == {"train_loss": 0.5}


def test_an_unknown_run_to_join_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ConfigError, match="MLFLOW_RUN_ID"):
        start_run(Workspace(tmp_path), experiment="cells", name="v1")


def test_artifacts_of_the_default_database_stay_in_the_workspace(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    workspace = Workspace(tmp_path)
    folder = workspace.reports / "training"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{}")
    run = start_run(workspace, experiment="cells", name="v1")
    run.log_files(folder, "training")
    run.finish("FINISHED")
    assert run.problem == ""
    assert (tmp_path / "mlflow.db").is_file()
    assert list((tmp_path / "mlartifacts").rglob("metrics.json"))
