"""Memory that runs out ends in one screen and a FAILED run; the last good epoch is kept."""

import json
import subprocess
import sys

import pytest
from mlflow.tracking import MlflowClient

from visionloop.training.memory import explain_failure

PROGRAM = """
import resource, sys
import mlflow.tracking, psutil, sqlalchemy, torch
import visionloop.training.families.timm_classifier
torch.set_num_threads(1)
limit = psutil.Process().memory_info().vms + 900 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.argv = ["visionloop", "train", "train", "-w", sys.argv[1]]
from visionloop.pipelines.cli import main
main()
"""


def test_a_training_that_needs_too_much_memory_fails_with_what_to_do(cells, set_training):
    set_training(cells, image_size=640, batch_size=26)
    command = [sys.executable, "-c", PROGRAM, str(cells.root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1, done.stderr
    assert "memory ran out" in done.stderr
    assert "batch_size" in done.stderr
    assert "Traceback" not in done.stderr
    state = json.loads((cells.root / "artifacts/training_state/state.json").read_text())
    run = MlflowClient().get_run(state["run_id"])
    assert run.info.status == "FAILED"
    assert "memory ran out" in run.data.tags["reason"]
    assert not cells.checkpoint.exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_what_libraries_say_is_understood(error):
    assert "memory ran out" in str(explain_failure(error))


def test_other_failures_stay_what_they_are():
    error = RuntimeError("size mismatch")
    assert explain_failure(error) is error
