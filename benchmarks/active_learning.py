"""What to label next: our strategies and scikit-activeml's, labels against test score.

Four sets (elpv, CIFAR-10, Fashion-MNIST, magnetic tiles), frozen features, the product's head,
six rounds; the first one has no model, there margin, entropy and BADGE draw by chance. A
strategy's figure is the area under its curve of labels and score (accuracy; on the tiles, of which
71 % are good, its mean over classes), divided by the range of labels. Everything is paired by
seed; intervals are bootstraps over seeds. The peer runs in an environment of its own.

Each (set, strategy, seed) leaves one file in ``results/active_learning_runs/``: an interrupted
run goes on, and several processes may share the seeds.

    python benchmarks/active_learning.py [--sets elpv,cifar10,fashion,tiles] [--seeds 10]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from active_learning_loop import BUDGETS, Round, run_loop
from active_learning_sets import SETS, Draw, PictureSet, draw_folds, load_set
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.files import read_json, write_json
from visionloop.core.plugins import resolve
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.labeling.strategies.pool import Pool, compress
from visionloop.labeling.strategies.table import NEEDS_PROBABILITIES, STRATEGIES

RUNS = RESULTS / "active_learning_runs"
PEER = RESULTS / "peer_skactiveml"
PEER_PACKAGES = ["scikit-activeml==1.0.1"]
PEER_DIMENSIONS = 128
OURS = ("random", "recommended", "margin", "typical", "k-centre", "informative", "phases")
THEIRS = ("UncertaintySampling", "CoreSet", "TypiClust", "ProbCover", "Badge")
DRAWS = 10_000
LEVEL = 0.95

Row = dict[str, Any]
Scores = NDArray[np.float64]


def main() -> None:
    """Measure, print the table, write ``results/active_learning.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default=",".join(SETS), help="comma between them")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--strategies", default=",".join((*OURS, *THEIRS)))
    parser.add_argument("--report", action="store_true", help="only what is there already")
    options = parser.parse_args()
    set_quiet_environment()
    sets, strategies = options.sets.split(","), options.strategies.split(",")
    if not options.report:
        measure(sets, strategies, options.seeds)
    rows = [row for name in sets for row in set_rows(name, strategies, options.seeds)]
    rows += overall_rows(sets, strategies, options.seeds)
    save_results("active_learning", rows, seeds=options.seeds)


def measure(sets: Sequence[str], strategies: Sequence[str], seeds: int) -> None:
    """Every run that has no file yet."""
    pictures = {name: load_set(name) for name in sets}
    with tempfile.TemporaryDirectory() as folder, Peer() as peer:
        for seed in range(seeds):
            for name in sets:
                missing = [one for one in strategies if not run_file(name, one, seed).exists()]
                if missing:
                    run_seed(name, pictures[name], missing, seed, peer, Path(folder) / "fold.npz")


def run_seed(
    name: str,
    pictures: PictureSet,
    strategies: Sequence[str],
    seed: int,
    peer: Peer,
    file: Path,
) -> None:
    """All folds of a seed by every strategy; a file each."""
    curves: dict[str, list[list[float]]] = {one: [] for one in strategies}
    for number, draw in enumerate(draw_folds(pictures, seed)):
        fold_seed = seed * 10 + number
        save_fold(pictures, draw, file)
        for one in strategies:
            if one in THEIRS:
                scores = peer.run(name, one, fold_seed, file)
            else:
                scores = run_ours(name, one, pictures, draw, fold_seed)
            curves[one].append(scores)
    for one in strategies:
        content = {"budgets": BUDGETS[name], "curves": curves[one]}
        write_json(run_file(name, one, seed), content)
    say_step(f"{name}, seed {seed}: {', '.join(strategies)}")


def run_file(name: str, strategy: str, seed: int) -> Path:
    """Where one run's curves are kept."""
    return RUNS / name / f"{strategy}-{seed}.json"


def save_fold(pictures: PictureSet, draw: Draw, file: Path) -> None:
    """What the peer reads."""
    vectors = pictures.vectors[draw.pool]
    deviation = vectors.std(axis=0)
    deviation[deviation < 1e-6] = 1
    np.savez(
        file,
        pool_vectors=vectors,
        pool_classes=pictures.class_ids[draw.pool],
        test_vectors=pictures.vectors[draw.test],
        test_classes=pictures.class_ids[draw.test],
        small=compress((vectors - vectors.mean(axis=0)) / deviation, PEER_DIMENSIONS, 0)[0],
    )


def run_ours(name: str, strategy: str, pictures: PictureSet, draw: Draw, seed: int) -> list[float]:
    """The loop with a row of the product's table."""
    function = resolve(STRATEGIES, strategy, kind="selection strategy")
    by_chance = resolve(STRATEGIES, "random", kind="selection strategy")

    def choose(asked: Round) -> NDArray[np.int64]:
        pool = Pool(
            vectors=asked.vectors[asked.open],
            budget=asked.batch,
            seed=asked.seed,
            probabilities=asked.probabilities,
            known_vectors=asked.vectors[asked.known],
            class_counts=np.bincount(asked.known_classes, minlength=asked.classes),
        )
        cold = asked.probabilities is None and strategy in NEEDS_PROBABILITIES
        chosen: NDArray[np.int64] = (by_chance if cold else function)(pool)
        return chosen

    pool = pictures.vectors[draw.pool], pictures.class_ids[draw.pool]
    test = pictures.vectors[draw.test], pictures.class_ids[draw.test]
    return run_loop(name, pool, test, choose, seed)


class Peer:
    """scikit-activeml in an environment and a process of its own, started when first asked."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None and self._child.stdin is not None:
            self._child.stdin.close()
            self._child.wait()

    def run(self, name: str, strategy: str, seed: int, file: Path) -> list[float]:
        """The test scores of a strategy of the peer's."""
        if self._child is None:
            script = Path(__file__).with_name("active_learning_peer.py")
            self._child = subprocess.Popen(
                [str(make_peer()), "-W", "ignore", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=dict(os.environ),
            )
        assert self._child.stdin is not None and self._child.stdout is not None
        job = {"set": name, "strategy": strategy, "seed": seed, "file": str(file)}
        self._child.stdin.write(json.dumps(job) + "\n")
        self._child.stdin.flush()
        line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f"{strategy} stopped on {name}, seed {seed}")
        scores: list[float] = json.loads(line)
        return scores


def make_peer() -> Path:
    """The peer's own environment; its Python."""
    python = PEER / "bin" / "python"
    if not (PEER / "done").is_file():
        say_step(f"installing {PEER_PACKAGES[0]} into its own environment")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(PEER)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES]
        subprocess.run(install, check=True)
        (PEER / "done").touch()
    return python


def load_curves(name: str, strategies: Sequence[str], seeds: int) -> dict[str, Scores]:
    """Scores (seeds, rounds) of every strategy, over the seeds that all of them have."""
    there = [
        seed
        for seed in range(seeds)
        if all(run_file(name, one, seed).exists() for one in strategies)
    ]
    return {
        one: np.array(
            [np.mean(read_json(run_file(name, one, seed))["curves"], axis=0) for seed in there]
        )
        for one in strategies
        if there
    }


def set_rows(name: str, strategies: Sequence[str], seeds: int) -> list[Row]:
    """The rows of one set."""
    curves = load_curves(name, strategies, seeds)
    if not curves:
        return []
    areas = {one: area(name, found) for one, found in curves.items()}
    count = len(areas["random"])
    best = max((one for one in areas if one != "recommended"), key=lambda one: areas[one].mean())
    ours = areas["recommended"]
    above, below = ours - areas["random"], ours - areas[best]
    share = labels_share(name, curves["recommended"], curves["random"])
    target = 0.5 if name == "tiles" else None
    low, high = bootstrap(above)
    rows = [
        make_row(f"{name}: recommended less random", above.mean(), spread=(low, high), met=low > 0),
    ]
    low, high = bootstrap(below)
    claim = f"{name}: recommended less the best other, {best}"
    rows.append(make_row(claim, below.mean(), spread=(low, high), met=bool(high >= 0)))
    claim = f"{name}: share of the labels for random's score with all"
    rows.append(make_row(claim, share, target=target, higher_is_better=False))
    for one in sorted(areas, key=lambda one: -areas[one].mean()):
        side = "scikit-activeml " if one in THEIRS else ""
        claim = f"{name}: area under the curve, {side}{one}"
        share = labels_share(name, curves[one], curves["random"])
        row = make_row(claim, areas[one].mean(), spread=bootstrap(areas[one]))
        rows.append({**row, "curve": curves[one].mean(axis=0).tolist(), "labels_share": share})
    return [{**row, "seeds": count} for row in rows]


def overall_rows(sets: Sequence[str], strategies: Sequence[str], seeds: int) -> list[Row]:
    """The mean saving over the sets, ours and each other strategy's."""
    rows = []
    for one in ("recommended", *(other for other in strategies if other != "recommended")):
        shares = []
        for name in sets:
            curves = load_curves(name, strategies, seeds)
            if curves:
                shares.append(labels_share(name, curves[one], curves["random"]))
        if len(shares) == len(SETS) and one != "random":
            target = 0.75 if one == "recommended" else None
            claim = f"mean share of the labels for random's score with all: {one}"
            rows.append(make_row(claim, np.mean(shares), target=target, higher_is_better=False))
    return rows


def area(name: str, curves: Scores) -> Scores:
    """Mean height of each curve over the range of labels."""
    budgets = np.array(BUDGETS[name], float)
    return np.asarray(np.trapezoid(curves, budgets, axis=1) / (budgets[-1] - budgets[0]))


def labels_share(name: str, curves: Scores, by_chance: Scores) -> float:
    """Labels at which the mean curve first reaches random's last score, by all labels.

    Between rounds the curve is straight; 1.5 where it is never reached.
    """
    budgets, scores = BUDGETS[name], curves.mean(axis=0)
    goal = by_chance.mean(axis=0)[-1]
    place = int(np.argmax(scores >= goal))
    if scores[place] < goal:
        return 1.5
    if place == 0:
        return budgets[0] / budgets[-1]
    part = (goal - scores[place - 1]) / (scores[place] - scores[place - 1])
    between = budgets[place - 1] + part * (budgets[place] - budgets[place - 1])
    return float(between / budgets[-1])


def bootstrap(values: Scores) -> tuple[float, float]:
    """Interval of the mean, resampling seeds."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (DRAWS, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


if __name__ == "__main__":
    main()
