"""The loop that torch families share: schedule, early stopping, sampling, several processes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from visionloop.core.errors import ConfigError
from visionloop.core.files import read_json
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.distributed import Processes
from visionloop.training.loop import best_row, should_stop
from visionloop.training.train import train


def rows(*losses: float) -> list[dict[str, float]]:
    return [{"epoch": float(n + 1), "val_loss": loss} for n, loss in enumerate(losses)]


def test_the_first_of_the_best_epochs_is_kept() -> None:
    assert best_row(rows(0.5, 0.2, 0.2, 0.4))["epoch"] == 2
    assert best_row(rows(0.5, 0.2), ("val_loss", False))["epoch"] == 1
    assert best_row([{"epoch": 1.0}, {"epoch": 2.0}])["epoch"] == 2


def test_it_stops_after_as_many_epochs_as_asked() -> None:
    best = ("val_loss", True)
    assert not should_stop(rows(0.5, 0.2, 0.3), best, 2)
    assert should_stop(rows(0.5, 0.2, 0.3, 0.4), best, 2)
    assert not should_stop(rows(0.5, 0.2, 0.3, 0.4), best, 0)


def test_processes_share_a_batch_evenly() -> None:
    batch = np.arange(7)
    parts = [Processes(rank, 3).own_part(batch) for rank in range(3)]
    assert {len(part) for part in parts} == {3}
    assert set(np.concatenate(parts)) == set(batch)


def test_a_training_that_no_longer_improves_ends_early(cells, set_training) -> None:
    set_training(cells, epochs=12, patience=1, learning_rate=1.0, warmup_share=0.0)
    report = train(workspace=cells)
    metrics = read_json(cells.reports / "training" / "metrics.json")
    assert metrics["epochs"] < 12
    assert report.metrics["epoch"] == metrics["epochs"] - 1


def test_same_seed_same_tensors_other_seed_others(cells, set_training) -> None:
    set_training(cells, epochs=1, sampling="balanced", augment={"strength": "strong"})
    hashes = []
    for _ in range(2):
        train(workspace=cells)
        hashes.append(load_checkpoint(cells.checkpoint).facts.model_sha256)
    assert hashes[0] == hashes[1]
    sheet = (cells.reports / "training" / "augmentation.png").read_bytes()
    assert sheet.startswith(b"\x89PNG")


def test_heads_are_not_trained_by_several_processes(embedded_cells, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="several processes train mode full"):
        train(workspace=embedded_cells)


@pytest.mark.slow
def test_two_processes_train_one_network(cells, set_training, tmp_path) -> None:
    set_training(cells, epochs=2, batch_size=8, augment={"strength": "none"})
    alone = train(workspace=cells)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               "--nproc-per-node", "2", "-m", "visionloop.training",
               "train", "-w", str(cells.root)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    set_training(cells, epochs=2, batch_size=8, augment={"strength": "none"}, weight_decay=0.00011)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    facts = load_checkpoint(cells.checkpoint).facts
    run = MlflowClient().get_run(facts.run_id)
    assert run.info.status == "FINISHED"
    history = MlflowClient().get_metric_history(facts.run_id, "train_loss")
    assert [row.step for row in history] == [1, 2], "only one of the two writes"
    # Batch norm sees half of each batch, so the two are close and not equal.
    assert facts.metrics["val_loss"] == pytest.approx(alone.metrics["val_loss"], abs=0.35)
