"""Relabelling by suspicion: how many errors of box annotations a short list finds, and what for.

400 boards of DeepPCB with planted errors (missing, shifted, swapped, spurious boxes). YOLOv8n
learns the wrong boxes in two folds; each board is scored by the one that has not seen it. A
*suspect* is an annotated box, or a place where the detector sees something that nobody
annotated. A list of "the top 5 %" is as long as 5 % of the annotated boxes. Relabelling a suspect
puts right what is wrong there, as a careful person would.

With 10 % of the boxes wrong the detectors are those of ``box_detectors.py``, which learned the
same wrong boxes. With 30 % two more are trained here, and three or four for the last question:
what a detector is worth on 200 boards of the official test split that learned the clean, the
wrong, and the relabelled boxes. ``results/relabel/`` keeps each training's answers, so an
interrupted run goes on. Ultralytics is AGPL-3.0.

    python benchmarks/relabel.py [--parts suspects,worth] [--train folds,clean,noisy,...]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from box_detectors import (
    ANSWERS,
    TRAINED_RATE,
    TRAINED_SEED,
    BoxData,
    answer_boxes,
    grey_pictures,
    load_answers,
    load_boxes,
    read_answers,
    save_answers,
    train_on_boxes,
)
from box_noise import BoxSet, PlantedError, plant
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Detections
from visionloop.core.files import read_json, write_json
from visionloop.core.geometry import box_iou
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.data.quality.box_scorer import BoxIssue, score_boxes

FOLDER = RESULTS / "relabel"
HIGH_RATE = 0.3
PIXELS = 320
FOLD_PASSES = 400
WORTH_PASSES = 800
TEST_BOARDS = 200
DRAWS = 1000
FOUND = 0.3
"""IoU from which a suspected place is that of an error."""
TOP_PRECISION, TOP_RELABELLED = 0.05, 0.15

Row = dict[str, Any]


def main() -> None:
    """Train what is not there yet, measure, write ``results/relabel.json``."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="suspects,worth", help="comma between them")
    parser.add_argument("--train", default="", help="only train these, and measure nothing")
    options = parser.parse_args()
    set_quiet_environment()
    torch.set_num_threads(1)
    data = load_boxes("deeppcb")
    if options.train:
        for name in options.train.split(","):
            if name == "folds":
                high_answers(data)
            else:
                worth_answers(data, name)
        return
    rows: list[Row] = []
    parts = options.parts.split(",")
    if "suspects" in parts:
        for strength in ("strong", "weak"):
            there = [ANSWERS / f"{data.name}_{strength}_{fold}.npz" for fold in (0, 1)]
            if all(path.is_file() for path in there):
                rows += suspect_rows(data, strength)
            else:
                say_step(f"{strength}: no answers yet; run box_detectors.py --sets {data.name}")
    if "worth" in parts:
        rows += worth_rows(data)
    save_results("relabel", rows, fold_passes=FOLD_PASSES, worth_passes=WORTH_PASSES, pixels=PIXELS)


def suspect_rows(data: BoxData, strength: str) -> list[Row]:
    """What the lists hold with one box in ten wrong."""
    scored = Scored.of(data, strength, TRAINED_RATE, load_answers(data, strength))
    what = f"10 % of the boxes wrong, {strength} detectors"
    # The scorer was chosen on the other half, with other errors.
    held = scored.on({image for image in range(len(data.contents)) if image // 2 % 2 == 1})
    rows = []
    for part, where in ((scored, "all boards"), (held, "half that the scorer was not chosen on")):
        rows += [
            make_row(
                f"{what}, {where}: precision of the top 5 %",
                part.precision(TOP_PRECISION),
                target=0.8,
                spread=part.precision_interval(TOP_PRECISION),
            ),
            make_row(
                f"{what}, {where}: errors gone after relabelling the top 15 %",
                part.gone(TOP_RELABELLED),
                target=0.7,
            ),
        ]
    kinds = scored.gone_by_kind(TOP_RELABELLED)
    rows += [make_row(f"{what}: of these, {kind} gone", share) for kind, share in kinds.items()]
    rows.append(
        make_row(f"{what}: suspects for each annotated box", scored.suspects_for_each_box())
    )
    return rows


@dataclass(frozen=True, eq=False)
class Scored:
    """Wrong annotations with their suspects, the most doubtful first.

    ``errors_at`` (M) says of each suspect which errors it is, if any.
    """

    data: BoxData
    noisy: list[BoxSet]
    errors: list[PlantedError]
    suspects: list[BoxIssue]
    errors_at: list[list[int]]

    @classmethod
    def of(cls, data: BoxData, name: str, rate: float, answers: list[Detections]) -> Scored:
        """Plant, score out of fold, and look which suspects are errors."""
        noisy, errors = planted(data, rate)
        issues = suspects_of(data, noisy, answers, FOLDER / f"suspects_{name}.json")
        places = [places_of(error, data.truth[error.image], noisy[error.image]) for error in errors]
        by_image: dict[int, list[int]] = {}
        for number, error in enumerate(errors):
            by_image.setdefault(error.image, []).append(number)
        found = [
            [
                number
                for number in by_image.get(issue.image, [])
                if is_error(issue, errors[number], places[number])
            ]
            for issue in issues
        ]
        return cls(data, noisy, errors, issues, found)

    def on(self, images: set[int]) -> Scored:
        """Suspects and errors of these images alone."""
        number = [n for n, error in enumerate(self.errors) if error.image in images]
        new = {old: place for place, old in enumerate(number)}
        kept = [n for n, issue in enumerate(self.suspects) if issue.image in images]
        return Scored(
            self.data,
            [boxes for image, boxes in enumerate(self.noisy) if image in images],
            [self.errors[n] for n in number],
            [self.suspects[n] for n in kept],
            [[new[error] for error in self.errors_at[n]] for n in kept],
        )

    def boxes(self) -> int:
        """Annotated boxes, which the shares are of."""
        return sum(len(xyxy) for xyxy, _ in self.noisy)

    def top(self, share: float) -> int:
        """Suspects in a list of this share."""
        return round(share * self.boxes())

    def precision(self, share: float) -> float:
        """Of the suspects in the list, those that are errors."""
        return float(np.mean([bool(found) for found in self.errors_at[: self.top(share)]]))

    def precision_interval(self, share: float) -> list[float]:
        """95 %, by Wilson."""
        from visionloop.labeling.review.intervals import wilson

        return list(wilson(self.precision(share), self.top(share)))

    def found(self, share: float) -> set[int]:
        """Numbers of the errors that the list holds."""
        return {number for found in self.errors_at[: self.top(share)] for number in found}

    def gone(self, share: float) -> float:
        """Share of all errors that relabelling the list puts right."""
        return len(self.found(share)) / len(self.errors)

    def gone_by_kind(self, share: float) -> dict[str, float]:
        """The same, kind by kind."""
        found = self.found(share)
        kinds = sorted({error.kind for error in self.errors})
        return {
            kind: float(
                np.mean([n in found for n, error in enumerate(self.errors) if error.kind == kind])
            )
            for kind in kinds
        }

    def suspects_for_each_box(self) -> float:
        """Length of the whole list by the number of annotated boxes."""
        return len(self.suspects) / self.boxes()

    def relabelled(self, share: float) -> list[BoxSet]:
        """The annotations after the errors in the list were put right."""
        found = self.found(share)
        boxes = []
        for image, given in enumerate(self.noisy):
            mine = [self.errors[n] for n in sorted(found) if self.errors[n].image == image]
            boxes.append(put_right(given, self.data.truth[image], mine))
        return boxes


def suspects_of(
    data: BoxData, noisy: list[BoxSet], answers: list[Detections], path: Path
) -> list[BoxIssue]:
    """Every suspect, the most doubtful first; scored once and kept."""
    if not path.is_file():
        extent = [float(max(data.size))] * len(noisy)
        pictures = grey_pictures(data, range(len(noisy)))
        issues = score_boxes(noisy, answers, extent, len(data.classes), pictures=pictures)
        issues.sort(key=lambda issue: -issue.probability)
        rows = [{**vars(issue), "xyxy": issue.xyxy.tolist()} for issue in issues]
        write_json(path, rows)
    return [
        BoxIssue(**{**row, "xyxy": np.array(row["xyxy"], np.float32)}) for row in read_json(path)
    ]


def planted(data: BoxData, rate: float) -> tuple[list[BoxSet], list[PlantedError]]:
    """The wrong boxes that the detectors learn, and that are to be found."""
    return plant(
        data.truth, data.size, len(data.classes), rate=rate, unit="boxes", seed=TRAINED_SEED
    )


def places_of(error: PlantedError, truth: BoxSet, noisy: BoxSet) -> NDArray[np.float32]:
    """Where somebody who looks sees that something lacks: of a shifted box, its true place."""
    place = np.array([error.xyxy], np.float32)
    if error.kind == "missing":
        return place
    if error.kind == "shifted":
        return truth[0][[origin_of(error, truth, noisy)]]
    return place[:0]


def origin_of(error: PlantedError, truth: BoxSet, noisy: BoxSet) -> int:
    """The true box that was shifted: the closest of those that are annotated nowhere."""
    is_kept = (np.abs(truth[0][:, None] - noisy[0][None]).max(axis=2) < 1e-3).any(axis=1)
    overlap = box_iou(np.array([error.xyxy], np.float32), truth[0])[0]
    return int(np.where(is_kept, -1, overlap).argmax())


def is_error(issue: BoxIssue, error: PlantedError, lacking: NDArray[np.float32]) -> bool:
    """A suspected box must be the wrong one itself; a suspected place, where something lacks."""
    if issue.box >= 0:
        is_it = np.abs(issue.xyxy - np.array(error.xyxy, np.float32)).max() < 1e-3
        return bool(is_it and error.kind != "missing")
    return bool(len(lacking) and box_iou(issue.xyxy[None], lacking).max() >= FOUND)


def put_right(given: BoxSet, truth: BoxSet, errors: Sequence[PlantedError]) -> BoxSet:
    """The boxes without these errors."""
    xyxy, class_id = given[0].copy(), given[1].copy()
    kept = np.ones(len(xyxy), bool)
    added = []
    for error in errors:
        place = np.array(error.xyxy, np.float32)
        if error.kind == "missing":
            added.append(int(box_iou(place[None], truth[0])[0].argmax()))
            continue
        number = int(np.abs(given[0] - place).max(axis=1).argmin())
        if error.kind == "spurious":
            kept[number] = False
        elif error.kind == "swapped":
            class_id[number] = truth[1][int(box_iou(place[None], truth[0])[0].argmax())]
        else:
            xyxy[number] = truth[0][origin_of(error, truth, given)]
    return (
        np.concatenate([xyxy[kept], truth[0][added]]),
        np.concatenate([class_id[kept], truth[1][added]]),
    )


def high_answers(data: BoxData) -> list[Detections]:
    """Out-of-fold answers of two detectors that learned boxes of which 30 % are wrong."""
    noisy, _ = planted(data, HIGH_RATE)
    answers = [Detections.empty()] * len(data.contents)
    for fold in (0, 1):
        path = FOLDER / f"fold_{fold}.npz"
        mine = range(fold, len(answers), 2)
        if not path.is_file():
            learned = range(1 - fold, len(answers), 2)
            train_and_answer(data, noisy, learned, FOLD_PASSES, data.contents, mine, path)
        for image, answer in read_answers(path, mine).items():
            answers[image] = answer
    return answers


def train_and_answer(
    data: BoxData,
    given: Sequence[BoxSet],
    learned: Sequence[int],
    passes: int,
    contents: Sequence[bytes],
    asked: Sequence[int],
    path: Path,
) -> None:
    """One training; its answers go to ``path``."""
    say_step(f"{path.stem}: {passes} image passes of {PIXELS} pixels")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        model = train_on_boxes(data, given, learned, passes, Path(name), pixels=PIXELS)
        rows = answer_boxes(model, contents, asked, pixels=PIXELS)
    save_answers(path, rows, time.monotonic() - started)


def learned_boxes(data: BoxData, name: str) -> Sequence[BoxSet]:
    """``clean``, ``noisy``, or ``relabelled_<percent>``: after relabelling so long a list."""
    if name == "clean":
        return data.truth
    if name == "noisy":
        return planted(data, HIGH_RATE)[0]
    scored = Scored.of(data, "high", HIGH_RATE, high_answers(data))
    return scored.relabelled(int(name.removeprefix("relabelled_")) / 100)


def worth_answers(data: BoxData, name: str) -> list[Detections]:
    """What a detector that learned these boxes of all 400 boards says of the test boards."""
    path = FOLDER / f"{name}.npz"
    asked = range(TEST_BOARDS)
    if not path.is_file():
        contents = [content for content, _ in test_boards(data)]
        learned = range(len(data.contents))
        boxes = learned_boxes(data, name)
        train_and_answer(data, boxes, learned, WORTH_PASSES, contents, asked, path)
    return list(read_answers(path, asked).values())


def test_boards(data: BoxData) -> list[tuple[bytes, BoxSet]]:
    """200 boards of the official test split that are none of the 400."""
    from visionloop.data.datasets.deeppcb import ZippedBoards

    boards = ZippedBoards(Path(os.environ["VISIONLOOP_MIRROR"]) / "deeppcb.zip")
    learned = set(data.contents)
    names = sorted(name for name, is_test in boards.names().items() if is_test)
    found = []
    for name in np.random.default_rng(1).permutation(names):
        content = boards.image(str(name))
        if content not in learned:
            rows = boards.boxes(str(name))
            xyxy = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
            class_id = np.array([data.classes.index(row[4]) for row in rows], np.int64)
            found.append((content, (xyxy, class_id)))
        if len(found) == TEST_BOARDS:
            break
    return found


def worth_rows(data: BoxData) -> list[Row]:
    """mAP of what was learned from clean, wrong and relabelled boxes, intervals over boards."""
    from visionloop.evaluation.coco_metrics import Truth
    from visionloop.evaluation.detection import DetectionMetrics
    from visionloop.evaluation.intervals import draw_weights, interval

    scored = Scored.of(data, "high", HIGH_RATE, high_answers(data))
    truths = [Truth(class_id, xyxy) for _, (xyxy, class_id) in test_boards(data)]
    weights = draw_weights([str(n) for n in range(TEST_BOARDS)], draws=DRAWS, seed=0)
    rows = []
    for share in (0.15, 0.45):
        what = f"30 % of the boxes wrong, top {share:.0%} relabelled"
        rows.append(make_row(f"{what}: precision", scored.precision(share)))
        rows.append(make_row(f"{what}: errors gone", scored.gone(share)))
    for name in ("clean", "noisy", "relabelled_15", "relabelled_45"):
        if not (FOLDER / f"{name}.npz").is_file():
            say_step(f"{name}: not trained yet; run relabel.py --train {name}")
            continue
        metrics = DetectionMetrics(truths, worth_answers(data, name), data.classes, {})
        values, drawn = metrics.values(), metrics.resampled(weights)
        for metric in ("map50", "map50_95"):
            spread = interval(values[metric], drawn[metric], groups=TEST_BOARDS)
            claim = f"30 % of the boxes wrong: {metric} of what {name} boxes teach"
            rows.append(make_row(claim, values[metric], spread=spread))
    return rows


if __name__ == "__main__":
    main()
