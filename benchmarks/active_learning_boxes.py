"""What to label next, for boxes: mAP of a detector that learned chosen boards, beside random ones.

400 boards of DeepPCB are the pool; 60, 120 and 240 of them are annotated in three rounds, each
followed by a training of YOLOv8n of 1,200 image passes from COCO weights. The recommended
strategy starts with typical boards and then asks the detector of the round before; random draws.
Measured on 200 boards of the official test split, intervals by resampling boards. A run
keeps its answers in ``results/active_learning_boxes/``, so an interrupted one goes on. Ultralytics
is AGPL-3.0; ``VISIONLOOP_MIRROR``, ``VISIONLOOP_WEIGHTS``.

    python benchmarks/active_learning_boxes.py [--seeds 2] [--report]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from backbone import embed_files
from box_detectors import (
    BoxData,
    answer_boxes,
    load_boxes,
    read_answers,
    save_answers,
    train_on_boxes,
)
from numpy.typing import NDArray
from relabel import TEST_BOARDS, test_boards
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Prediction
from visionloop.core.files import read_json, write_json
from visionloop.core.plugins import resolve
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.labeling.pool_answers import summarise
from visionloop.labeling.strategies.pool import Pool
from visionloop.labeling.strategies.table import STRATEGIES

FOLDER = RESULTS / "active_learning_boxes"
BUDGETS = (60, 120, 240)
PASSES, PIXELS = 1200, 320
DRAWS = 1000
SIDES = ("random", "recommended")

Row = dict[str, Any]


def main() -> None:
    """Train what is not there yet, measure, write ``results/active_learning_boxes.json``."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="only what is there already")
    options = parser.parse_args()
    set_quiet_environment()
    torch.set_num_threads(1)
    data = load_boxes("deeppcb")
    if not options.report:
        for seed in range(options.seeds):
            for number in range(len(BUDGETS)):
                for side in SIDES:
                    run_round(data, side, seed, number)
    save_results("active_learning_boxes", make_rows(data, options.seeds), passes=PASSES)


def run_round(data: BoxData, side: str, seed: int, number: int) -> None:
    """Choose, train, answer on the pool and on the test boards; nothing if it is done."""
    path = answers_file(side, seed, number)
    if path.is_file():
        return
    known = [] if number == 0 else read_json(path_of_known(side, seed, number - 1))["boards"]
    boards = [*known, *choose(data, side, seed, number, known)]
    write_json(path_of_known(side, seed, number), {"boards": boards})
    say_step(f"{side}, seed {seed}: {PASSES} passes on {len(boards)} boards")
    started = time.monotonic()
    contents = [*data.contents, *(content for content, _ in test_boards(data))]
    with tempfile.TemporaryDirectory() as name:
        model = train_on_boxes(data, data.truth, boards, PASSES, Path(name), pixels=PIXELS)
        rows = answer_boxes(model, contents, range(len(contents)), pixels=PIXELS)
    save_answers(path, rows, time.monotonic() - started)


def answers_file(side: str, seed: int, number: int) -> Path:
    """Answers of a round's detector on the pool, then on the test boards."""
    return FOLDER / f"{side}_{seed}_{number}.npz"


def path_of_known(side: str, seed: int, number: int) -> Path:
    """The boards that are annotated after a round."""
    return FOLDER / f"{side}_{seed}_{number}.json"


def choose(data: BoxData, side: str, seed: int, number: int, known: list[int]) -> list[int]:
    """The boards that people annotate in this round."""
    vectors = load_vectors(data)
    left = np.setdiff1d(np.arange(len(data.contents)), known)
    pool = Pool(
        vectors=vectors[left],
        budget=BUDGETS[number] - len(known),
        seed=seed * 100 + number,
        known_vectors=vectors[known],
    )
    if number and side != "random":
        answers = read_answers(answers_file(side, seed, number - 1), left)
        seen = summarise([Prediction(one) for one in answers.values()], list(data.classes))
        told = np.concatenate([data.truth[one][1] for one in known])
        pool = replace(
            pool,
            probabilities=seen.probabilities,
            presence=seen.presence,
            box_confidences=seen.box_confidences,
            class_counts=np.bincount(told, minlength=len(data.classes)),
        )
    chosen = resolve(STRATEGIES, side, kind="selection strategy")(pool)
    return [int(one) for one in left[chosen]]


def load_vectors(data: BoxData) -> NDArray[np.float32]:
    """Embeddings of the pool's boards; computed once."""
    path = FOLDER / "vectors.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, embed_files(data.contents))
    return np.asarray(np.load(path), np.float32)


def make_rows(data: BoxData, seeds: int) -> list[Row]:
    """mAP of both sides after each round, and their difference on the same test boards."""
    from visionloop.evaluation.coco_metrics import Truth
    from visionloop.evaluation.detection import DetectionMetrics
    from visionloop.evaluation.intervals import draw_weights

    truths = [Truth(class_id, xyxy) for _, (xyxy, class_id) in test_boards(data)]
    weights = draw_weights([str(n) for n in range(TEST_BOARDS)], draws=DRAWS, seed=0)
    asked = range(len(data.contents), len(data.contents) + TEST_BOARDS)
    rows = []
    for number, budget in enumerate(BUDGETS):
        found: dict[str, list[tuple[float, NDArray[np.float64]]]] = {side: [] for side in SIDES}
        for seed in range(seeds):
            files = [answers_file(side, seed, number) for side in SIDES]
            if not all(file.is_file() for file in files):
                continue
            for side, file in zip(SIDES, files, strict=True):
                answers = list(read_answers(file, asked).values())
                metrics = DetectionMetrics(truths, answers, data.classes, {})
                drawn = metrics.resampled(weights)["map50"]
                found[side].append((metrics.values()["map50"], np.asarray(drawn, np.float64)))
        if found["random"]:
            rows += budget_rows(budget, found)
    return rows


def budget_rows(
    budget: int, found: dict[str, list[tuple[float, NDArray[np.float64]]]]
) -> list[Row]:
    """Means over seeds; intervals over boards."""
    rows = []
    means = {}
    for side in SIDES:
        value = float(np.mean([one for one, _ in found[side]]))
        drawn = np.mean([one for _, one in found[side]], axis=0)
        means[side] = value, drawn
        claim = f"{budget} boards annotated, {side}: map50"
        rows.append(make_row(claim, value, spread=np.nanquantile(drawn, [0.025, 0.975]).tolist()))
    gain = means["recommended"][0] - means["random"][0]
    spread = np.nanquantile(means["recommended"][1] - means["random"][1], [0.025, 0.975])
    claim = f"{budget} boards annotated: recommended less random, map50"
    rows.append(make_row(claim, gain, spread=spread.tolist()))
    return [{**row, "seeds": len(found["random"])} for row in rows]


if __name__ == "__main__":
    main()
