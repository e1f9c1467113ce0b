"""Versioning 100,000 small PNGs: tar shards under DVC beside plain ``dvc add`` of the folder.

Two DVC projects hold the same generated files (about 3 kB each), each with its own cache and
its own folder as remote, all on one disk. Every figure is the wall time of whole commands,
with the start of the interpreter: ``visionloop data pack --track`` where the peer runs
``dvc add`` or ``dvc status``, and for all else the same DVC commands as the peer. The
processor time beside it does not depend on what else the machine does. Files are in the
page cache on both sides (just written); commands of the two sides take turns. The same
content is proved at the end: after a ``dvc pull`` into an empty project every file is read
from the shards and compared with the peer's folder, and a plain ``tar xf`` gives the same.

    python benchmarks/versioning.py [--files 100000] [--repeats 2] [--folder PLACE]

Interrupted, the same command goes on with the step that was cut off. 100,000 files take
about 15 minutes and 3 GB in PLACE, which is removed at the end.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visionloop.core.files import read_json, write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_done, say_step, track
from visionloop.data.versions.shards import open_shards

Cells = dict[str, dict[str, list[list[float]]]]
"""Step to side to [wall seconds, processor seconds] of each repeat."""

RESULTS = Path(__file__).parent / "results"
SIDE = 53
"""Noise of 53 x 53 grey levels makes a PNG of about 3 kB."""
TARGET = 10.0
DVC = [sys.executable, "-m", "dvc"]
PACK = [
    *(sys.executable, "-m", "visionloop.data", "pack", "--track"),
    *("--images", "images", "--shards", "shards"),
]
UNPACK = [
    sys.executable,
    "-m",
    "visionloop.data",
    "unpack",
    "--images",
    "out",
    "--shards",
    "shards",
]
CLAIMS = {
    # step: (what is measured, smallest ratio or None)
    "add": ("add, first time", None),
    "status": ("status, nothing changed", None),
    "change": ("one image changed: add again", TARGET),
    "push": ("push, first time", TARGET),
    "push_change": ("push after one image changed", TARGET),
    "checkout": ("checkout from the cache after deletion", None),
    "checkout_files": ("the same, and unpacked into files", None),
}


def main() -> None:
    """Measure, print the table, write ``results/versioning.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=2, help="of status and one-image change")
    parser.add_argument("--folder", type=Path, default=RESULTS / "versioning")
    options = parser.parse_args()
    set_quiet_environment()
    folder = options.folder.resolve() / str(options.files)
    cells = measure(folder, options.files, options.repeats)
    rows = [make_row(step, cells, options.files) for step in CLAIMS]
    print(f"{'seconds':<62}{'shards':>9}{'plain':>9}{'ratio':>8}")
    for row in rows:
        print(f"{row['claim']:<62}{row['ours']:>9.2f}{row['peer']:>9.2f}{row['ratio']:>8.1f}")
        cpu = f"{row['ours_cpu']:>9.2f}{row['peer_cpu']:>9.2f}{row['ratio_cpu']:>8.1f}"
        print(f"{'  processor time':<62}{cpu}")
    content = {
        "name": "versioning",
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(["python", "benchmarks/versioning.py", *sys.argv[1:]]),
        "rows": rows,
    }
    say_done("results", write_json(RESULTS / "versioning.json", content))
    shutil.rmtree(folder)


def measure(folder: Path, files: int, repeats: int) -> Cells:
    """Seconds of each step and side; finished steps of an earlier run are not run again."""
    cells_file = folder / "cells.json"
    cells: Cells = read_json(cells_file) if cells_file.exists() else {}
    sides = {"plain": folder / "plain", "shards": folder / "shards"}
    done: list[str] = list(cells.pop("done", []))  # type: ignore[arg-type]

    def once(name: str, work: Callable[[], None]) -> None:
        if name not in done:
            say_step(name)
            work()
            done.append(name)
            write_json(cells_file, {**cells, "done": done})

    def timed(step: str, side: str, commands: list[list[str]]) -> None:
        start, before = time.perf_counter(), children_seconds()
        for command in commands:
            run(command, sides[side])
        spent = [time.perf_counter() - start, children_seconds() - before]
        cells.setdefault(step, {}).setdefault(side, []).append(spent)

    for side, place in sides.items():
        once(f"{side}: files", lambda place=place: make_project(place, files))  # type: ignore[misc]
    for step, side, commands, before in plan(sides, repeats):
        count = sum(name.startswith(f"{side}: {step} ") for name in done)

        def work(step=step, side=side, commands=commands, before=before) -> None:  # type: ignore[no-untyped-def]
            before()
            timed(step, side, commands)

        once(f"{side}: {step} {before.__doc__ or count}", work)
    once("contents are equal", lambda: compare_contents(sides, files))
    return cells


Step = tuple[str, str, list[list[str]], Callable[[], None]]


def plan(sides: dict[str, Path], repeats: int) -> list[Step]:
    """Every timed step in order: name, side, commands, what to prepare untimed.

    The doc string of a preparation tells repeats apart in the record of finished steps.
    """
    steps: list[Step] = []
    add = {
        "plain": [[*DVC, "add", "-q", "images"]],
        "shards": [PACK],
    }
    status = {"plain": [[*DVC, "status"]], "shards": [PACK]}
    push, checkout, pull = ([[*DVC, verb, "-q"]] for verb in ("push", "checkout", "pull"))

    def both(step: str, commands: dict[str, list[list[str]]], before: str, *, turn: int) -> None:
        for side in commands:
            steps.append((step, side, commands[side], prepare(sides[side], side, before, turn)))

    same = {"plain": push, "shards": push}
    both("add", add, "", turn=0)
    for turn in range(repeats):
        both("status", status, "", turn=turn)
    both("push", same, "", turn=0)
    for turn in range(repeats):
        both("change", add, "change", turn=turn)
        both("push_change", same, "", turn=turn)
    both("checkout", {"plain": checkout, "shards": checkout}, "delete", turn=0)
    both("checkout_files", {"shards": [*checkout, UNPACK]}, "delete", turn=0)
    both("pull", {"shards": pull}, "clone", turn=0)
    return steps


def prepare(place: Path, side: str, what: str, turn: int) -> Callable[[], None]:
    """What happens before a step, outside the measured time."""
    tracked = place / ("images" if side == "plain" else "shards")

    def act() -> None:
        if what == "change":
            path = place / "images" / f"{turn * 7919 % len(os.listdir(place / 'images')):06d}.png"
            path.write_bytes(make_png(30_000_000 + turn))
        if what in ("delete", "clone"):
            shutil.rmtree(tracked, ignore_errors=True)
            shutil.rmtree(place / "out", ignore_errors=True)
        if what == "clone":
            shutil.rmtree(place / ".dvc" / "cache", ignore_errors=True)
            shutil.rmtree(place / ".dvc" / "tmp", ignore_errors=True)

    act.__doc__ = str(turn)
    return act


def make_project(place: Path, files: int) -> None:
    """A DVC project without git, its remote beside it, and the files."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "images").mkdir(parents=True)
    run([*DVC, "init", "-q", "--no-scm"], place)
    run(
        [*DVC, "remote", "add", "-q", "-d", "store", str(place.parent / f"{place.name}-remote")],
        place,
    )
    for number in track(range(files), f"drawing images of {place.name}", total=files):
        (place / "images" / f"{number:06d}.png").write_bytes(make_png(number))


def make_png(seed: int) -> bytes:
    """Grey noise as a PNG of about 3 kB: the same seed gives the same bytes."""
    image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8)
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def run(command: list[str], folder: Path) -> None:
    """A whole command as a person runs it; its failure ends the benchmark."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


def compare_contents(sides: dict[str, Path], files: int) -> None:
    """Both sides give the same files back: through the reader, and through plain tar."""
    images = sides["plain"] / "images"
    shutil.rmtree(sides["shards"] / "untar", ignore_errors=True)
    (sides["shards"] / "untar").mkdir()
    for shard in sorted((sides["shards"] / "shards").glob("*.tar")):
        run(["tar", "xf", str(shard)], sides["shards"] / "untar")
    with open_shards(sides["shards"] / "shards") as store:
        names = store.names()
        if len(names) != files:
            raise SystemExit(f"{len(names)} files in the shards, not {files}")
        for name in track(names, "comparing"):
            digest = hashlib.sha256((images / name).read_bytes()).digest()
            for content in (store.read(name), (sides["shards"] / "untar" / name).read_bytes()):
                if hashlib.sha256(content).digest() != digest:
                    raise SystemExit(f"{name} differs")


def children_seconds() -> float:
    """Processor time of all finished commands so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def make_row(step: str, cells: Cells, files: int) -> dict[str, Any]:
    """One row of the results; the ratio says how many times faster the shards are."""
    claim, target = CLAIMS[step]
    mine = cells[step]["shards"]
    # The peer's checkout gives files already.
    theirs = cells["checkout" if step == "checkout_files" else step]["plain"]
    (ours, ours_cpu), (peer, peer_cpu) = (
        [statistics.median(column) for column in zip(*side, strict=True)] for side in (mine, theirs)
    )
    ratios = sorted(two[0] / one[0] for one, two in zip(mine, theirs, strict=True))
    return {
        "claim": f"{claim}, {files:,} files",
        "ours": ours,
        "peer": peer,
        "peer_name": "dvc 3.67 add of the folder",
        "ratio": peer / ours,
        "ours_cpu": ours_cpu,
        "peer_cpu": peer_cpu,
        "ratio_cpu": peer_cpu / ours_cpu,
        "spread": [ratios[0], ratios[-1]],
        "target": target,
        "higher_is_better": False,
        "met": None if target is None else peer / ours >= target,
    }


if __name__ == "__main__":
    main()
