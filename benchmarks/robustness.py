"""Eight conditions that no training used, severity 3, 150 pictures: what others in training buy.

YOLOv8n from COCO weights on steel surfaces (NEU-DET, 1,800 pictures, 224 px), twice, by the same
trainer with equal image passes: with Ultralytics' default augmentation (``robustness_peer.py``),
and with that of the training stage, half of the pictures under one of 19 *other* conditions of the
data stage, drawn anew in every pass, at severities 1 to 4. 150 pictures that neither training saw
are then judged clean and under each of the eight conditions. mPC is the mean mAP50 over the
conditions, rPC its share of the clean mAP50; intervals are paired, over pictures. Beside rPC stand
the best public ones (COCO-C, mAP50-95, 15 conditions and 5 severities: 50 % as it comes, 70 % at
best), which are of other data. ``--data bccd``: the same on blood cells (364 pictures, 320 px), on
which the eight conditions hardly hurt anybody.

Twins of the eight (other people's blur, noise and compression of the same kind) are not learned;
some relatives are (vibration of motion blur, sensor noise of shot noise), as in every study of
this kind.

A file an arm; a training that was cut off by ``--minutes`` goes on at its last epoch. One seed.

    python benchmarks/robustness.py [--data neu-det] [--passes 8000] [--minutes 45] [--report]
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from family_runs import make_project, train_within
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Detections
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.archive_dataset import open_archive_dataset
from visionloop.data.datasets.known import KNOWN
from visionloop.data.datasets.table import RawSample
from visionloop.data.synthesis.conditions.table import apply_condition_to_sample
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.detection import DetectionMetrics
from visionloop.evaluation.intervals import draw_weights, interval_of_difference
from visionloop.serving.images import decode_image
from visionloop.serving.postprocess import decode
from visionloop.serving.preprocess import make_batch
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.families.table import load_family

FOLDER = RESULTS / "robustness"
SIZES = {"neu-det": 224, "bccd": 320}
"""Data to the side of the input, pixels."""
JUDGED = ("darkness", "glare", "fog", "droplets", "vibration", "defocus", "noise", "compression")
LEARNED = ("overexposure", "brightness", "contrast", "flicker", "colour_cast", "blur", "zoom_blur",
           "chromatic_aberration", "dirt", "scratched_glass", "occlusion", "occlusion_objects",
           "row_noise", "shot_noise", "impulse_noise", "dead_pixels", "low_resolution", "pixelate",
           "lost_packets")  # fmt: skip
SEVERITY, TESTS = 3, 150
AUGMENT = {
    "default": {"strength": "none"},  # what Ultralytics does instead
    "conditions": {"strength": "light", "conditions": list(LEARNED), "condition_share": 0.5,
                   "max_severity": 4},
}  # fmt: skip
PEER = str(Path(__file__).parent / "robustness_peer.py")
PUBLIC = (0.50, 0.70)
"""rPC of a plain and of the best public detector on COCO-C."""
DRAWS = 1000

Answers = dict[str, tuple[list[Truth], list[Detections]]]


def main() -> None:
    """Train what is missing, judge both, write ``results/robustness.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="neu-det", choices=list(SIZES))
    parser.add_argument("--passes", type=int, default=8000, help="image passes of each training")
    parser.add_argument("--minutes", type=float, default=45.0, help="end after so long; 0 never")
    parser.add_argument("--arms", nargs="+", default=list(AUGMENT), choices=list(AUGMENT))
    parser.add_argument("--report", action="store_true", help="only what is there already")
    options = parser.parse_args()
    set_quiet_environment()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    samples = list(open_archive_dataset(options.data))
    order = np.random.default_rng(0).permutation(len(samples))
    study = Study(options.data, options.passes, [samples[one] for one in order])
    metrics: dict[str, dict[str, DetectionMetrics]] = {}
    for arm in AUGMENT:
        path = FOLDER / f"{study.data}-{arm}-{options.passes}.npz"
        is_wanted = arm in options.arms and not options.report
        if not path.is_file() and is_wanted and time.monotonic() < end:
            run(arm, study, end, path)
        if path.is_file():
            metrics[arm] = load_metrics(path, study)
    if len(metrics) < len(AUGMENT):
        say_step("unfinished: the same command goes on at the last epoch")
        return
    save_results("robustness", rows(metrics["conditions"], metrics["default"]), data=study.data)


@dataclass(frozen=True)
class Study:
    """What both arms share.

    Attributes
    ----------
    data : str
        Archive.
    passes : int
        Image passes of a training.
    samples : list of RawSample
        In random order: the first are judged, of the others a tenth chooses the epoch.
    """

    data: str
    passes: int
    samples: list[RawSample]

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(KNOWN[self.data].classes)

    @property
    def tests(self) -> list[RawSample]:
        """The judged pictures."""
        return self.samples[:TESTS]


def run(arm: str, study: Study, end: float, path: Path) -> None:
    """Train an arm and keep its answers; nothing is written if it was cut off."""
    workspace = Workspace(FOLDER / "work" / path.stem)
    if not workspace.params.is_file():
        prepare(workspace, arm, study)
    say_step(f"{study.data}, {arm}: {study.passes:,} image passes")
    left = None if end == float("inf") else max(1.0, end - time.monotonic())
    program = [PEER] if arm == "default" else ["-m", "visionloop.training"]
    if not train_within(workspace, left, program):
        return
    save_answers(path, workspace, study)
    shutil.rmtree(workspace.root)


def prepare(workspace: Workspace, arm: str, study: Study) -> None:
    """A project of the pictures that are not judged; a tenth of them chooses the epoch."""
    rest = study.samples[TESTS:]
    val = len(rest) // 10
    splits = ["val"] * val + ["train"] * (len(rest) - val)
    make_project(
        workspace,
        rest,
        vision_task="detection",
        classes=study.classes,
        annotations=[one.annotations for one in rest],
        splits=splits,
        groups=[f"{split}-{one.sample_id}" for one, split in zip(rest, splits, strict=True)],
        training={"family": "yolo", "weights": "yolov8n", "mode": "full",
                  "image_size": SIZES[study.data], "image_passes": study.passes,
                  "batch_size": 16, "learning_rate": 0.001, "weight_decay": 0.0005,
                  "augment": AUGMENT[arm]},
    )  # fmt: skip


def save_answers(path: Path, workspace: Workspace, study: Study) -> None:
    """The boxes of the trained network on the judged pictures, clean and under conditions."""
    checkpoint = load_checkpoint(workspace.checkpoint)
    family = load_family(checkpoint.facts.family, workspace.root)
    network = family.build(checkpoint)
    order = [checkpoint.facts.classes.index(name) for name in study.classes]
    smallest = np.full(len(study.classes), 0.001, np.float32)
    found: dict[str, Any] = {}
    for condition in ("clean", *JUDGED):
        rows = []
        for place, sample in enumerate(track(study.tests, f"answers, {condition}")):
            image = under(sample, study.classes, condition)[0]
            batch, placements = make_batch([image], checkpoint.facts.input)
            with torch.inference_mode():
                output = network(torch.from_numpy(batch))[0].numpy()
            (answer,) = decode(output, placements, kind=family.outputs.kind,
                               minimum_confidence=smallest, max_iou=0.6)  # fmt: skip
            assert isinstance(answer, Detections)
            numbers = np.array([order.index(int(one)) for one in answer.class_id])
            rows.append(
                np.column_stack(
                    [np.full(len(answer), place), numbers, answer.confidence, answer.xyxy]
                ).reshape(-1, 7)
            )
        found[condition] = np.concatenate(rows).astype(np.float32)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **found)


def load_metrics(path: Path, study: Study) -> dict[str, DetectionMetrics]:
    """Condition to its metrics."""
    found = np.load(path)
    limits = dict.fromkeys(study.classes, 0.5)
    made = {}
    for condition in ("clean", *JUDGED):
        table = found[condition]
        answers = []
        for place in range(TESTS):
            rows = table[table[:, 0] == place]
            answers.append(Detections(rows[:, 3:], rows[:, 1].astype(np.int64), rows[:, 2]))
        truths = [under(one, study.classes, condition)[1] for one in study.tests]
        made[condition] = DetectionMetrics(truths, answers, study.classes, limits)
    return made


def under(
    sample: RawSample, classes: Sequence[str], condition: str
) -> tuple[NDArray[np.uint8], Truth]:
    """A judged picture under a condition, and what is to be found on it."""
    image = decode_image(sample.content)
    boxes = [one for one in sample.annotations if one.xyxy is not None]
    xyxy = np.array([one.xyxy for one in boxes], np.float32).reshape(-1, 4)
    class_id = np.array([list(classes).index(one.class_name) for one in boxes], np.int64)
    if condition == "clean":
        return image, Truth(class_id, xyxy)
    seed = int(sample.sample_id[:8], 16)
    done = apply_condition_to_sample(image, xyxy, condition, SEVERITY, seed)
    return done.image, Truth(class_id[done.kept], done.xyxy)


def rows(ours: dict[str, DetectionMetrics], peer: dict[str, DetectionMetrics]) -> list[Any]:
    """mPC, rPC, clean, and each condition."""
    peer_name = "Ultralytics' default augmentation"
    weights = draw_weights([str(one) for one in range(TESTS)], draws=DRAWS, seed=0)
    both = [{name: drawn(one, weights) for name, one in arm.items()} for arm in (ours, peer)]
    mean = [np.mean([arm[name] for name in JUDGED], axis=0) for arm in both]
    clean = [arm["clean"] for arm in both]
    gain, loss = span(mean[0] - mean[1]), span(clean[1] - clean[0])
    made = [
        make_row(f"mPC, {len(JUDGED)} conditions, severity {SEVERITY}", mean[0][0],
                 peer=mean[1][0], peer_name=peer_name),
        make_row("mPC, ours less the peer's (paired)", mean[0][0] - mean[1][0], spread=gain,
                 met=gain[0] > 0),
        make_row("clean mAP50, the peer's less ours", clean[1][0] - clean[0][0], spread=loss,
                 target=0.02, higher_is_better=False),
        make_row("clean mAP50", clean[0][0], peer=clean[1][0], peer_name=peer_name),
        make_row("rPC", mean[0][0] / clean[0][0], peer=mean[1][0] / clean[1][0],
                 peer_name=peer_name),
        make_row("rPC beside the best public one, of other data", mean[0][0] / clean[0][0],
                 peer=PUBLIC[1], peer_name="COCO-C at best"),
        make_row("rPC beside a plain public one, of other data", mean[0][0] / clean[0][0],
                 peer=PUBLIC[0], peer_name="COCO-C as it comes"),
    ]  # fmt: skip
    for name in JUDGED:
        difference = both[0][name] - both[1][name]
        row = make_row(f"mAP50 under {name}", both[0][name][0], peer=both[1][name][0],
                       peer_name=peer_name, spread=span(difference))  # fmt: skip
        made.append(row)
    return made


def drawn(metrics: DetectionMetrics, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """mAP50 of the pictures as they are, then of each resampling."""
    rows = np.concatenate([np.ones((1, len(metrics))), weights])
    return metrics.resampled(rows)["map50"]


def span(difference: NDArray[np.float64]) -> tuple[float, float]:
    """The interval of a difference whose first row is that of the pictures as they are."""
    return interval_of_difference(float(difference[0]), difference[1:], groups=TESTS)


if __name__ == "__main__":
    main()
