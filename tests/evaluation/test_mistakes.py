"""Mistakes by kind: what is taken for what, missed, invented."""

from __future__ import annotations

import cv2
import numpy as np
import pandas

from visionloop.core.entities import AttributeProbabilities, ClassProbabilities, Detections
from visionloop.evaluation.answers import AnsweredSamples
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.mistakes import draw_mistakes, find_mistakes

NOWHERE = np.zeros((0, 4), np.float32)


def samples(count: int) -> pandas.DataFrame:
    names = [f"{number}.png" for number in range(count)]
    return pandas.DataFrame({"sample_id": names, "file_name": names, "group": names})


def test_classes_most_frequent_kind_first_and_surest_example_first() -> None:
    rows = [(0, 0.9), (0, 0.3), (0, 0.1), (1, 0.4), (1, 0.8)]
    answers = [ClassProbabilities(np.array([one, 1 - one], np.float32)) for _, one in rows]
    truths = [Truth(np.array([true]), NOWHERE) for true, _ in rows]
    answered = AnsweredSamples(samples(5), truths, answers, "classification", ["a", "b"], {})
    found = find_mistakes(answered)
    assert list(found) == ["a taken for b", "b taken for a"]
    assert [one.row for one in found["a taken for b"]] == [2, 1]
    assert [one.row for one in found["b taken for a"]] == [4]


def test_boxes(tmp_path) -> None:
    truth = Truth(np.array([0, 1]), np.array([[10, 10, 30, 30], [50, 50, 70, 70]], np.float32))
    found = Detections(
        np.array([[11, 10, 30, 30], [80, 5, 95, 20], [0, 80, 10, 99]], np.float32),
        np.array([1, 0, 0]),
        np.array([0.8, 0.7, 0.2]),
    )
    answered = AnsweredSamples(samples(1), [truth], [found], "detection", ["a", "b"], {})
    kinds = find_mistakes(answered)
    assert {kind: len(rows) for kind, rows in kinds.items()} == {
        "a taken for b": 1,
        "b missed": 1,
        "a where nothing is": 1,
    }
    cv2.imwrite(str(tmp_path / "0.png"), np.full((100, 100, 3), 90, np.uint8))
    picture = draw_mistakes(tmp_path / "mistakes.png", answered, tmp_path)
    assert cv2.imread(str(picture)).shape[0] > 500, "three rows of examples"


def test_attributes_and_nothing_wrong(tmp_path) -> None:
    truth = Truth(np.array([0]), NOWHERE)
    answer = AttributeProbabilities(np.array([0.2, 0.9], np.float32))
    answered = AnsweredSamples(samples(1), [truth], [answer], "scene", ["day", "rain"], {})
    assert set(find_mistakes(answered)) == {"day missed", "rain wrongly said"}
    right = AttributeProbabilities(np.array([0.9, 0.1], np.float32))
    fine = AnsweredSamples(samples(1), [truth], [right], "scene", ["day", "rain"], {})
    assert not find_mistakes(fine)
    assert draw_mistakes(tmp_path / "none.png", fine, tmp_path).stat().st_size > 500
