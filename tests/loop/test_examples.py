"""The examples run as they stand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from visionloop.core.files import read_json
from visionloop.pipelines.demo.run import tool_environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_ring_by_hand(tmp_path: Path) -> None:
    script = ROOT / "examples" / "01_ring_by_hand.sh"
    folder = tmp_path / "project"
    done = subprocess.run(
        ["bash", str(script), str(folder)], env=tool_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert read_json(folder / "reports" / "gate" / "gate.json")["verdict"] == "passed"
    assert (folder / "releases" / "index.json").is_file()
