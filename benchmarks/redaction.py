"""Redaction: how many heads it hides, how much else, and what an attacker gets back.

668 annotated heads of 181 hard-hat pictures, each answered by a detector that never saw it
(``head_detectors.py``: two trainings of 1,000 image passes, about ten minutes the first time,
then kept). A head is hidden if at least 90 % of its box is redacted. Peer: the upper part of
every person that YOLOX-Nano (COCO) finds, at the same confidence, which is what one does
without a head detector. The attack: whoever has all original heads says which one is under a
redaction, by nearest neighbour after the same filter ("parrot attack", arXiv:1609.00408).

    python benchmarks/redaction.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from head_detectors import FoldPackage, HeadPicture, load_fold_packages, load_pictures, share_out
from numpy.typing import NDArray
from report import make_row, save_results

from visionloop.core.entities import Detections
from visionloop.core.geometry import box_iou, suppress_non_maximum
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import track
from visionloop.data.collection.obscure import MODES, kept_bits, obscure, widen
from visionloop.data.collection.redaction import Redactor
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor

CONFIDENCES = (0.01, 0.03, 0.05, 0.25)
MARGIN = 0.25
CHECKED = 12
"""Pictures on which the boxes measured here are compared with those of the redactor itself."""
DEFAULT = 0.05
HIDDEN = 0.9
PEER_PIXELS = 416
PEER_STRIDES = (8, 16, 32)
UPPER_PART = 0.35
"""Share of a person's height in which the head is looked for."""
SIDE = 64
"""Of a head in the attack, pixels."""

Boxes = NDArray[np.float32]


def main() -> None:
    """Measure, print the table, write ``results/redaction.json``."""
    set_quiet_environment()
    pictures = load_pictures()
    folds = share_out(pictures)
    packages = load_fold_packages(pictures, folds)
    rows = []
    facts: dict[str, Any] = {"heads": sum(len(one.heads) for one in pictures)}
    heads = find_heads(pictures, folds, packages)
    persons = find_upper_parts(pictures)
    for confidence in CONFIDENCES:
        ours, peer = (measure(pictures, found, confidence) for found in (heads, persons))
        rows += recall_rows(ours, peer, confidence)
        facts[f"confidence {confidence}"] = {"ours": ours, "yolox-nano persons": peer}
    rows += attack_rows(pictures)
    save_results("redaction", rows, **facts)


def find_heads(
    pictures: Sequence[HeadPicture], folds: NDArray[np.int64], packages: Sequence[FoldPackage]
) -> list[Detections]:
    """Heads in each picture, by the package that never saw it."""
    predictors = [
        Predictor(load_package(one.path, trusted_keys=[one.public_key]), threads=1)
        for one in packages
    ]
    found = []
    for picture, fold in zip(track(pictures, "finding heads"), folds, strict=True):
        (answer,) = predictors[fold].predict([picture.image], minimum_confidence=min(CONFIDENCES))
        assert isinstance(answer.answer, Detections)
        found.append(answer.answer)
    check_redactor(pictures, folds, packages, found)
    return found


def check_redactor(
    pictures: Sequence[HeadPicture],
    folds: NDArray[np.int64],
    packages: Sequence[FoldPackage],
    found: Sequence[Detections],
) -> None:
    """What is measured here is what the redactor does, to the pixel."""
    redactors = [
        Redactor(one.path, ["head"], "blur", DEFAULT, MARGIN, [one.public_key], threads=1)
        for one in packages
    ]
    for place in range(0, len(pictures), len(pictures) // CHECKED):
        picture = pictures[place]
        expected = hidden_boxes(picture, found[place], DEFAULT)
        hidden, boxes = redactors[folds[place]].redact(picture.image)
        if not np.array_equal(np.array(boxes).reshape(-1, 4), expected):
            raise SystemExit(f"{picture.name}: the redactor hides other boxes than were measured")
        changed = (hidden != picture.image).any(axis=2)
        if (changed & ~paint(expected, changed.shape)).any():
            raise SystemExit(f"{picture.name}: the redactor changed pixels outside of its boxes")


def hidden_boxes(picture: HeadPicture, found: Detections, confidence: float) -> Boxes:
    """The boxes that are filled at a confidence."""
    height, width = picture.image.shape[:2]
    sure = found.xyxy[found.confidence >= confidence]
    return widen(sure, MARGIN, width=width, height=height)


def measure(
    pictures: Sequence[HeadPicture], found_boxes: Sequence[Detections], confidence: float
) -> dict[str, Any]:
    """Shares of the heads that are hidden and found, and of the area that is redacted."""
    hidden: list[bool] = []
    found: list[bool] = []
    bare: list[bool] = []
    area, needed, total = 0.0, 0.0, 0.0
    clean = 0
    for picture, detections in zip(pictures, found_boxes, strict=True):
        tight = detections.xyxy[detections.confidence >= confidence]
        mask = paint(hidden_boxes(picture, detections, confidence), picture.image.shape)
        shares = [covered_share(mask, head) for head in picture.heads]
        hidden += [share >= HIDDEN for share in shares]
        overlap = box_iou(picture.heads, tight) if len(tight) else np.zeros((len(shares), 1))
        found += (overlap.max(axis=1) >= 0.5).tolist()
        bare += picture.is_bare.tolist()
        area += float(mask.sum())
        needed += float(paint(picture.heads, picture.image.shape).sum())
        total += mask.size
        clean += all(share >= HIDDEN for share in shares)
    is_bare = np.array(bare)
    return {
        "hidden": float(np.mean(hidden)),
        "hidden_heads": int(np.sum(hidden)),
        "hidden_helmet": float(np.array(hidden)[~is_bare].mean()),
        "hidden_no_helmet": float(np.array(hidden)[is_bare].mean()),
        "found_iou50": float(np.mean(found)),
        "pictures_without_a_visible_head": clean / len(pictures),
        "area_redacted": area / total,
        "area_of_heads": needed / total,
    }


def paint(boxes: Boxes, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels of boxes: bool (H, W)."""
    mask = np.zeros(shape[:2], bool)
    for x1, y1, x2, y2 in np.rint(boxes).astype(int):
        mask[max(0, y1) : y2, max(0, x1) : x2] = True
    return mask


def covered_share(mask: NDArray[np.bool_], head: Boxes) -> float:
    """Share of a head's box, inside the picture, that is redacted."""
    x1, y1, x2, y2 = np.rint(head).astype(int)
    inside = mask[max(0, y1) : y2, max(0, x1) : x2]
    return float(inside.mean()) if inside.size else 1.0


def recall_rows(
    ours: dict[str, Any], peer: dict[str, Any], confidence: float
) -> list[dict[str, Any]]:
    """Rows of one confidence."""
    name = "upper 35 % of YOLOX-Nano persons"
    at = f"confidence {confidence:g}, margin {MARGIN:g}"
    claims = (
        ("heads hidden (>= 90 % of the box)", "hidden", True),
        ("heads with a helmet hidden", "hidden_helmet", True),
        ("heads without a helmet hidden", "hidden_no_helmet", True),
        ("heads detected with IoU >= .5 (boxes before widening)", "found_iou50", True),
        ("pictures with no visible head left", "pictures_without_a_visible_head", True),
        ("share of the picture redacted", "area_redacted", False),
    )
    return [
        make_row(
            f"{claim}, {at}",
            ours[key],
            peer=peer[key],
            peer_name=name,
            target=0.95 if key == "hidden" and confidence == DEFAULT else None,
            higher_is_better=is_better,
        )
        for claim, key, is_better in claims
    ]


def find_upper_parts(pictures: Sequence[HeadPicture]) -> list[Detections]:
    """The peer: the upper part of every person that YOLOX-Nano finds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolox_nano.onnx"
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    found = []
    for picture in track(pictures, "finding persons"):
        height, width = picture.image.shape[:2]
        scale = PEER_PIXELS / max(height, width)
        padded = np.full((PEER_PIXELS, PEER_PIXELS, 3), 114, np.uint8)
        small = cv2.resize(picture.image, (round(width * scale), round(height * scale)))
        padded[: small.shape[0], : small.shape[1]] = small
        (raw,) = session.run(None, {name: padded.transpose(2, 0, 1)[None].astype(np.float32)})
        boxes, sure = decode_persons(np.asarray(raw)[0])
        boxes /= scale
        boxes[:, 3] = boxes[:, 1] + UPPER_PART * (boxes[:, 3] - boxes[:, 1])
        found.append(Detections(boxes, np.zeros(len(boxes), np.int64), sure))
    return found


def decode_persons(raw: NDArray[np.float32]) -> tuple[Boxes, NDArray[np.float32]]:
    """YOLOX's grid output (3549, 85) to boxes of class 0 and confidences, after non-maximum
    suppression."""
    grids, strides = [], []
    for stride in PEER_STRIDES:
        side = PEER_PIXELS // stride
        y, x = np.mgrid[:side, :side]
        grids.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((side * side, 1), stride))
    grid, step = np.concatenate(grids), np.concatenate(strides)
    centre, size = (raw[:, :2] + grid) * step, np.exp(raw[:, 2:4]) * step
    sure = raw[:, 4] * raw[:, 5]
    boxes = np.hstack([centre - size / 2, centre + size / 2]).astype(np.float32)
    kept = sure >= min(CONFIDENCES)
    boxes, sure = boxes[kept], sure[kept].astype(np.float32)
    chosen = suppress_non_maximum(boxes, sure, np.zeros(len(boxes), np.int64), max_iou=0.6)
    return np.asarray(boxes[chosen], np.float32), np.clip(sure[chosen], 0, 1)


def attack_rows(pictures: Sequence[HeadPicture]) -> list[dict[str, Any]]:
    """How often the attacker names the right one of all heads; plain blurring is the peer.

    Each head is put into the surroundings of another one, so that only what the redaction
    keeps of the head itself can help.
    """
    generator = np.random.default_rng(0)
    heads = np.stack([cut(one, head, 0.0, SIDE) for one in pictures for head in one.heads])
    around = np.stack([cut(one, head, 0.5, 2 * SIDE) for one in pictures for head in one.heads])
    scenes = around[generator.permutation(len(heads))]
    low, high = SIDE // 2, SIDE // 2 + SIDE
    scenes[:, low:high, low:high] = heads
    peer = name_heads([plain_blur(head) for head in heads], [plain_blur(head) for head in heads])
    box = np.array([[low, low, high, high]], np.float32)
    rows = []
    for mode in MODES:
        for cells in (0, 2, 4):
            hidden = [
                obscure(scene, box, mode=mode, cells=cells, generator=generator) for scene in scenes
            ]
            # Who attacks runs the same filter on what he has, with noise of his own.
            whole = np.array([[0, 0, SIDE, SIDE]], np.float32)
            guesses = [
                obscure(head, whole, mode=mode, cells=cells or 4, generator=generator)
                for head in heads
            ]
            share = name_heads([one[low:high, low:high] for one in hidden], guesses)
            kept = f"{kept_bits(SIDE, SIDE, cells)} bits kept" if cells else "nothing kept"
            rows.append(
                make_row(
                    f"heads named right of {len(heads)}, {mode}, {kept}",
                    share,
                    peer=peer,
                    peer_name="Gaussian blur, sigma a quarter of the box",
                    # Chance is one; up to five is within 99.9 % of chance (Poisson).
                    target=5 / len(heads) if not cells else None,
                    higher_is_better=False,
                )
            )
    return rows


def cut(picture: HeadPicture, head: Boxes, margin: float, side: int) -> NDArray[np.uint8]:
    """A head with a margin, resized to (side, side, 3)."""
    height, width = picture.image.shape[:2]
    boxes = widen(head[None], margin, width=width, height=height)
    x1, y1, x2, y2 = boxes[0].astype(int)
    inside = picture.image[y1:y2, x1:x2]
    return np.asarray(cv2.resize(inside, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def plain_blur(head: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is often called anonymised."""
    return np.asarray(cv2.GaussianBlur(head, (0, 0), SIDE / 4), np.uint8)


def name_heads(hidden: Sequence[NDArray[np.uint8]], guesses: Sequence[NDArray[np.uint8]]) -> float:
    """Share of the redacted heads whose nearest guess is the right one."""
    first = np.stack(hidden).reshape(len(hidden), -1).astype(np.float32)
    second = np.stack(guesses).reshape(len(guesses), -1).astype(np.float32)
    distance = (first**2).sum(1)[:, None] - 2 * first @ second.T + (second**2).sum(1)
    return float((distance.argmin(axis=1) == np.arange(len(first))).mean())


if __name__ == "__main__":
    main()
