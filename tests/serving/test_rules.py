"""Rules that leave their limit to the package take it from its thresholds."""

import numpy as np
import pytest

from visionloop.core.entities import (
    AttributeProbabilities,
    ClassProbabilities,
    Detections,
    Prediction,
)
from visionloop.core.errors import ConfigError
from visionloop.serving.edge.rules.table import Scene, make_rules
from visionloop.serving.edge_params import RuleParams
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs


def manifest(task: str, kind: str, **thresholds: float) -> Manifest:
    return Manifest(
        name="m",
        vision_task=task,
        classes=["good", "bad"],
        input=ImageInput(width=32, height=32),
        outputs=ModelOutputs(answer="a", kind=kind),
        thresholds=thresholds,
    )


def rule(kind: str = "class_confidence", class_name: str = "bad", limit: float | None = None):
    return RuleParams(name="r", kind=kind, class_name=class_name, minimum_confidence=limit)


@pytest.mark.parametrize(
    ("task", "kind", "answer"),
    [
        ("classification", "probabilities", ClassProbabilities(np.array([0.35, 0.65]))),
        ("anomaly", "probabilities", ClassProbabilities(np.array([0.35, 0.65]))),
        ("scene", "attributes", AttributeProbabilities(np.array([0.9, 0.65]))),
    ],
)
def test_the_limit_is_that_of_the_package(task, kind, answer) -> None:
    for threshold, fires in ((0.6, True), (0.7, False)):
        (made,) = make_rules([rule()], manifest(task, kind, bad=threshold))
        seen = made.look(Scene(Prediction(answer)))
        assert bool(seen) is fires
    (own,) = make_rules([rule(limit=0.66)], manifest(task, kind, bad=0.1))
    assert own.look(Scene(Prediction(answer))) == []


def test_boxes_of_any_class_count_from_the_lowest_threshold() -> None:
    boxes = Detections(np.array([[0, 0, 9, 9]]), np.array([1]), np.array([0.4]))
    packaged = manifest("detection", "detr", good=0.8, bad=0.3)
    (made,) = make_rules([rule("detection_present", "")], packaged)
    (seen,) = made.look(Scene(Prediction(boxes)))
    assert (seen.class_name, len(seen.detections)) == ("bad", 1)


def test_a_package_without_a_threshold_is_said() -> None:
    with pytest.raises(ConfigError, match=r"no threshold for 'bad'"):
        make_rules([rule()], manifest("classification", "probabilities", good=0.5))
