"""Doubtful boxes: what a model that has not learned them, and the picture, say against them.

Four kinds: a confident answer where nothing is annotated (*missing*), an annotation where the
model sees nothing (*spurious*), one that overlaps badly (*shifted*) or carries another class
(*swapped*). :mod:`visionloop.data.quality.box_scorer` learns from planted errors how probable
each is; where there are too few boxes to learn from, rules compare them (``compare_boxes``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation, Detections
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.progress import say_step, track
from visionloop.core.tables import PREDICTIONS, read_table
from visionloop.core.workspace import Workspace
from visionloop.data.quality.box_rules import compare_boxes, make_finding, measure_recall
from visionloop.data.quality.box_scorer import MIN_BOXES, BoxIssue, score_boxes
from visionloop.data.quality.crop_evidence import Picture
from visionloop.data.raw import read_samples

if TYPE_CHECKING:
    from visionloop.serving.package import ModelPackage

__all__ = ["find_box_issues", "object_lab_quality"]

Boxes = tuple[NDArray[np.float32], NDArray[np.int64]]
LOWEST_CONFIDENCE = 0.01
"""Answers below it say nothing."""
LOWEST_PROBABILITY = 0.05
"""Of an error, to be worth a line."""


def find_box_issues(
    workspace: Workspace, rows: list[Annotation], suspects: set[str], classes: list[str]
) -> list[dict[str, Any]]:
    """Findings on the boxes of the suspects.

    Predictions come from ``data/predictions.parquet`` where it is, else from the package
    in ``artifacts/package``; samples that the package was trained on are left out, as it
    would only repeat what it was told.

    Raises
    ------
    DataError, PackageError
        If there is neither, or the package cannot be trusted.
    """
    answers = _predictions(workspace, sorted(suspects))
    if not answers:
        return []
    index = {name: number for number, name in enumerate(classes)}
    boxes: dict[str, list[Annotation]] = {one: [] for one in answers}
    for row in rows:
        if row.sample_id in boxes and row.xyxy is not None:
            boxes[row.sample_id].append(row)
    given = {one: _boxes_of(boxes[one], index) for one in answers}
    if sum(len(xyxy) for xyxy, _ in given.values()) < MIN_BOXES:
        return _compare_all(given, answers, classes)
    samples = read_samples(workspace).set_index("sample_id")
    extent = [float(max(samples.loc[one, ["width", "height"]])) for one in answers]
    ids = list(answers)
    issues = score_boxes(
        list(given.values()),
        list(answers.values()),
        extent,
        len(classes),
        pictures=[_picture(workspace.images / samples.at[one, "file_name"]) for one in ids],
    )
    return [
        {"sample_id": ids[issue.image], **_explain(issue, given, answers, ids, classes)}
        for issue in issues
        if issue.probability >= LOWEST_PROBABILITY
    ]


def _picture(path: Path) -> Picture:
    """Reads a sample as grey levels."""
    from visionloop.serving.images import read_image

    def read() -> NDArray[np.uint8]:
        return np.asarray(cv2.cvtColor(read_image(path), cv2.COLOR_BGR2GRAY), np.uint8)

    return read


def _explain(
    issue: BoxIssue,
    given: dict[str, Boxes],
    answers: dict[str, Detections],
    ids: list[str],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Kind, reason, severity, suggestion and box of an issue, for people."""
    one = ids[issue.image]
    answer = answers[one]
    own = classes[int(given[one][1][issue.box])] if issue.box >= 0 else ""
    name, said = "", "sees nothing there"
    if issue.answer >= 0:
        name = classes[int(answer.class_id[issue.answer])]
        said = f"says '{name}' ({float(answer.confidence[issue.answer]):.0%}) there"
    reason = {
        "missing": f"Nothing is annotated, but the model {said}.",
        "spurious": f"Annotated '{own}', but there is little sign of it.",
        "shifted": f"Annotated '{own}', but the model draws it elsewhere.",
        "swapped": f"Annotated '{own}', but the model {said}.",
    }[issue.kind]
    reason += f" An error with {issue.probability:.0%}."
    suggestion = name if issue.kind in ("missing", "swapped") and name != own else ""
    is_elsewhere = issue.kind == "shifted" and issue.answer >= 0
    better = answer.xyxy[issue.answer] if is_elsewhere else None
    return make_finding(issue.kind, reason, issue.probability, suggestion, issue.xyxy, better)


def _compare_all(
    given: dict[str, Boxes], answers: dict[str, Detections], classes: Sequence[str]
) -> list[dict[str, Any]]:
    pairs = list(given.values()), list(answers.values())
    recall = measure_recall(*pairs, len(classes))
    quality = object_lab_quality(*pairs, len(classes))
    found = []
    for one, doubt in zip(answers, 1 - quality, strict=True):
        for issue in compare_boxes(*given[one], answers[one], classes, recall):
            # Nine parts what is wrong with this box, one part how odd the whole image is.
            severity = 0.9 * issue["severity"] + 0.1 * float(doubt)
            found.append({"sample_id": one, **issue, "severity": severity})
    return found


def object_lab_quality(
    given: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    answers: Sequence[Detections],
    classes: int,
) -> NDArray[np.float64]:
    """ObjectLab's quality of each image's annotations, in [0, 1]; 1 is good.

    Parameters
    ----------
    given : sequence of (xyxy float32 (N, 4), class_id int64 (N,))
    answers : sequence of Detections
    classes : int
    """
    from cleanlab.object_detection.rank import get_label_quality_scores

    labels = [{"bboxes": xyxy, "labels": class_id} for xyxy, class_id in given]
    predictions = []
    for answer in answers:
        rows = np.concatenate([answer.xyxy, answer.confidence[:, None]], axis=1)
        by_class = np.empty(classes, object)
        for number in range(classes):
            by_class[number] = rows[answer.class_id == number].astype(np.float64)
        predictions.append(by_class)
    return np.asarray(get_label_quality_scores(labels, predictions, verbose=False), np.float64)


def _boxes_of(
    rows: list[Annotation], index: dict[str, int]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    xyxy = np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4)
    return xyxy, np.array([index[row.class_name] for row in rows], np.int64)


def _predictions(workspace: Workspace, suspects: list[str]) -> dict[str, Detections]:
    path = workspace.root / "data" / "predictions.parquet"
    if path.exists():
        frame = read_table(path, PREDICTIONS)
        frame = frame[frame["sample_id"].isin(suspects) & frame["xyxy"].notna()]
        return {row.sample_id: _detections(row) for row in frame.itertuples()}
    from visionloop.serving.package import load_package

    if not workspace.package.is_dir():
        raise DataError(
            "label issues",
            "need a model's answers, and there is no package yet",
            "visionloop train export makes artifacts/package",
        )
    package = load_package(workspace.package)
    learned = _learned_samples(workspace, package)
    fresh = [one for one in suspects if one not in learned]
    if len(fresh) < len(suspects):
        say_step(f"{len(suspects) - len(fresh)} samples are left out: the package learned them")
    return _predict(workspace, package, fresh)


def _learned_samples(workspace: Workspace, package: ModelPackage) -> set[str]:
    """Samples of the dataset version that the package was trained on."""
    wanted = package.manifest.lineage.dataset_fingerprint
    for path in sorted(workspace.versions.glob("*/manifest.json")):
        if read_json(path)["fingerprint"] == wanted:
            from visionloop.data.versions.version import load_version

            samples = load_version(path.parent, workspace.images).samples
            return set(samples.loc[samples["split"] != "test", "sample_id"])
    raise DataError(
        f"package {package.sha256[:12]}",
        f"was trained on dataset version {wanted[:12]}, which is not here",
        "bring that version back (dvc checkout): only then can it be told what it has learned",
    )


def _predict(
    workspace: Workspace, package: ModelPackage, sample_ids: list[str]
) -> dict[str, Detections]:
    from visionloop.serving.images import read_image
    from visionloop.serving.predictor import Predictor

    samples = read_samples(workspace)
    names = dict(zip(samples["sample_id"], samples["file_name"], strict=True))
    predictor = Predictor(package)
    answers: dict[str, Detections] = {}
    for one in track(sample_ids, "asking the model about annotated boxes"):
        image = read_image(workspace.images / names[one])
        (prediction,) = predictor.predict([image], minimum_confidence=LOWEST_CONFIDENCE)
        assert isinstance(prediction.answer, Detections)
        answers[one] = prediction.answer
    return answers


def _detections(row: Any) -> Detections:
    return Detections(
        np.array([list(box) for box in row.xyxy], np.float32).reshape(-1, 4),
        np.array(row.class_id, np.int64),
        np.array(row.confidence, np.float32),
    )
