"""Versions that no family may trip over: one picture, a class that a split lacks, no object."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version, save_version
from visionloop.training.train import train

pytest.importorskip("ultralytics", reason="the yolo extra is not installed")

CLASSIFIERS = {
    "efficientnet": {"family": "efficientnet", "weights": "efficientnet-lite0"},
    "convnext": {"family": "convnext", "weights": "convnext-atto", "allow_scratch": True},
    "vit": {"family": "vit", "weights": "vit-tiny", "allow_scratch": True},
}
DETECTORS = {
    "yolo": {"family": "yolo", "weights": "yolov8n"},
    "rtdetr": {"family": "rtdetr", "weights": "rtdetr-v2-nano", "batch_size": 4},
}
FINDERS = {
    "patch": {},
    "autoencoder": {"family": "autoencoder", "weights": "none", "image_size": 64, "batch_size": 8},
}


def rewrite(
    workspace: Workspace,
    *,
    keep: Callable[[str, str], bool] = lambda split, class_name: True,
    annotation: Callable[[Annotation], Annotation] = lambda one: one,
) -> None:
    """Freeze v1 again: samples kept by (split, first class), annotations changed."""
    version = load_version(workspace.version("v1"), workspace.images)
    first = {}
    for row in version.annotations:
        first.setdefault(row.sample_id, row.class_name)
    kept = [keep(split, first.get(one, "")) for one, split in
            zip(version.samples["sample_id"], version.samples["split"], strict=True)]  # fmt: skip
    samples = version.samples[kept]
    ids = set(samples["sample_id"])
    shutil.rmtree(workspace.version("v1"))
    save_version(
        workspace.version("v1"),
        vision_task=version.vision_task,
        classes=version.classes,
        samples=samples,
        annotations=[annotation(row) for row in version.annotations if row.sample_id in ids],
    )


def one_of_each(*, split: str = "train") -> Callable[[str, str], bool]:
    """Keeps one sample of a class in ``split``, and everything else."""
    seen: set[str] = set()

    def keep(own: str, class_name: str) -> bool:
        if own != split:
            return True
        new = class_name not in seen
        seen.add(class_name)
        return new

    return keep


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_one_picture_of_a_class_is_enough_to_train(cells, set_training, family) -> None:
    set_training(cells, epochs=1, **CLASSIFIERS[family])
    rewrite(cells, keep=one_of_each())
    assert train(workspace=cells).metrics["val_loss"] > 0


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_class_that_val_lacks_is_no_obstacle(cells, set_training, family) -> None:
    set_training(cells, epochs=1, **CLASSIFIERS[family])
    rewrite(cells, keep=lambda split, name: split != "val" or name == "functional")
    assert 0 <= train(workspace=cells).metrics["val_accuracy"] <= 1


@pytest.mark.parametrize("family", CLASSIFIERS)
def test_a_class_that_train_lacks_is_named(cells, set_training, family) -> None:
    set_training(cells, epochs=1, **CLASSIFIERS[family])
    rewrite(cells, keep=lambda split, name: split != "train" or name == "functional")
    with pytest.raises(DataError, match="at least two classes, it has: functional"):
        train(workspace=cells)


@pytest.mark.parametrize("family", DETECTORS)
def test_one_picture_is_enough_for_a_detector(boards, set_training, family) -> None:
    set_training(boards, **DETECTORS[family] | {"epochs": 1})
    rewrite(boards, keep=one_of_each())
    assert train(workspace=boards).metrics["train_loss"] > 0


@pytest.mark.parametrize("family", DETECTORS)
def test_pictures_without_any_object_are_refused(boards, set_training, family) -> None:
    set_training(boards, **DETECTORS[family] | {"epochs": 1})
    rewrite(boards, annotation=lambda one: Annotation(one.sample_id, ""))
    with pytest.raises(DataError, match="no box"):
        train(workspace=boards)


@pytest.mark.parametrize("family", DETECTORS)
def test_a_class_without_a_box_in_train_is_said(boards, set_training, family, capsys) -> None:
    set_training(boards, **DETECTORS[family] | {"epochs": 1})
    rewrite(boards, annotation=lambda one: Annotation(one.sample_id, "bar", one.xyxy))
    train(workspace=boards)
    assert "dot" in capsys.readouterr().err


def test_boxes_outside_their_picture_are_refused_before_anything_starts(boards) -> None:
    def wider(one: Annotation) -> Annotation:
        x1, y1, x2, y2 = one.xyxy
        return Annotation(one.sample_id, one.class_name, (x1 - 50, y1, x2 + 50, y2))

    rewrite(boards, annotation=wider)
    with pytest.raises(DataError, match="lies outside its image of 96 x 96"):
        train(workspace=boards)
    assert not (boards.root / "artifacts" / "training_state").exists()


@pytest.mark.parametrize("family", FINDERS)
def test_two_normal_pictures_are_enough_and_one_is_refused(surfaces, set_training, family) -> None:
    set_training(surfaces, **FINDERS[family])
    counts = {"normal": 0}

    def few(most: int) -> Callable[[str, str], bool]:
        counts["normal"] = 0

        def keep(split: str, name: str) -> bool:
            if split != "train":
                return True
            counts["normal"] += name == "normal"
            return name != "normal" or counts["normal"] <= most

        return keep

    rewrite(surfaces, keep=few(2))
    assert train(workspace=surfaces).metrics["held_out_normal"] > 2
    rewrite(surfaces, keep=few(1))
    with pytest.raises(DataError, match="1 pictures of class 'normal'"):
        train(workspace=surfaces)


@pytest.mark.parametrize("family", FINDERS)
def test_no_anomaly_at_all_is_the_usual_case(surfaces, set_training, family) -> None:
    set_training(surfaces, **FINDERS[family])
    rewrite(surfaces, keep=lambda split, name: name == "normal")
    assert "val_auroc" not in train(workspace=surfaces).metrics
