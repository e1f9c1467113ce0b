"""Each archive of the mirror comes in by one command, and its report names what is odd about it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from visionloop.core.workspace import Workspace
from visionloop.data.raw import read_samples


@pytest.mark.slow
@pytest.mark.parametrize(
    ("archive", "recipe", "pictures", "told"),
    [
        ("deeppcb.zip", "pcb", 1500, ""),
        ("neu-det.zip", "pcb", 1799, "another class"),
        ("hardhat.zip", "pcb", 181, ""),
        ("bccd.zip", "pcb", 364, "without area"),
        ("magnetic-tile.zip", "tiles", 1344, "is empty, though"),
        ("cifar10_test.zip", "solar", 10_000, ""),
    ],
)
def test_one_command_brings_it_in(tmp_path, mirror, archive, recipe, pictures, told):
    if not (mirror / archive).is_file():
        pytest.skip("VISIONLOOP_MIRROR names no folder of data set archives")
    root = tmp_path / "project"

    def visionloop(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "visionloop.pipelines", *arguments],
            capture_output=True, text=True, check=False, cwd=root if root.is_dir() else tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    visionloop("init", "--recipe", recipe, str(root))
    visionloop(
        "data", "import", str(mirror / archive), "--classes", "from-source", "--on-error", "skip"
    )
    assert len(read_samples(Workspace(root))) == pictures
    page = Path(root / "reports" / "import" / f"{archive}.html").read_text()
    assert told in page
