"""Seconds to choose 1,000 of 100,000 samples, every strategy, and scikit-activeml's BADGE.

Processor seconds of one thread, so that other jobs on the machine do not count; on two cores the
clock shows less, on a busy machine more (``wall_seconds`` of each row). Made embeddings (512
features, 400 clusters of uneven size), answers of two models over ten classes, five boxes an image,
2,000 annotated samples, 12 cameras, a tenth of the pool wanted by monitoring. The peer is timed on
a tenth of the pool and of the batch, where its gradients fit into memory, and ours beside it
on the same; its time grows with both.

    python benchmarks/selection_speed.py [--samples 100000] [--batch 1000]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before numpy is loaded

import numpy as np
from active_learning import PEER_PACKAGES, make_peer
from report import make_row, save_results

from visionloop.core.plugins import resolve
from visionloop.core.progress import say_step
from visionloop.labeling.strategies.pool import Pool
from visionloop.labeling.strategies.table import STRATEGIES

FEATURES, CLASSES, CLUSTERS, KNOWN, CAMERAS = 512, 10, 400, 2000, 12
LIMIT = 5.0
PART = 10

CHILD = """
import sys, time, warnings
warnings.filterwarnings("ignore")
import numpy as np
from skactiveml.pool import Badge
from active_learning_peer import GivenAnswers
data = np.load(sys.argv[1])
told = np.full(len(data["vectors"]), np.nan)
start, cpu = time.perf_counter(), time.process_time()
Badge(random_state=0).query(
    data["vectors"], told, GivenAnswers(data["answers"]), fit_clf=False,
    batch_size=int(sys.argv[2]))
print(time.perf_counter() - start, time.process_time() - cpu)
"""


def main() -> None:
    """Measure, print the table, write ``results/selection_speed.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=1000)
    options = parser.parse_args()
    pool = make_pool(options.samples, options.batch)
    for name in STRATEGIES:  # libraries are loaded
        select_with(name, make_pool(500, 10))
    rows = []
    for name in STRATEGIES:
        wall, cpu = select_with(name, pool)
        claim = f"{options.batch} of {options.samples} x {FEATURES}, {name}: processor seconds"
        row = make_row(claim, cpu, target=LIMIT, higher_is_better=False)
        rows.append({**row, "wall_seconds": wall})
        say_step(f"{name}: {cpu:.2f} s of the processor, {wall:.2f} by the clock")
    small = make_pool(options.samples // PART, options.batch // PART)
    theirs = time_peer(small)
    ours = select_with("recommended", small)
    for what, one, other in zip(("seconds", "processor seconds"), ours, theirs, strict=True):
        claim = f"{small.budget} of {len(small)}, recommended beside BADGE: {what}"
        rows.append(
            make_row(claim, one, peer=other, peer_name=PEER_PACKAGES[0], higher_is_better=False)
        )
    save_results("selection_speed", rows)


def make_pool(samples: int, batch: int) -> Pool:
    """A pool with everything that any strategy looks at."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, FEATURES), np.float32)
    sizes = rng.dirichlet(np.ones(CLUSTERS))
    which = rng.choice(CLUSTERS, samples + KNOWN, p=sizes)
    vectors = rng.standard_normal((samples + KNOWN, FEATURES), np.float32)
    vectors += centres[which]
    logits = rng.standard_normal((CLUSTERS, CLASSES), np.float32)[which[:samples]] * 2
    answers = [_softmax(logits + rng.standard_normal(logits.shape, np.float32)) for _ in range(2)]
    boxes = np.split(rng.random(5 * samples, np.float32), 5 * np.arange(1, samples))
    wanted = np.where(rng.random(samples) < 0.1, rng.random(samples), 0).astype(np.float32)
    return Pool(
        vectors=vectors[:samples],
        budget=batch,
        probabilities=answers[0],
        challenger=answers[1],
        box_confidences=boxes,
        known_vectors=vectors[samples:],
        class_counts=rng.integers(1, 500, CLASSES),
        groups=rng.integers(0, CAMERAS, samples),
        wanted=wanted,
    )


def select_with(name: str, pool: Pool) -> tuple[float, float]:
    """Seconds and processor seconds of one choice."""
    function = resolve(STRATEGIES, name, kind="selection strategy")
    started, cpu = time.perf_counter(), time.process_time()
    chosen = function(pool)
    took = time.perf_counter() - started, time.process_time() - cpu
    if len(set(chosen.tolist())) != pool.budget:
        raise RuntimeError(f"{name} chose {len(set(chosen.tolist()))} of {pool.budget}")
    return took


def time_peer(pool: Pool) -> tuple[float, float]:
    """The same two figures of the peer's BADGE."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.npz"
        np.savez(file, vectors=pool.vectors, answers=pool.probabilities)
        done = subprocess.run(
            [str(make_peer()), "-c", CHILD, str(file), str(pool.budget)],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
        )
    wall, cpu = (float(one) for one in done.stdout.split())
    return wall, cpu


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


if __name__ == "__main__":
    main()
