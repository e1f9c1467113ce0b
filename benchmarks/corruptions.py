"""The corruption engine beside imagecorruptions: images a second and difference of the pixels.

Both make the corruptions of ImageNet-C that they share, with the same published numbers, on the
same pictures (640 x 480, drawn boards and colour fields) at severity 3, one after the other in
turns, one thread on one core each. The peer runs in an environment of its own, one process a
kind, because some of its kinds stop with numpy 2; those are reported and left out of the ratio.

Difference: mean absolute difference of the two results over all severities, grey levels. For
random kinds the draws differ, so there the strengths are compared instead (mean difference from
the clean picture, ours by the peer's).

    python benchmarks/corruptions.py [--rounds 5]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.files import write_json
from visionloop.core.progress import say_done, say_step, track
from visionloop.data.synthesis.conditions.table import CAUSES, apply_condition
from visionloop.data.synthesis.gallery import draw_scene

RESULTS = Path(__file__).parent / "results"
PEER = RESULTS / "peer_imagecorruptions"
PEER_PACKAGES = ["imagecorruptions==1.1.2", "setuptools<80"]
PEER_NAME = "imagecorruptions 1.1.2"
SIZE = (640, 480)
PICTURES, SEVERITY = 6, 3
RANDOM = {"gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise", "motion_blur"}
TARGET_RATIO = 10.0

CHILD = """
import sys, time, numpy as np, cv2
cv2.setNumThreads(1)
from imagecorruptions import corrupt
kind, folder = sys.argv[1:]
pictures = list(np.load(folder + "/pictures.npy")[..., ::-1].copy())
np.random.seed(0)
results = [corrupt(one, severity=s, corruption_name=kind)[..., ::-1]
           for s in range(1, 6) for one in pictures]
np.save(folder + "/" + kind + ".npy", np.array(results))
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    for one in pictures:
        corrupt(one, severity=3, corruption_name=kind)
    print(time.perf_counter() - start, flush=True)
"""


def main() -> None:
    """Measure, print the table, write ``results/corruptions.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    python = make_peer()
    pictures = draw_pictures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "pictures.npy", np.array(pictures))
        kinds = track(list(CAUSES["common"]), "comparing corruptions")
        rows = [compare(kind, pictures, python, folder, options.rounds) for kind in kinds]
    rows.insert(0, overall(rows))
    report = {
        "name": "corruptions",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": "python " + " ".join(sys.argv),
        "rows": rows,
    }
    print_rows(rows)
    say_done("results", write_json(RESULTS / "corruptions.json", report))


def make_peer() -> Path:
    """The peer's own environment; its Python."""
    python = PEER / "bin" / "python"
    if not (PEER / "done").is_file():
        say_step(f"installing {PEER_NAME} into its own environment")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES]
        subprocess.run(install, check=True)
        (PEER / "done").touch()
    return python


def draw_pictures() -> list[NDArray[np.uint8]]:
    """Half drawn boards, half fields of colour: uint8 (480, 640, 3), BGR."""
    rng = np.random.default_rng(0)
    board = cv2.resize(draw_scene()[0], SIZE, interpolation=cv2.INTER_CUBIC)
    pictures = []
    for number in range(PICTURES):
        coarse = rng.integers(0, 256, (12, 16, 3), np.uint8)
        field = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC)
        pictures.append(board[:, :: -1 if number else 1] if number % 2 else field)
    return [np.ascontiguousarray(one) for one in pictures]


def compare(
    kind: str,
    pictures: list[NDArray[np.uint8]],
    python: Path,
    folder: Path,
    rounds: int,
) -> dict[str, Any]:
    """One kind: rounds of ours and the peer's in turns, then the pixels."""
    child = subprocess.Popen(
        [str(python), "-W", "ignore", "-c", CHILD, kind, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NUMBA_NUM_THREADS": "1"},
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None
    ours: list[float] = []
    theirs: list[float] = []
    answer = child.stdout.readline()
    for one in pictures:  # tables are made on first use
        apply_condition(one, kind, SEVERITY, 0)
    for number in range(rounds):
        start = time.perf_counter()
        for one in pictures:
            apply_condition(one, kind, SEVERITY, number)
        ours.append((time.perf_counter() - start) / len(pictures))
        if answer:
            child.stdin.write("go\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            theirs += [float(answer) / len(pictures)] if answer else []
    child.stdin.close()
    reason = child.stderr.read().strip().splitlines()[-1:]
    child.wait()
    crashed = "" if theirs else (reason or ["no answer"])[0]
    return make_row(kind, ours, theirs, crashed, pictures, folder)


def make_row(
    kind: str,
    ours: list[float],
    theirs: list[float],
    crashed: str,
    pictures: list[NDArray[np.uint8]],
    folder: Path,
) -> dict[str, Any]:
    """One row of the results file."""
    row: dict[str, Any] = {
        "claim": f"images per second, {kind}",
        "ours": 1 / float(np.median(ours)),
        "peer": 1 / float(np.median(theirs)) if theirs else None,
        "peer_name": PEER_NAME if theirs else f"{PEER_NAME}: stops here ({crashed[:90]})",
        "ratio": float(np.median(theirs) / np.median(ours)) if theirs else None,
        "spread": [min(theirs) / max(ours), max(theirs) / min(ours)] if theirs else None,
        "higher_is_better": True,
        "target": None,
        "met": None,
        "difference": None,
        "strength": None,
    }
    if not theirs:
        return row
    peer = np.load(folder / f"{kind}.npy").astype(np.float32)
    made = np.array(
        [apply_condition(one, kind, severity, 0) for severity in range(1, 6) for one in pictures],
        np.float32,
    )
    clean = np.array(pictures * 5, np.float32)
    if kind in RANDOM:
        row["strength"] = float(np.abs(made - clean).mean() / np.abs(peer - clean).mean())
    else:
        row["difference"] = float(np.abs(made - peer).mean())
    return row


def overall(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All kinds that both can make, one picture of each."""
    both = [row for row in rows if row["peer"]]
    ours = sum(1 / row["ours"] for row in both)
    theirs = sum(1 / row["peer"] for row in both)
    return {
        "claim": f"rounds of {len(both)} shared kinds per second",
        "ours": 1 / ours,
        "peer": 1 / theirs,
        "peer_name": PEER_NAME,
        "ratio": theirs / ours,
        "spread": None,
        "higher_is_better": True,
        "target": TARGET_RATIO,
        "met": theirs / ours >= TARGET_RATIO,
        "difference": None,
        "strength": None,
    }


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The table for people."""
    print(f"{'':44} {'ours':>8} {'peer':>8} {'ratio':>6}  pixels")
    for row in rows:
        peer = f"{row['peer']:8.1f}" if row["peer"] else "       -"
        ratio = f"{row['ratio']:6.1f}" if row["ratio"] else "     -"
        said = ""
        if row["difference"] is not None:
            said = f"differ by {row['difference']:.2f}"
        if row["strength"] is not None:
            said = f"strength {row['strength']:.2f} of the peer's"
        if row["peer"] is None:
            said = row["peer_name"]
        print(f"{row['claim']:44} {row['ours']:8.1f} {peer} {ratio}  {said}")
    print(json.dumps({"target": TARGET_RATIO, "met": rows[0]["met"]}))


if __name__ == "__main__":
    main()
