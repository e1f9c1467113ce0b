"""The MLflow run of a training; a server that does not answer never stops the training.

Everything logged is a *record*. Records go to MLflow at once; from the first failure on
they go to ``reports/training/spool.jsonl``, and the next training that reaches the
server sends them.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import ConfigError
from visionloop.core.privacy import mask_secrets, set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.training.resume import EpochRow

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["TrackedRun", "start_run"]

Record = dict[str, Any]

SPOOL_NAME = "spool.jsonl"
PARENT_TAG = "mlflow.parentRunId"
REQUEST_SECONDS = "20"
"""A server that accepts a connection but does not answer is given up after this."""


class TrackedRun:
    """One MLflow run, or its spool.

    Attributes
    ----------
    run_id : str
        Empty while the run exists only in the spool.
    problem : str
        Why MLflow was given up, empty while it answers.
    """

    def __init__(self, workspace: Workspace, experiment: str, name: str) -> None:
        self.run_id = ""
        self.problem = ""
        self._workspace, self._experiment, self._name = workspace, experiment, name
        self._spool = workspace.reports / "training" / SPOOL_NAME
        self._client: MlflowClient | None = None

    def log_params(self, params: dict[str, Any]) -> None:
        """Parameters by dotted name."""
        values = {name: str(value)[:500] for name, value in params.items()}
        self._send({"kind": "params", "values": values})

    def set_tags(self, tags: dict[str, str]) -> None:
        """Tags of the run."""
        self._send({"kind": "tags", "values": tags})

    def log_dataset(self, name: str, fingerprint: str) -> None:
        """The dataset version as an input of the run; the digest is its fingerprint's start."""
        self._send({"kind": "dataset", "name": name, "fingerprint": fingerprint})

    def log_epoch(self, row: EpochRow) -> None:
        """Metrics of one epoch, as step ``row["epoch"]``."""
        values = {name: value for name, value in row.items() if name != "epoch"}
        self._send({"kind": "metrics", "step": int(row["epoch"]), "values": values, "time": _now()})

    def log_missing_epochs(self, history: list[EpochRow]) -> None:
        """Log the epochs that an interrupted run has saved but not logged."""
        logged: set[int] = set()
        if self._client is not None and self.run_id and history:
            try:
                rows = self._client.get_metric_history(self.run_id, "train_loss")
                logged = {row.step for row in rows}
            except Exception as error:
                self._give_up(error)
        for row in history:
            if int(row["epoch"]) not in logged:
                self.log_epoch(row)

    def log_files(self, folder: Path, artifact_path: str) -> None:
        """All files of a folder inside the workspace, as artifacts."""
        name = folder.relative_to(self._workspace.root).as_posix()
        self._send({"kind": "files", "folder": name, "artifact_path": artifact_path})

    def finish(self, status: str, reason: str = "") -> None:
        """End the run: FINISHED, FAILED or KILLED; the reason becomes a tag.

        A run that was joined through ``MLFLOW_RUN_ID`` is ended by whoever started it.
        """
        if reason:
            self.set_tags({"reason": reason[:5000]})
        if not (self.run_id and os.environ.get("MLFLOW_RUN_ID") == self.run_id):
            self._send({"kind": "end", "status": status, "time": _now()})
        if self._client is None:
            say_step(f"MLflow: {self.problem}; what was logged waits in {self._spool}")

    def connect(self, resumed_run_id: str, parent_run_id: str = "") -> None:
        """Create the run, join ``MLFLOW_RUN_ID``, or go on with an interrupted run."""
        joined = "" if parent_run_id else os.environ.get("MLFLOW_RUN_ID", "")
        try:
            self._client = _connect(self._workspace)
            if self._spool.is_file():
                self._send_spool(self._client)
            wanted = joined or resumed_run_id
            if wanted and _find_run(self._client, wanted):
                self.run_id = wanted
                self._client.update_run(wanted, status="RUNNING")
            elif joined:
                raise ConfigError(
                    "MLFLOW_RUN_ID",
                    f"no run '{joined}' at {mask_secrets(self._workspace.tracking_uri)}",
                    "unset it, or point MLFLOW_TRACKING_URI at the server that has this run",
                )
            else:
                self.run_id = _create_run(
                    self._client, self._workspace, self._experiment, self._name
                )
        except ConfigError:
            raise
        except Exception as error:
            self.run_id = joined or resumed_run_id
            self._give_up(error)
        if parent_run_id:
            self.set_tags({PARENT_TAG: parent_run_id})

    def _send(self, record: Record) -> None:
        if self._client is not None:
            try:
                _apply(self._client, self.run_id, record, self._workspace.root)
                return
            except Exception as error:  # any failure of the server or its client
                if getattr(error, "error_code", "") == "INVALID_PARAMETER_VALUE":
                    say_step(f"MLflow refused {record['kind']}: {str(error)[:200]}")
                    return
                self._give_up(error)
        self._append(record)

    def _give_up(self, error: Exception) -> None:
        """From now on records go to the spool: retries have already been spent on this call."""
        uri = mask_secrets(self._workspace.tracking_uri)
        first_line = mask_secrets(str(error).strip().splitlines()[0])[:200] if str(error) else ""
        self.problem = f"not reachable at {uri} ({type(error).__name__}: {first_line})"
        self._client = None
        say_step(f"MLflow is {self.problem}; training goes on")
        header = {"kind": "run", "experiment": self._experiment, "name": self._name}
        self._append({**header, "run_id": self.run_id, "time": _now()})

    def _append(self, record: Record) -> None:
        self._spool.parent.mkdir(parents=True, exist_ok=True)
        with self._spool.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _send_spool(self, client: MlflowClient) -> None:
        """Send what earlier trainings could not log; the file goes once all of it arrived."""
        run_id = ""
        for record in _read_spool(self._spool):
            if record["kind"] == "run":
                run_id = record["run_id"] or _create_run(
                    client, self._workspace, record["experiment"], record["name"]
                )
            elif run_id:
                _apply(client, run_id, record, self._workspace.root)
        self._spool.unlink()
        say_step(f"MLflow: sent what waited in {self._spool.name}")


def start_run(
    workspace: Workspace,
    *,
    experiment: str,
    name: str,
    resumed_run_id: str = "",
    parent_run_id: str = "",
) -> TrackedRun:
    """Start, join or resume the MLflow run of a training.

    Parameters
    ----------
    experiment : str
        Name of the MLflow experiment: the model's.
    name : str
        Name of the run, for people.
    resumed_run_id : str
        Run of an interrupted training.
    parent_run_id : str
        Run that this one is shown below.

    Raises
    ------
    ConfigError
        If ``MLFLOW_RUN_ID`` names a run that the server does not have.
    """
    run = TrackedRun(workspace, experiment, name)
    run.connect(resumed_run_id, parent_run_id)
    return run


def _connect(workspace: Workspace) -> MlflowClient:
    set_quiet_environment()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REQUEST_SECONDS)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=workspace.tracking_uri)


def _create_run(client: MlflowClient, workspace: Workspace, experiment: str, name: str) -> str:
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        experiment_id = found.experiment_id
    else:
        is_server = workspace.tracking_uri.startswith("http")
        location = None if is_server else (workspace.root / "mlartifacts").as_uri()
        experiment_id = client.create_experiment(experiment, artifact_location=location)
    return str(client.create_run(experiment_id, run_name=name).info.run_id)


def _find_run(client: MlflowClient, run_id: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _apply(client: MlflowClient, run_id: str, record: Record, root: Path) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    kind = record["kind"]
    if kind == "params":
        params = [Param(name, value) for name, value in record["values"].items()]
        client.log_batch(run_id, params=params)
    elif kind == "tags":
        tags = [RunTag(name, value) for name, value in record["values"].items()]
        client.log_batch(run_id, tags=tags)
    elif kind == "metrics":
        metrics = [
            Metric(name, value, record["time"], record["step"])
            for name, value in record["values"].items()
        ]
        client.log_batch(run_id, metrics=metrics)
    elif kind == "dataset":
        source = json.dumps({"path": f"data/versions/{record['name']}"})
        dataset = Dataset(record["name"], record["fingerprint"][:32], "local", source)
        used = InputTag("mlflow.data.context", "training")
        client.log_inputs(run_id, datasets=[DatasetInput(dataset, [used])])
    elif kind == "files":
        for path in sorted((root / record["folder"]).iterdir()):
            if path.is_file() and path.name != SPOOL_NAME:
                client.log_artifact(run_id, str(path), record["artifact_path"])
    elif kind == "end":
        client.set_terminated(run_id, record["status"], end_time=record["time"])


def _read_spool(path: Path) -> Iterator[Record]:
    """The records; a last line that was cut off is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and "kind" in record:
            yield record


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
