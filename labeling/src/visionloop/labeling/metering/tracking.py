"""The meter's figures in MLflow: one run, a step for each answer given so far."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from visionloop.core.privacy import mask_secrets, set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

__all__ = ["RUN_NAME", "log_costs"]

RUN_NAME = "labeling meter"
REQUEST_SECONDS = "20"


def log_costs(
    workspace: Workspace, experiment: str, metrics: Mapping[str, float], *, step: int, page: Path
) -> bool:
    """Log metrics and page into the run ``RUN_NAME`` of the model's experiment.

    Parameters
    ----------
    experiment : str
        The model's name.
    metrics : mapping
        Seconds and shares by name.
    step : int
        Answers counted.
    page : Path
        Becomes an artifact.

    Returns
    -------
    bool
        False where MLflow does not answer: the page and the JSON file hold the figures.
    """
    set_quiet_environment()
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", REQUEST_SECONDS)
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    try:
        _log(workspace, experiment, metrics, step, page)
    except Exception as error:  # any failure of the server or its client
        where = mask_secrets(workspace.tracking_uri)
        say_step(f"MLflow at {where} took no figures: {mask_secrets(str(error))[:200]}")
        return False
    return True


def _log(
    workspace: Workspace, experiment: str, metrics: Mapping[str, float], step: int, page: Path
) -> None:
    import time

    from mlflow.entities import Metric
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=workspace.tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is not None:
        experiment_id = found.experiment_id
    else:
        is_server = workspace.tracking_uri.startswith("http")
        place = None if is_server else (workspace.root / "mlartifacts").as_uri()
        experiment_id = client.create_experiment(experiment, artifact_location=place)
    known = client.search_runs(
        [experiment_id], f"attributes.run_name = '{RUN_NAME}'", max_results=1
    )
    run = known[0] if known else client.create_run(experiment_id, run_name=RUN_NAME)
    now = int(time.time() * 1000)
    rows = [Metric(name, float(value), now, step) for name, value in metrics.items()]
    client.log_batch(run.info.run_id, metrics=rows)
    client.log_artifact(run.info.run_id, str(page))
    client.set_terminated(run.info.run_id)
