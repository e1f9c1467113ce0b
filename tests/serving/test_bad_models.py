"""Models and pictures that must not get through: M1 to M5, M7, D1, D2, and wrong pairings.

M1 (changed bytes), M3 (external data) and M4 (pickles) of packages are in ``test_package.py``,
D1 and D2 in ``test_images.py``; here they come through the doors of build, tune and engines.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.errors import DataError, PackageError, VisionloopError
from visionloop.serving import signing
from visionloop.serving.apart import call_apart
from visionloop.serving.build import build
from visionloop.serving.engines.record import load_engine, load_manifest, read_variant
from visionloop.serving.manifest import ImageInput
from visionloop.serving.package import load_package, write_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.preprocess import BatchMaker, make_batch, place_image
from visionloop.serving.variants.compare import compare_variant
from visionloop.serving.variants.reference import (
    Reference,
    ReferenceSample,
    load_reference,
    readable,
    reference_of_folder,
    save_reference,
)


def make_colour_model(path, side, *, channels_last=False):
    """'red' where the first channel is larger than the last."""
    shape = ["batch", side, side, 3] if channels_last else ["batch", 3, side, side]
    axes = np.array([1, 2] if channels_last else [2, 3], np.int64)
    weights = np.array([[-9, 9], [0, 0], [9, -9]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["mean"], ["embedding"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "colour",
        [info("image", TensorProto.FLOAT, shape)],
        [
            info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            info("embedding", TensorProto.FLOAT, ["batch", 3]),
        ],
        [numpy_helper.from_array(axes, "axes"), numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


def red_picture():
    image = np.full((40, 60, 3), 20, np.uint8)
    image[:, :, 2] = 220  # OpenCV's order: blue, green, red
    return image


@pytest.mark.parametrize(("colour", "answer"), [("RGB", 1), ("BGR", 0)])
def test_the_order_of_colours_is_that_of_the_manifest(tmp_path, signed, kit, colour, answer):
    spec = ImageInput(width=kit.SIZE, height=kit.SIZE, colour=colour)
    manifest = kit.classifier_manifest().model_copy(update={"input": spec})
    model = make_colour_model(tmp_path / "m.onnx", kit.SIZE)
    write_package(tmp_path / "p", model=model, manifest=manifest)
    (found,) = Predictor(load_package(tmp_path / "p"), threads=1).predict([red_picture()])
    assert found.answer.class_id == answer


def test_a_wrong_order_of_colours_is_seen_in_the_metric(tmp_path, signed, kit):
    """The build of a package whose manifest says BGR where the network learned RGB."""
    images = tmp_path / "images"
    images.mkdir()
    import cv2

    cv2.imwrite(str(images / "a.png"), red_picture())
    cv2.imwrite(str(images / "b.png"), red_picture()[:, :, ::-1])
    samples = [
        ReferenceSample(file_name="a.png", class_id=1),
        ReferenceSample(file_name="b.png", class_id=0),
    ]
    values = {}
    for colour in ("RGB", "BGR"):
        spec = ImageInput(width=kit.SIZE, height=kit.SIZE, colour=colour)
        manifest = kit.classifier_manifest().model_copy(update={"input": spec})
        model = make_colour_model(tmp_path / "m.onnx", kit.SIZE)
        write_package(tmp_path / colour, model=model, manifest=manifest)
        row = compare_variant(
            package=str(tmp_path / colour),
            trusted_keys=[str(key) for key in signing.trusted_keys()],
            model=str(model),
            images=str(images),
            reference=Reference(samples=samples).model_dump(mode="json"),
        )
        values[colour] = row["reference_value"]
    assert values == {"RGB": 1.0, "BGR": 0.0}


def test_channels_that_come_last_are_refused_with_the_reason(tmp_path, signed, kit):
    model = make_colour_model(tmp_path / "m.onnx", kit.SIZE, channels_last=True)
    write_package(tmp_path / "p", model=model, manifest=kit.classifier_manifest())
    with pytest.raises(PackageError, match="channels come last in the model"):
        Predictor(load_package(tmp_path / "p"))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((8, 8, 3), np.float32),
    ],
    ids=["grey", "four channels", "channels first", "float"],
)
def test_arrays_that_are_no_pictures_are_refused(tiny, image):
    predictor = Predictor(load_package(tiny.classifier()), threads=1)
    with pytest.raises(DataError, match=r"must be uint8 \(height, width, 3\)"):
        predictor.predict([image])


def test_an_empty_batch(tiny):
    predictor = Predictor(load_package(tiny.classifier()), threads=1)
    assert predictor.predict([]) == []
    with pytest.raises(DataError, match="no image in it"):
        predictor.embed([])
    with pytest.raises(ValueError, match="no image in the batch"):
        make_batch([], ImageInput(width=8, height=8))


def test_memory_that_is_used_again_gives_the_same_batch(kit):
    """Pictures of changing shapes through one maker, against the plain arithmetic."""
    for resize in ("letterbox", "stretch"):
        spec = ImageInput(
            width=48, height=32, resize=resize, mean=[120.0, 0.0, 99.0], std=[58.0, 255.0, 1.0]
        )
        maker = BatchMaker(spec)
        for shape in ((30, 90), (90, 30), (32, 48), (64, 64), (30, 90)):
            image = kit.grey_image(120, shape, seed=shape[0])
            found, (placement,) = maker.make([image])
            placed, expected_place = place_image(image, spec)
            plain = placed[:, :, ::-1].transpose(2, 0, 1).astype(np.float32)
            expected = (plain - np.float32(spec.mean)[:, None, None]) / np.float32(spec.std)[
                :, None, None
            ]
            assert np.allclose(found[0], expected, rtol=1e-6, atol=1e-5)
            assert placement == expected_place
    pair, _ = maker.make([kit.grey_image(10), kit.grey_image(250)])
    assert pair[0].mean() < pair[1].mean() and len(pair) == 2


@pytest.fixture
def workspace(make_workspace, make_line, tiny):
    found = make_workspace("[]", "[]")
    text = found.params.read_text()
    found.params.write_text(
        text.replace("parity_images: 4", "parity_images: 4, precisions: [fp16]")
    )
    make_line([20, 220], found.images)
    found.package.parent.mkdir()
    shutil.move(tiny.classifier(), found.package)
    return found


def test_a_package_for_another_task_is_refused(workspace, tiny):
    shutil.rmtree(workspace.package)
    shutil.move(tiny.detector(), workspace.package)
    with pytest.raises(PackageError, match="is for detection, the project for classification"):
        build(workspace=workspace)
    assert not workspace.engine.exists()


@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\x80\x04pickle", b"PK\x03\x04.pt2"]
)
def test_m1_m4_a_package_whose_model_was_replaced_builds_nothing(workspace, content):
    (workspace.package / "model.onnx").write_bytes(content)
    with pytest.raises(PackageError, match="changed after signing"):
        build(workspace=workspace)
    assert not workspace.engine.exists()


def test_m2_another_number_of_classes_is_expected_against_found(tiny, kit):
    package = load_package(tiny.classifier())
    other = onnx.load_model_from_string(package.read_model())
    for tensor in other.graph.initializer:
        values = numpy_helper.to_array(tensor)
        wider = np.zeros((*values.shape[:-1], 7), np.float32)
        tensor.CopyFrom(numpy_helper.from_array(wider, tensor.name))
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 7
    with pytest.raises(PackageError, match="has 7 rows, expected 2"):
        Predictor(package, model=other.SerializeToString())


def test_m2_an_opset_of_the_future_is_one_clear_error(tiny):
    package = load_package(tiny.classifier())
    other = onnx.load_model_from_string(package.read_model())
    other.opset_import[0].version = 999
    with pytest.raises(PackageError, match="ONNX Runtime cannot load it"):
        Predictor(package, model=other.SerializeToString())


def test_m1_m5_variants_and_engines_that_were_changed_are_not_read(workspace, signed):
    report = build(workspace=workspace)
    sha256 = load_package(workspace.package).sha256
    manifest = load_manifest(report.folder, package_sha256=sha256)
    variant = report.folder / "model-fp16.onnx"
    content = bytearray(variant.read_bytes())
    content[len(content) // 2] ^= 1  # ONNX Runtime would load it without a word
    variant.write_bytes(content)
    with pytest.raises(PackageError, match="changed after signing"):
        load_manifest(report.folder, package_sha256=sha256)
    with pytest.raises(PackageError, match="does not have the SHA-256 it should"):
        read_variant(report.folder, manifest, "fp16")
    variant.unlink()
    with pytest.raises(PackageError, match="No such file"):
        read_variant(report.folder, manifest, "fp16")
    (report.folder / "engine.json").write_text('{"format_version": 1}')
    signing.sign_folder(report.folder, key=signed[0], signature_name="engine.sig")
    with pytest.raises(PackageError, match=r"engine\.json cannot be read"):
        load_engine(report.folder, package_sha256=sha256)


def test_m7_a_form_that_answers_nan_is_refused_not_shipped(workspace, kit, tmp_path):
    """FP16 of weights beyond its range: what the converter makes of them is not taken."""
    model = kit.make_classifier(tmp_path / "m.onnx", gain=1e6)
    shutil.rmtree(workspace.package)
    write_package(workspace.package, model=model, manifest=kit.classifier_manifest())
    nan = kit.make_classifier(tmp_path / "nan.onnx", gain=float("nan"))
    arguments = {
        "package": str(workspace.package),
        "trusted_keys": [str(key) for key in signing.trusted_keys()],
        "model": str(nan),
        "images": str(workspace.images),
        "reference": Reference(
            samples=[ReferenceSample(file_name=one.name) for one in workspace.images.iterdir()]
        ).model_dump(mode="json"),
    }
    with pytest.raises(VisionloopError, match="finite"):
        call_apart(compare_variant, arguments)


def bomb() -> bytes:
    """A PNG that says 30,000 x 30,000 pixels in a few hundred bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "0 bytes"), (bomb(), "30000 x 30000"), (b"\xff\xd8\xff\xe0", "header|truncated")],
    ids=["empty", "bomb", "cut"],
)
def test_d1_d2_a_picture_that_is_none_is_named_and_left_out(workspace, content, reason, capsys):
    (bad, *_) = sorted(workspace.images.iterdir())
    bad.write_bytes(content)
    samples = reference_of_folder(workspace.images, 10).samples
    assert [one.file_name for one in readable(samples, workspace.images)] == ["0001.png"]
    line = capsys.readouterr().err
    assert bad.name in line and re.search(reason, line)
    for image in workspace.images.iterdir():
        image.write_bytes(content)
    with pytest.raises(DataError, match="holds no image that can be read"):
        build(workspace=workspace)
    assert not workspace.engine.exists()


def test_a_reference_that_is_damaged_is_named(tmp_path):
    path = save_reference(tmp_path / "reference.json", Reference(samples=[]))
    path.write_text(json.dumps({"samples": [{"file_name": "a.png", "class_id": -1}]}))
    with pytest.raises(DataError, match=r"samples\.0\.class_id"):
        load_reference(path)
    with pytest.raises(DataError, match="visionloop train export"):
        load_reference(tmp_path / "none.json")
