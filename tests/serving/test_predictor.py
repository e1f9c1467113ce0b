"""From pictures to answers: placement, decoding, batches, checks against the manifest."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnxruntime
import pytest

from visionloop.core.entities import ClassProbabilities, Detections
from visionloop.core.errors import ConfigError, MissingExtraError, PackageError
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.serving.package import load_package, write_package
from visionloop.serving.postprocess import decode_yolo
from visionloop.serving.predictor import Predictor
from visionloop.serving.preprocess import make_batch, place_image
from visionloop.serving.tuning.latency import measure_latency
from visionloop.serving.variants.parity import compare_predictions


def test_classification_equals_onnxruntime_by_hand(tiny, kit):
    package = load_package(tiny.classifier())
    images = [kit.grey_image(level, seed=level) for level in range(0, 250, 13)]
    predictor = Predictor(package, threads=1)
    predictions = predictor.predict(images)
    batch, _ = make_batch(images, package.manifest.input)
    session = onnxruntime.InferenceSession(package.read_model())
    answers, vectors = session.run(["probabilities", "embedding"], {"image": batch})
    assert np.allclose([p.answer.probabilities for p in predictions], answers, atol=1e-6)
    assert np.allclose([p.embedding for p in predictions], vectors, atol=1e-6)
    assert np.allclose(predictor.embed(images), vectors, atol=1e-6)
    assert predictions[0].answer.class_id == 0
    assert predictions[-1].answer.class_id == 1


def test_a_fixed_batch_is_filled_and_cut(tmp_path, signed, kit):
    model = kit.make_classifier(tmp_path / "four.onnx", batch=4)
    write_package(tmp_path / "four", model=model, manifest=kit.classifier_manifest())
    predictor = Predictor(load_package(tmp_path / "four"))
    images = [kit.grey_image(level) for level in (0, 40, 80, 120, 160, 200)]
    alone = [predictor.predict([image])[0].answer.confidence for image in images]
    together = [p.answer.confidence for p in predictor.predict(images)]
    assert alone == pytest.approx(together)
    assert predictor.predict([]) == []


def test_channel_order_and_normalisation():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, :, 2] = 200  # red
    spec = ImageInput(width=4, height=4, mean=[100.0, 0.0, 0.0], std=[50.0, 1.0, 1.0])
    batch, _ = make_batch([image], spec)
    assert batch.shape == (1, 3, 4, 4)
    assert batch.dtype == np.float32
    assert np.allclose(batch[0, 0], 2.0)
    assert np.allclose(batch[0, 1:], 0.0)
    as_bgr, _ = make_batch([image], spec.model_copy(update={"colour": "BGR"}))
    assert np.allclose(as_bgr[0, 2], 200.0)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [(40, 60), (61, 23), (32, 32), (500, 300)])
def test_boxes_find_their_way_back(resize, size):
    spec = ImageInput(width=64, height=48, resize=resize)
    height, width = size
    _, place = place_image(np.zeros((height, width, 3), np.uint8), spec)
    true = np.array([[2, 3, width - 4, height - 5], [0, 0, width, height]], np.float32)
    scale, shift = [place.scale_x, place.scale_y] * 2, [place.left, place.top] * 2
    corners = true * np.float32(scale) + np.float32(shift)
    low, high = corners[:, :2], corners[:, 2:]
    rows = np.concatenate([(low + high) / 2, high - low], axis=1).T
    output = np.concatenate([rows, np.array([[0.9, 0.0], [0.0, 0.8]])]).astype(np.float32)
    found = decode_yolo(
        output, place, minimum_confidence=np.array([0.5, 0.5], np.float32), max_iou=0.7
    )
    assert np.allclose(found.xyxy, true, atol=0.01)
    assert found.class_id.tolist() == [0, 1]


def test_letterbox_keeps_proportions_and_pads():
    image = np.full((50, 100, 3), 200, np.uint8)
    placed, place = place_image(image, ImageInput(width=64, height=64, resize="letterbox"))
    assert (place.left, place.top, place.scale_x) == (0, 16, 0.64)
    assert (placed[:16] == 114).all()
    assert (placed[16:48] == 200).all()
    assert (placed[48:] == 114).all()


def test_thin_lines_survive_where_one_side_shrinks_and_the_other_grows():
    image = np.full((40, 512, 3), 200, np.uint8)
    image[:, ::8] = 40  # bilinear samples would fall between these lines
    placed, place = place_image(image, ImageInput(width=64, height=64))
    assert (place.scale_x, place.scale_y) == (0.125, 1.6)
    assert (placed == 180).all()


@pytest.mark.parametrize("factor", [2, 3, 5, 7])
def test_whole_factors_give_what_bilinear_interpolation_gives(factor):
    picture = np.random.default_rng(factor).integers(
        0, 256, (36 * factor, 64 * factor, 3), np.uint8
    )
    placed, _ = place_image(picture, ImageInput(width=64, height=64, resize="letterbox"))
    expected = cv2.resize(picture, (64, 36), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(placed[14:50], expected)


def test_detections_are_thresholded_and_suppressed(tiny, kit):
    predictor = Predictor(load_package(tiny.detector()))
    bright = np.full((kit.SIZE * 2, kit.SIZE * 2, 3), 255, np.uint8)
    (prediction,) = predictor.predict([bright])
    answer = prediction.answer
    assert isinstance(answer, Detections)
    assert answer.class_id.tolist() == [0, 1]
    assert answer.confidence.tolist() == pytest.approx([0.9, 0.7], abs=1e-5)
    assert answer.xyxy[0].tolist() == pytest.approx([24, 24, 40, 40], abs=1e-3)
    half = bright // 2
    # 0.45 counts; 0.35 counts for 'short' only because the manifest says 0.3.
    assert len(predictor.predict([half])[0].answer) == 2
    assert len(predictor.predict([half], minimum_confidence=0.4)[0].answer) == 1
    dark = np.zeros_like(bright)
    assert len(predictor.predict([dark])[0].answer) == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"input": ImageInput(width=64, height=64)}, "the manifest says"),
        ({"classes": ["a", "b", "c"]}, "expected 3"),
        (
            {"outputs": ModelOutputs(answer="scores", kind="probabilities")},
            "no output 'scores' \\(it has probabilities, embedding\\)",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_at_start(tmp_path, signed, changes, expected, kit):
    manifest = kit.classifier_manifest().model_copy(update=changes)
    model = kit.make_classifier(tmp_path / "m.onnx")
    write_package(tmp_path / "p", model=model, manifest=manifest)
    with pytest.raises(PackageError, match=expected):
        Predictor(load_package(tmp_path / "p"))


def test_numbers_that_are_not_finite_are_refused(tmp_path, signed, kit):
    model = kit.make_classifier(tmp_path / "m.onnx", gain=float("nan"))
    write_package(tmp_path / "p", model=model, manifest=kit.classifier_manifest())
    predictor = Predictor(load_package(tmp_path / "p"))
    with pytest.raises(PackageError, match="finite"):
        predictor.predict([kit.grey_image(100)])


def test_a_model_that_onnxruntime_refuses_is_one_clear_error(tmp_path, signed, kit):
    from onnx import TensorProto, helper

    row = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, kit.SIZE, kit.SIZE])
    graph = helper.make_graph([helper.make_node("NoSuchThing", ["image"], ["y"])], "g", [row], [])
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    write_package(tmp_path / "p", model=tmp_path / "m.onnx", manifest=kit.classifier_manifest())
    with pytest.raises(PackageError, match="ONNX Runtime cannot load it"):
        Predictor(load_package(tmp_path / "p"))


def test_unknown_backend_and_embedding_packages(tiny, tmp_path, kit):
    package = load_package(tiny.classifier())
    with pytest.raises(ConfigError, match="did you mean 'onnxruntime'"):
        Predictor(package, backend="onnxruntim")
    manifest = kit.classifier_manifest().model_copy(
        update={
            "vision_task": "embedding",
            "classes": [],
            "outputs": ModelOutputs(answer="embedding", kind="embedding"),
        }
    )
    model = kit.make_classifier(tmp_path / "m.onnx")
    write_package(tmp_path / "backbone", model=model, manifest=manifest)
    backbone = Predictor(load_package(tmp_path / "backbone"))
    assert backbone.embed([kit.grey_image(5), kit.grey_image(9)]).shape == (2, 3)
    with pytest.raises(PackageError, match="embeddings"):
        backbone.predict([kit.grey_image(5)])
    detector = Predictor(load_package(tiny.detector()))
    with pytest.raises(PackageError, match="no embedding"):
        detector.embed([kit.grey_image(5)])


def test_tensorrt_without_a_gpu_says_so(tiny):
    package = load_package(tiny.classifier())
    with pytest.raises((PackageError, MissingExtraError), match=r"GPU|not installed|engine"):
        Predictor(package, backend="tensorrt", model=b"no engine")


def test_latency_has_ordered_percentiles(tiny, kit):
    found = measure_latency(
        Predictor(load_package(tiny.classifier())), [kit.grey_image(50)], repeats=9
    )
    assert 0 < found.p50 <= found.p95 <= found.p99
    assert found.calls == 9


def test_parity_sees_a_moved_box_and_a_changed_class(tiny, kit):
    predictor = Predictor(load_package(tiny.detector()))
    image = np.full((kit.SIZE, kit.SIZE, 3), 255, np.uint8)
    reference = predictor.predict([image], minimum_confidence=0.05)
    same = compare_predictions(reference, reference)
    assert (same.max_difference, same.agreement, same.minimum_iou, same.boxes) == (0, 1, 1, 2)
    answer = reference[0].answer
    moved = Detections(
        answer.xyxy + np.float32([1, 0, 1, 0]), answer.class_id, answer.confidence * 0.99
    )
    found = compare_predictions(reference, [type(reference[0])(moved)])
    assert found.minimum_iou < 0.8
    assert found.max_difference == pytest.approx(0.009, abs=1e-4)
    lost = compare_predictions(reference, [type(reference[0])(answer[:1])])
    assert lost.agreement == 0.5
    assert json.loads(json.dumps(lost.as_row()))["boxes"] == 2
    first, second = (
        type(reference[0])(ClassProbabilities(np.array(p, np.float32)))
        for p in ([0.4, 0.6], [0.55, 0.45])
    )
    changed = compare_predictions([first], [second])
    assert changed.agreement == 0
    assert changed.max_difference == pytest.approx(0.15)


def test_the_detector_manifest_is_consistent(tmp_path, kit):
    assert kit.make_detector(tmp_path / "m.onnx").is_file()
    with pytest.raises(ValueError, match="unknown classes"):
        kit.detector_manifest().model_validate(
            kit.detector_manifest().model_dump() | {"thresholds": {"hole": 0.5}}
        )
