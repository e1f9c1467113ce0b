"""Label issues: planted errors are found, only the right people are doubted, and never by a
model that learned the annotation."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from visionloop.core.entities import Annotation, Detections
from visionloop.core.errors import DataError
from visionloop.core.tables import FINDINGS, PREDICTIONS, read_table, write_table
from visionloop.data.embeddings import Embeddings, save_embeddings
from visionloop.data.formats import coco
from visionloop.data.quality.box_issues import object_lab_quality
from visionloop.data.quality.box_rules import compare_boxes, measure_recall
from visionloop.data.quality.class_issues import rank_label_issues
from visionloop.data.quality.label_issues import find
from visionloop.data.splits.split import split
from visionloop.data.versions.freeze import freeze

CLASSES = ["functional", "defective"]


def clouds(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two overlapping classes in 32 dimensions."""
    rng = np.random.default_rng(seed)
    class_ids = np.arange(count) % 2
    vectors = rng.normal(size=(count, 32)) + 2.2 * class_ids[:, None] * (np.arange(32) < 4)
    return vectors.astype(np.float32), class_ids.astype(np.int64)


def test_planted_errors_rank_first():
    vectors, truth = clouds(300)
    rng = np.random.default_rng(1)
    planted = rng.choice(300, 15, replace=False)
    said = truth.copy()
    said[planted] = 1 - said[planted]
    groups = [f"g{number // 2}" for number in range(300)]
    ranked = rank_label_issues(vectors, said, groups, seed=0)
    worst = np.argsort(-ranked.severity)[:15]
    assert len(set(worst) & set(planted)) >= 8
    assert ranked.probabilities.shape == (300, 2)
    assert np.allclose(ranked.probabilities.sum(axis=1), 1)
    again = rank_label_issues(vectors, said, groups, seed=0)
    assert np.array_equal(ranked.severity, again.severity)


def test_too_few_groups_is_an_error():
    vectors, truth = clouds(20)
    with pytest.raises(DataError, match="2 groups for 5 folds"):
        rank_label_issues(vectors, truth, ["a", "b"] * 10, seed=0)


@pytest.fixture
def ready(fill, make, workspace):
    """60 expert samples and 60 of Label Studio, 4 of those wrong; embeddings that tell."""
    make.set_params(workspace, label_issues={"max_findings": 10})
    vectors, truth = clouds(120)
    samples = [
        make.raw_sample(
            make.png(make.picture(number)), CLASSES[truth[number]] if number < 60 else None
        )
        for number in range(120)
    ]
    fill(samples)
    ids = [row.sample_id for row in samples]
    wrong = {70, 81, 92, 103}
    rows = [
        Annotation(
            ids[number],
            CLASSES[1 - truth[number] if number in wrong else truth[number]],
            annotator="ann",
            source="studio",
        )
        for number in range(60, 120)
    ]
    images = [coco.CocoImage(one, f"{one}.png", 64, 64) for one in ids[60:]]
    coco.save(workspace.studio_annotations, images, rows, CLASSES)
    save_embeddings(workspace.embeddings, Embeddings(ids, vectors, "p" * 64))
    split(workspace=workspace)
    return ids, {ids[number] for number in wrong}


def test_findings_name_the_planted_errors_of_the_studio(ready, workspace):
    ids, wrong = ready
    report = find(workspace=workspace)
    assert (report.suspects, report.findings) == (60, 10)
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    assert set(frame["sample_id"]) <= set(ids[60:])
    assert len(set(frame["sample_id"].head(4)) & wrong) >= 3
    assert list(frame["severity"]) == sorted(frame["severity"], reverse=True)
    assert (frame["kind"] == "label_issue").all() and frame["xyxy"].isna().all()
    top = frame.iloc[0]
    assert top["suggestion"] in CLASSES and top["suggestion"] in top["reason"]


def test_all_annotations_can_be_suspects(ready, workspace, make):
    make.set_params(workspace, label_issues={"suspects": "all", "max_findings": 200})
    report = find(workspace=workspace)
    assert report.suspects == report.findings == 120


def test_without_suspects_the_table_is_empty(ready, workspace):
    workspace.studio_annotations.unlink()
    assert find(workspace=workspace).findings == 0
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    assert frame.empty


BOXES = ["open", "short"]


def answer(*rows) -> Detections:
    array = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(array[:, :4], array[:, 4].astype(np.int64), array[:, 5])


def test_four_kinds_of_wrong_boxes_are_told_apart():
    said = np.array(
        [[10, 10, 30, 30], [50, 50, 70, 70], [100, 100, 120, 120], [150, 10, 170, 30]], np.float32
    )
    class_ids = np.array([0, 0, 1, 1], np.int64)
    model = answer(
        (10, 10, 30, 30, 0, 0.9),  # agrees
        (60, 58, 80, 78, 0, 0.8),  # shifted
        (100, 100, 120, 121, 0, 0.95),  # swapped
        (200, 200, 220, 220, 1, 0.7),  # missing; nothing at 150: spurious
    )
    found = {
        row["kind"]: row for row in compare_boxes(said, class_ids, model, BOXES, np.full(2, 0.9))
    }
    assert set(found) == {"shifted", "swapped", "missing", "spurious"}
    assert found["missing"]["xyxy"] == [200, 200, 220, 220]
    assert found["missing"]["suggestion"] == "short"
    assert found["swapped"]["suggestion"] == "open"
    assert found["spurious"]["xyxy"] == [150, 10, 170, 30]
    assert all(0 <= row["severity"] <= 1 for row in found.values())


def test_images_without_boxes_on_either_side():
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    sees = np.full(2, 0.9)
    assert compare_boxes(*nothing, Detections.empty(), BOXES, sees) == []
    (row,) = compare_boxes(*nothing, answer((1, 1, 9, 9, 0, 0.5)), BOXES, sees)
    assert row["kind"] == "missing"
    quality = object_lab_quality(
        [nothing, (np.array([[1, 1, 9, 9]], np.float32), np.zeros(1, np.int64)), nothing],
        [Detections.empty(), Detections.empty(), answer((1, 1, 9, 9, 0, 0.9))],
        2,
    )
    assert quality.shape == (3,) and np.isfinite(quality).all()


def test_a_model_that_misses_much_is_a_weak_witness():
    said = np.array([[10, 10, 30, 30]], np.float32), np.zeros(1, np.int64)
    model = answer((200, 200, 220, 220, 1, 0.3))
    severities = [
        next(
            row["severity"]
            for row in compare_boxes(*said, model, BOXES, np.full(2, recall))
            if row["kind"] == "spurious"
        )
        for recall in (0.4, 0.7, 0.99)
    ]
    assert severities == sorted(severities) and severities[0] < 0.1 and severities[2] > 0.8
    recall = measure_recall([said] * 8, [answer((11, 11, 30, 30, 1, 0.9))] * 6 + [model] * 2, 2)
    assert recall == pytest.approx([7 / 10, 1 / 2])


@pytest.fixture
def boards(fill, make, workspace):
    """Six images: two with boxes of experts, four with boxes of Label Studio."""
    make.set_params(workspace, vision_task="detection", classes=BOXES, split={"val_fraction": 0.01})
    contents = [make.png(make.picture(number)) for number in range(6)]
    samples = [make.raw_sample(content) for content in contents]
    ids = [row.sample_id for row in samples]
    good = (12.0, 12.0, 28.0, 28.0)
    samples[:2] = [
        make.raw_sample(contents[n], annotations=(Annotation(ids[n], "open", good),))
        for n in range(2)
    ]
    fill(samples, classes=BOXES)
    rows = [
        Annotation(ids[2], "open", good, source="studio"),
        Annotation(ids[3], "short", good, source="studio"),
        Annotation(ids[4], "", None, source="studio"),
        Annotation(ids[5], "open", (40.0, 40.0, 60.0, 60.0), source="studio"),
    ]
    images = [coco.CocoImage(one, f"{one}.png", 64, 64) for one in ids[2:]]
    coco.save(workspace.studio_annotations, images, rows, BOXES)
    split(workspace=workspace)
    return ids


def kinds(workspace) -> dict[str, set[str]]:
    frame = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    return frame.groupby("sample_id")["kind"].agg(set).to_dict()


def test_boxes_are_doubted_by_a_package_that_has_not_learned_them(
    boards, workspace, make, signed, write_detector
):
    studio = workspace.studio_annotations.read_bytes()
    workspace.studio_annotations.unlink()
    frozen = freeze(workspace=workspace)
    workspace.studio_annotations.write_bytes(studio)
    box = [(20, 20, 16, 16, 0, 0.9)]
    write_detector(workspace.package, box, BOXES, frozen.fingerprint)
    report = find(workspace=workspace)
    assert report.suspects == 4
    assert kinds(workspace) == {
        boards[3]: {"swapped"},
        boards[4]: {"missing"},
        boards[5]: {"missing", "spurious"},
    }
    # Once it has learned them, it is not asked.
    make.set_params(workspace, vision_task="detection", classes=BOXES, version="v2")
    frozen = freeze(workspace=workspace)
    write_detector(workspace.package, box, BOXES, frozen.fingerprint)
    assert find(workspace=workspace).findings == 0
    write_detector(workspace.package, box, BOXES, "0" * 64)
    with pytest.raises(DataError, match="which is not here"):
        find(workspace=workspace)


def test_predictions_can_be_given_as_a_file(boards, workspace):
    row = {
        "sample_id": boards[3],
        "package": "p" * 64,
        "fold": 0,
        "probabilities": None,
        "xyxy": [[12.0, 12.0, 28.0, 28.0]],
        "class_id": [0],
        "confidence": [0.8],
        "embedding": None,
    }
    frame = pandas.DataFrame([row])
    write_table(workspace.root / "data" / "predictions.parquet", PREDICTIONS, frame)
    report = find(workspace=workspace)
    assert report.kinds == {"swapped": 1}


def test_without_a_package_the_next_step_is_said(boards, workspace):
    with pytest.raises(DataError, match="there is no package yet"):
        find(workspace=workspace)


def test_a_shifted_box_is_found_and_its_better_place_told(fill, make, workspace):
    """Enough boxes to learn from: the scorer reads the pictures and the model's answers."""
    make.set_params(workspace, vision_task="detection", classes=BOXES, split={"val_fraction": 0.01})
    generator = np.random.default_rng(0)
    samples, answers = [], {}
    for number in range(50):
        content = make.png(make.picture(number))
        one = make.raw_sample(content).sample_id
        corner = generator.uniform([2, 2, 2, 34], [40, 14, 40, 46]).reshape(2, 2)
        xyxy = np.concatenate([corner, corner + 14], axis=1)
        answers[one] = xyxy + generator.normal(0, 0.3, (2, 4))
        if number == 7:
            wrong = one
            xyxy[0] += np.array([8, 5, 8, 5])
        boxes = [
            Annotation(one, name, tuple(box.tolist()))
            for name, box in zip(BOXES, xyxy, strict=True)
        ]
        samples.append(make.raw_sample(content, annotations=tuple(boxes)))
    fill(samples, classes=BOXES)
    split(workspace=workspace)
    rows = [
        {
            "sample_id": one,
            "package": "p" * 64,
            "fold": 0,
            "probabilities": None,
            "xyxy": xyxy.tolist(),
            "class_id": [0, 1],
            "confidence": [0.9, 0.8],
            "embedding": None,
        }
        for one, xyxy in answers.items()
    ]
    frame = pandas.DataFrame(rows)
    write_table(workspace.root / "data" / "predictions.parquet", PREDICTIONS, frame)
    make.set_params(
        workspace,
        vision_task="detection",
        classes=BOXES,
        split={"val_fraction": 0.01},
        label_issues={"suspects": "all"},
    )
    find(workspace=workspace)
    worst = read_table(workspace.root / "data" / "findings.parquet", FINDINGS).iloc[0]
    assert (worst["sample_id"], worst["kind"]) == (wrong, "shifted")
    assert list(worst["suggested_xyxy"]) == pytest.approx(answers[wrong][0], abs=0.01)
