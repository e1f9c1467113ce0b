"""Doubtful annotations: known oddities, people's wrong classes, wrong boxes, beside cleanlab.

Classes: CIFAR-10N (three people, 9 % wrong), 10,000 pictures, frozen features. Method and numbers
were chosen on the pictures of even number; "held out" is the odd half. Boxes: detectors of
``box_detectors.py`` that learned from boxes of which 10 % were wrong, in two folds. The scorer was
chosen on one half of the images (with other noise); the figures are of the other half. Other
rates than 10 % are drawn on the same answers: an image's own errors are never in what the
detector that answers for it has learned, so a new draw is as good as the first.

Each step's rows are kept in ``results/label_issues_steps/``; an interrupted run goes on there.

    python benchmarks/label_issues.py [--draws 3] [--parts oddities,classes,boxes] [--fresh]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from box_detectors import ANSWERS, BoxData, grey_pictures, load_answers, load_boxes
from box_noise import PlantedError, plant
from cifar_people import load_people
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Detections
from visionloop.core.files import read_json, write_json
from visionloop.core.geometry import box_iou
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step, track
from visionloop.data.datasets.archive_dataset import open_archive_dataset
from visionloop.data.datasets.oddities import facts_of, find_oddities
from visionloop.data.quality.box_issues import object_lab_quality
from visionloop.data.quality.box_scorer import BoxIssue, image_doubt, score_boxes
from visionloop.data.quality.class_issues import out_of_fold_probabilities, rank_label_issues
from visionloop.data.quality.crop_evidence import Picture
from visionloop.serving.images import decode_image

STEPS = RESULTS / "label_issues_steps"
REPORTED_SEED = 70_000
"""Noise of the report; the scorer was chosen with seeds from 5,000 on."""
SETTINGS = (("boxes", 0.05), ("boxes", 0.1), ("boxes", 0.2), ("images", 0.2))
MOST_ERROR = 0.6
SAME = 0.3

Row = dict[str, Any]


def main() -> None:
    """Measure, print the table, write ``results/label_issues.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fresh", action="store_true", help="measure finished steps again, too")
    parser.add_argument("--draws", type=int, default=3, help="draws of noise for each setting")
    parser.add_argument("--parts", default="oddities,classes,boxes", help="comma between them")
    options = parser.parse_args()
    set_quiet_environment()
    rows: list[Row] = []
    parts = options.parts.split(",")
    if options.fresh:
        shutil.rmtree(STEPS, ignore_errors=True)
    if "oddities" in parts:
        rows += step("oddities", oddity_rows)
    if "classes" in parts:
        rows += step("classes", class_rows)
    if "boxes" in parts:
        rows += box_rows(options.draws)
    save_results("label_issues", rows, draws=options.draws)


def step(name: str, measure_rows: Callable[[], list[Row]]) -> list[Row]:
    """The rows of a step: those of an earlier run, else measured and kept."""
    path = STEPS / f"{name}.json"
    if not path.is_file():
        write_json(path, measure_rows())
    rows: list[Row] = read_json(path)
    return rows


def oddity_rows() -> list[Row]:
    """What the import's and the check's general finders say about sets that are known."""
    neu, bccd, tiles = (count_oddities(name) for name in ("neu-det", "bccd", "magnetic-tile"))
    pair = [files for kind, files in neu["pairs"] if kind == "same_picture_other_annotations"]
    is_known = any({"patches_101", "patches_105"} == {stem(one) for one in files} for files in pair)
    return [
        known_row("NEU: patches_101 and 105, one picture with different boxes", is_known, 1),
        known_row("NEU: pictures with a box of another class", neu["foreign_class"], 123),
        known_row("BCCD: boxes without area", bccd["degenerate_box"], 2),
        known_row("magnetic tiles: empty masks under a defect", tiles["empty_mask"], 4),
    ]


def known_row(claim: str, found: float, known: int) -> Row:
    """Found and known; met if they are equal."""
    return make_row(f"known oddities: {claim}", float(found), target=known, met=found == known)


def stem(file: str) -> str:
    """Name without folder and ending."""
    return file.rsplit("/", 1)[-1].split(".")[0]


def count_oddities(name: str) -> dict[str, Any]:
    """Files concerned by each kind of oddity, and the pairs."""
    dataset = open_archive_dataset(name)
    facts = [
        facts_of(one, decode_image(one.content))
        for one in track(dataset, f"looking at {name}", total=None)
    ]
    found = find_oddities(facts, dataset.faults)
    counts: dict[str, Any] = dict.fromkeys(("foreign_class", "degenerate_box", "empty_mask"), 0)
    for one in found:
        if one.kind in counts:
            counts[one.kind] += len(one.files)
    return {**counts, "pairs": [(one.kind, one.files) for one in found]}


def class_rows() -> list[Row]:
    """Precision of the most doubtful pictures of CIFAR-10N; plain self-confidence beside."""
    people = load_people()
    say_step("ranking 10,000 annotations")
    groups = [str(number) for number in range(len(people.said))]
    ours = rank_label_issues(people.views[0], people.said, groups, seed=0).severity
    plain = out_of_fold_probabilities(
        people.views[0], people.said, groups, seed=0, regularisation=16.0
    )
    theirs = 1 - plain[np.arange(len(groups)), people.said]
    is_wrong = people.said != people.right
    odd = np.arange(len(groups)) % 2 == 1
    rows = []
    for share, target in ((0.01, 0.90), (0.05, 0.75)):
        for what, part in (("held-out half", odd), ("all", odd | True)):
            mine, peer = (precision(doubt, is_wrong, part, share) for doubt in (ours, theirs))
            rows.append(
                make_row(
                    f"CIFAR-10N: precision of the top {share:.0%}, {what}",
                    mine,
                    peer=peer,
                    peer_name="cleanlab self-confidence",
                    target=target,
                )
            )
    return rows


def precision(
    doubt: NDArray[np.float64], is_wrong: NDArray[np.bool_], part: NDArray[np.bool_], share: float
) -> float:
    """Of the most doubtful share, how many are wrong."""
    worst = np.argsort(-doubt[part], kind="stable")[: round(share * int(part.sum()))]
    return float(is_wrong[part][worst].mean())


def box_rows(draws: int) -> list[Row]:
    """Our scorer and ObjectLab on the held-out half of the images, for each set and strength."""
    rows: list[Row] = []
    for name in ("deeppcb", "bccd"):
        data = load_boxes(name)
        for strength in ("weak", "strong"):
            there = [ANSWERS / f"{name}_{strength}_{fold}.npz" for fold in (0, 1)]
            if not all(path.is_file() for path in there):
                say_step(f"{name}, {strength}: no answers yet; run box_detectors.py --sets {name}")
                continue
            answers = load_answers(data, strength)
            rows.append(detector_row(data, strength, answers))
            for unit, rate in SETTINGS:
                name_of_step = f"{name}_{strength}_{unit}_{rate}_{draws}"
                rows += step(
                    name_of_step,
                    partial(setting_rows, data, strength, answers, unit, rate, draws),
                )
    return rows


def detector_row(data: BoxData, strength: str, answers: list[Detections]) -> Row:
    """How good the detector is: boxes that it sees with the right class."""
    seen = total = 0
    for (xyxy, class_id), answer in zip(data.truth, answers, strict=True):
        sure = answer[answer.confidence >= 0.25]
        fits = box_iou(xyxy, sure.xyxy) >= 0.5
        seen += int((fits & (sure.class_id[None] == class_id[:, None])).any(axis=1).sum())
        total += len(xyxy)
    return make_row(f"{data.name}, {strength}: recall of the detector at .25", seen / total)


def setting_rows(
    data: BoxData,
    strength: str,
    answers: list[Detections],
    unit: Any,
    rate: float,
    draws: int,
) -> list[Row]:
    """Remaining error, kinds and speed for one rate of noise."""
    held = [image for image in range(len(answers)) if image // 2 % 2 == 1]
    truth, told = [data.truth[image] for image in held], [answers[image] for image in held]
    pictures = grey_pictures(data, held)
    figures = []
    for draw in track(range(draws), f"{data.name}, {strength}, {rate:.0%} of the {unit}"):
        given, errors = plant(
            truth, data.size, len(data.classes), rate=rate, unit=unit, seed=REPORTED_SEED + draw
        )
        figures.append(measure(data, given, told, errors, draw, pictures))
    mean = {name: float(np.mean([one[name] for one in figures])) for name in figures[0]}
    ratios = [one["ours"] / one["peer"] for one in figures]
    what = f"{data.name}, {strength}, {rate:.0%} of the {unit} wrong"
    return [
        make_row(
            f"{what}: remaining error (images)",
            mean["ours"],
            peer=mean["peer"],
            peer_name="ObjectLab",
            spread=[min(ratios), max(ratios)],
            met=mean["ours"] / mean["peer"] <= MOST_ERROR,
            higher_is_better=False,
        ),
        make_row(f"{what}: errors in a list of their number", mean["held"]),
        make_row(f"{what}: kind named correctly, of those", mean["kind"], target=0.9),
    ]


def measure(
    data: BoxData,
    given: list[Any],
    answers: list[Detections],
    errors: list[PlantedError],
    seed: int,
    pictures: list[Picture],
) -> dict[str, float]:
    """Figures of one draw."""
    from sklearn.metrics import average_precision_score

    is_bad = np.zeros(len(given), bool)
    is_bad[[error.image for error in errors]] = True
    started = time.process_time()
    extent = [float(max(data.size))] * len(given)
    issues = score_boxes(given, answers, extent, len(data.classes), seed=seed, pictures=pictures)
    ours = average_precision_score(is_bad, image_doubt(issues, len(given)))
    between = time.process_time()
    quality = object_lab_quality(given, answers, len(data.classes))
    finished = time.process_time()
    held, kind = hits(issues, errors)
    return {
        "ours": 1 - float(ours),
        "peer": 1 - float(average_precision_score(is_bad, 1 - quality)),
        "held": held,
        "kind": kind,
        "seconds": between - started,
        "peer seconds": finished - between,
    }


def hits(issues: list[BoxIssue], errors: list[PlantedError]) -> tuple[float, float]:
    """Share of the errors that a list of their number holds; of those, named correctly."""
    listed = sorted(issues, key=lambda issue: -issue.probability)[: len(errors)]
    found = named = 0
    for error in errors:
        place = np.array([error.xyxy], np.float32)
        there = [
            issue
            for issue in listed
            if issue.image == error.image and box_iou(place, issue.xyxy[None])[0, 0] >= SAME
        ]
        found += bool(there)
        named += bool(there) and there[0].kind == error.kind
    return found / max(1, len(errors)), named / max(1, found)


if __name__ == "__main__":
    main()
