"""The `edge` extra alone on the oldest Python of a device: its size, and how soon the agent works.

A fresh environment gets `locks/edge.txt` and this project, nothing else. The agent then starts
again and again with one camera (a looped real video) and YOLOv8n at 320 x 192: until its page
answers, and until the first frame was analysed, from the start of the process. Python 3.10 is that
of JetPack 6; pyenv's is taken if none is in PATH, and the Python that runs this if there is none.

    python benchmarks/edge_extra.py [--starts 7]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from report import make_row, save_results
from soak_films import make_films
from soak_place import connect, free_port, write_config
from stream_detector import make_release

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step

REPOSITORY = Path(__file__).parents[1]
OLDEST = "3.10"
LOOK_EVERY_S = 0.02


def main() -> None:
    """Measure, print the table, write ``results/edge_extra.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--starts", type=int, default=7)
    given = parser.parse_args()
    if "VISIONLOOP_VIDEOS" not in os.environ:
        raise SystemExit("VISIONLOOP_VIDEOS must name the folder of videos")
    set_quiet_environment()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        python = make_environment(place / "environment")
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
        sizes = measure_sizes(place / "environment")
        (film,) = make_films(place, 1, 60.0)
        make_release(place / "releases")
        camera = {"name": "line", "kind": "file", "path": str(film), "loop": True}
        say_step(f"{given.starts} starts on {version.strip()}")
        starts = np.array([start_once(place, python, camera) for _ in range(given.starts)])
    rows = [
        make_row("installed, MB", sum(sizes), target=500.0, higher_is_better=False),
        make_row("of it compiled Python, MB", sizes[1], higher_is_better=False),
        make_row(
            "start until the page answers, s",
            float(np.median(starts[:, 0])),
            spread=(float(starts[:, 0].min()), float(starts[:, 0].max())),
            target=3.0,
            higher_is_better=False,
        ),
        make_row(
            "start until the first frame was analysed, s",
            float(np.median(starts[:, 1])),
            spread=(float(starts[:, 1].min()), float(starts[:, 1].max())),
            higher_is_better=False,
        ),
    ]
    save_results("edge_extra", rows, python=version.strip())


def make_environment(folder: Path) -> Path:
    """A new environment with the extra alone, compiled as an image of a device has it."""
    uv = shutil.which("uv") or shutil.which("uv", path=str(REPOSITORY / ".bootstrap" / "bin"))
    if uv is None:
        raise SystemExit("uv is not installed: make install brings it")
    python = folder / "bin" / "python"
    settings = ["-q", "--compile-bytecode", "--python", str(python)]
    for command in (
        [uv, "venv", "-q", "--python", oldest_python(), str(folder)],
        [uv, "pip", "sync", *settings, "--require-hashes", str(REPOSITORY / "locks" / "edge.txt")],
        [uv, "pip", "install", *settings, "--no-deps", str(REPOSITORY)],
    ):
        subprocess.run(command, check=True, timeout=900)
    return python


def oldest_python() -> str:
    """The first Python 3.10 that starts, else this one."""
    candidates = [shutil.which(f"python{OLDEST}")]
    candidates += map(str, Path.home().glob(f".pyenv/versions/{OLDEST}.*/bin/python{OLDEST}"))
    for candidate in filter(None, candidates):
        done = subprocess.run([candidate, "-V"], capture_output=True, text=True, check=False)
        if done.stdout.startswith(f"Python {OLDEST}"):
            return candidate
    return sys.executable


def measure_sizes(folder: Path) -> tuple[float, float]:
    """MB (10^6 bytes) of the files below a folder: without compiled Python, and that alone."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    compiled = sum(path.stat().st_size for path in files if path.suffix == ".pyc")
    return (sum(path.stat().st_size for path in files) - compiled) / 1e6, compiled / 1e6


def start_once(place: Path, python: Path, camera: dict[str, object]) -> tuple[float, float]:
    """Seconds until the page answers, and until the first frame was analysed."""
    shutil.rmtree(place / "edge", ignore_errors=True)
    port = free_port()
    config = write_config(place, [camera], port)
    command = [str(python), "-m", "visionloop.serving", "edge", "--config", str(config)]
    with (place / "agent.log").open("w") as log:
        start = time.monotonic()
        agent = subprocess.Popen([*command, "-w", str(place)], stdout=log, stderr=log)
        try:
            client = connect(place, port, agent)
            answers = time.monotonic() - start
            while not frames_of(client):
                time.sleep(LOOK_EVERY_S)
            return answers, time.monotonic() - start
        finally:
            agent.send_signal(signal.SIGTERM)
            agent.wait(30)


def frames_of(client: httpx.Client) -> float:
    """Frames that were analysed so far."""
    families = text_string_to_metric_families(client.get("/metrics", timeout=30).text)
    return sum(
        one.value
        for family in families
        for one in family.samples
        if one.name == "visionloop_camera_frames_total"
    )


if __name__ == "__main__":
    main()
