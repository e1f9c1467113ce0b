"""An input of the cameras' shape: the same answers from fewer pixels, built, tuned, served."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.errors import PackageError
from visionloop.serving.build import build
from visionloop.serving.engines.device import open_tuned
from visionloop.serving.engines.record import read_variant
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import load_package, write_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.tuning.device_profile import profile_path, save_profile
from visionloop.serving.tuning.tune import tune
from visionloop.serving.variants.detector_grid import resize_grid
from visionloop.serving.variants.fitted_input import fit_input
from visionloop.serving.variants.resize_model import at_size, resize_model

SIDE = 64
STRIDES = (8, 16, 32)


def write_grid_detector(folder, key):
    """A YOLO's outputs without its network: each cell is as confident as it is bright.

    As in a traced export the centres of the cells and their sides are constants of one size.
    """
    node = helper.make_node
    constants = {"flat": np.array([0, 1, -1], np.int64), "nothing": np.array(0, np.float32)}
    constants["eight"] = np.array(8, np.float32)
    nodes, levels, centres, sides = [], [], [], []
    for stride in STRIDES:
        constants[f"mean_{stride}"] = np.full((1, 3, stride, stride), 1 / 3 / stride**2, np.float32)
        inputs = ["image", f"mean_{stride}"]
        nodes.append(node("Conv", inputs, [f"cells_{stride}"], strides=[stride, stride]))
        nodes.append(node("Reshape", [f"cells_{stride}", "flat"], [f"level_{stride}"]))
        levels.append(f"level_{stride}")
        y, x = np.mgrid[: SIDE // stride, : SIDE // stride] + 0.5
        centres.append(np.stack([x.ravel(), y.ravel()]))
        sides.append(np.full((1, x.size), stride))
    constants["centres"] = np.concatenate(centres, axis=1)[None].astype(np.float32)
    constants["sides"] = np.concatenate(sides, axis=1).astype(np.float32)
    nodes += [
        node("Concat", levels, ["confidence"], axis=2),
        node("Mul", ["confidence", "nothing"], ["zeros"]),
        node("Add", ["zeros", "centres"], ["in_cells"]),
        node("Mul", ["in_cells", "sides"], ["xy"]),
        node("Mul", ["xy", "nothing"], ["zeros_2"]),
        node("Add", ["zeros_2", "eight"], ["wh"]),
        node("Concat", ["xy", "wh", "confidence"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "grid",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, ["batch", 5, 84])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder.parent / "grid.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    manifest = Manifest(
        name="spots",
        vision_task="detection",
        classes=["spot"],
        input=ImageInput(width=SIDE, height=SIDE, resize="letterbox"),
        outputs=ModelOutputs(answer="answer", kind="yolo"),
        thresholds={"spot": 0.6},
    )
    write_package(folder, model=path, manifest=manifest, signing_key=key)
    return load_package(folder)


def draw_spot(x, y):
    """A picture of 2:1 with one bright square of 16 pixels."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[y : y + 16, x : x + 16] = 240
    return picture


@pytest.mark.parametrize(
    ("spec", "picture", "expected"),
    [
        ((640, 640), (1920, 1080), (640, 384)),
        ((640, 640), (16, 9), (640, 384)),
        ((640, 640), (1080, 1920), (384, 640)),
        ((640, 640), (1280, 960), (640, 480)),
        ((416, 416), (1920, 1080), (416, 256)),
        ((640, 384), (1280, 960), (512, 384)),
        ((640, 640), (500, 500), None),
        ((640, 384), (1920, 1080), None),
        ((640, 640), (5000, 10), (640, 32)),
    ],
)
def test_the_input_that_fits_a_picture(spec, picture, expected):
    given = ImageInput(width=spec[0], height=spec[1], resize="letterbox")
    assert fit_input(given, *picture) == expected
    assert fit_input(given.model_copy(update={"resize": "stretch"}), *picture) is None


def test_a_grid_of_another_size_gives_the_same_boxes(tmp_path, signed):
    package = write_grid_detector(tmp_path / "package", signed[0])
    fitted, content = resize_model(package, package.read_model(), 64, 32)
    pictures = [draw_spot(96, 16), draw_spot(16, 48)]
    expected = Predictor(package, threads=1).predict(pictures)
    found = Predictor(fitted, threads=1, model=content).predict(pictures)
    for a, b, corner in zip(expected, found, ((96, 16), (16, 48)), strict=True):
        assert len(a.answer) == len(b.answer) == 1
        assert np.allclose(a.answer.xyxy, [[*corner, corner[0] + 16, corner[1] + 16]], atol=1e-3)
        assert np.allclose(a.answer.xyxy, b.answer.xyxy, atol=1e-3)
        assert np.allclose(a.answer.confidence, b.answer.confidence, atol=1e-5)
    # A camera of another shape is letterboxed into it: smaller, in the right place.
    tall = np.zeros((128, 128, 3), np.uint8)
    tall[32:64, 64:96] = 240
    (only,) = Predictor(fitted, threads=1, model=content).predict([tall])
    assert np.allclose(only.answer.xyxy, [[64, 32, 96, 64]], atol=1e-3)


def test_what_only_resembles_a_grid_stays(tmp_path, signed):
    package = write_grid_detector(tmp_path / "package", signed[0])
    model = onnx.load_model_from_string(package.read_model())
    assert resize_grid(model, (64, 64), (64, 32)) == 2
    (centres,) = (one for one in model.graph.initializer if one.name == "centres")
    assert list(centres.dims) == [1, 2, 42]
    changed = onnx.load_model_from_string(package.read_model())
    (centres,) = (one for one in changed.graph.initializer if one.name == "centres")
    values = numpy_helper.to_array(centres).copy()
    values[0, 0, -1] += 1
    centres.CopyFrom(numpy_helper.from_array(values, "centres"))
    assert resize_grid(changed, (64, 64), (64, 32)) == 1
    assert resize_grid(changed, (60, 60), (64, 32)) == 0
    with pytest.raises(PackageError, match="its graph is fixed at 64 x 64"):
        resize_model(package, changed.SerializeToString(), 64, 48)


def test_a_fitted_input_is_built_measured_and_served(make_workspace, signed, capsys):
    workspace = make_workspace("[]", "[]", task="detection")
    text = workspace.params.read_text()
    text = text.replace("[open, short]", "[spot]").replace(
        "build: {",
        'build: {aspects: ["2:1", "1:1"], precisions: [int8-cpu], smaller_share: 0, ',
    )
    text = text.replace(
        "  edge:", "  tune: {rounds: 3, threads: [1], backends: [onnxruntime]}\n  edge:", 1
    )
    workspace.params.write_text(text)
    package = write_grid_detector(workspace.package, signed[0])
    workspace.images.mkdir(parents=True)
    for number in range(6):
        name = str(workspace.images / f"{number}.png")
        cv2.imwrite(name, draw_spot(16 * number, 16 * (number % 4)))

    report = build(workspace=workspace)
    assert [(one.name, one.accepted) for one in report.manifest.variants] == [
        ("int8-cpu", True),
        ("int8-cpu for 64 x 32", True),
    ]
    size = (64, 32)
    content = read_variant(report.folder, report.manifest, "int8-cpu", size)
    assert "QuantizeLinear" in {n.op_type for n in onnx.load_model_from_string(content).graph.node}
    assert report.manifest.variant("int8-cpu", size).parity["truth"] == "fp32"
    assert "INT8-CPU, input 64 × 32" in report.page.read_text()
    with pytest.raises(PackageError, match="it was not asked for"):
        read_variant(report.folder, report.manifest, "int8-cpu", (32, 64))

    own = read_variant(report.folder, report.manifest, "int8-cpu")
    onnx.checker.check_model(onnx.load_model_from_string(own))
    fitted, resized = resize_model(package, own, *size)
    (answer,) = Predictor(fitted, threads=1, model=resized).predict([draw_spot(64, 32)])
    assert np.allclose(answer.answer.xyxy, [[64, 32, 80, 48]], atol=1e-2)

    profile = tune(workspace=workspace).profile
    forms = {(one.precision, one.width, one.height): one for one in profile.measured}
    sizes = [(64, 64), size]
    assert set(forms) == {(precision, *s) for precision in ("fp32", "int8-cpu") for s in sizes}
    assert not any(one.reason for one in profile.measured)
    is_fitted = (profile.choice.width, profile.choice.height) == size
    assert is_fitted == any("would be shrunk further" in line for line in profile.why)
    assert forms["fp32", 64, 32].loss == 0 and forms["fp32", 64, 32].agreement == 1

    for precision in ("fp32", "int8-cpu"):
        chosen = forms[precision, 64, 32].model_dump(include=set(type(profile.choice).model_fields))
        choice = type(profile.choice)(**chosen)
        save_profile(profile_path(workspace), profile.model_copy(update={"choice": choice}))
        tuned = open_tuned(
            package,
            report.folder,
            profile=profile_path(workspace),
            cache=workspace.edge / "engines",
            spare=1,
        )
        assert capsys.readouterr().err.count("not the tuned form") == 0
        assert tuned.package.manifest.input == at_size(package, *size).manifest.input
        (answer,) = tuned.predict([draw_spot(64, 32)])
        assert np.allclose(answer.answer.xyxy, [[64, 32, 80, 48]], atol=1e-2)


def test_aspects_are_checked(make_workspace, signed):
    from visionloop.core.errors import ConfigError

    workspace = make_workspace("[]", "[]")
    text = workspace.params.read_text()
    workspace.params.write_text(text.replace("build: {", 'build: {aspects: ["16x9"], '))
    with pytest.raises(ConfigError, match="aspects"):
        build(workspace=workspace)
