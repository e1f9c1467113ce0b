"""A device with cameras: workspace, releases, the agent as a process or in this one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.workspace import Workspace
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package
from visionloop.serving.releases.store import publish

WIDTH, HEIGHT, STRIDE = 480, 272, 8
CLASSES = ["helmet", "vest"]
SIZES = {"helmet": (44, 44), "vest": (64, 80)}


def write_colour_package(
    folder: Path, key: Path, *, gain: float = 1.0, name: str = "ppe", ballast: int = 0
) -> Path:
    """Write the package; ``gain`` scales its confidences, ``ballast`` makes it larger (bytes)."""
    model = folder.parent / f"{folder.name}.onnx"
    model.write_bytes(_graph(gain, ballast).SerializeToString())
    manifest = Manifest(
        name=name,
        vision_task="detection",
        classes=CLASSES,
        input=ImageInput(width=WIDTH, height=HEIGHT, resize="letterbox"),
        outputs=ModelOutputs(answer="answer", kind="yolo"),
        thresholds={"helmet": 0.4, "vest": 0.4},
        max_iou=0.05,
    )
    write_package(folder, model=model, manifest=manifest, signing_key=key)
    return folder


def _graph(gain: float, ballast: int) -> onnx.ModelProto:
    """Mean colour score around each grid point; boxes have one size a class."""
    rows, columns = HEIGHT // STRIDE, WIDTH // STRIDE
    y, x = np.mgrid[:rows, :columns]
    centres = np.stack([x, y]).reshape(2, -1) * STRIDE + STRIDE / 2
    boxes, scores = [], []
    for size in SIZES.values():
        wh = np.repeat(np.array(size, np.float32)[:, None], centres.shape[1], axis=1)
        boxes.append(np.concatenate([centres, wh]).astype(np.float32))
    # Two sets of grid points: the first can only be helmets, the second only vests.
    constants = {
        "boxes": np.concatenate(boxes, axis=1)[None],
        "nothing": np.zeros((1, 1, rows * columns), np.float32),
        "yellow_limit": np.array(0.22, np.float32),
        "orange_limit": np.array(0.35, np.float32),
        "gain": np.array(30.0 * gain, np.float32),
        "zero": np.array(0.0, np.float32),
        "one": np.array(1.0, np.float32),
        "flat": np.array([1, 1, -1], np.int64),
    }
    if ballast:
        constants["ballast"] = np.random.default_rng(0).integers(0, 255, ballast, np.uint8)
    node = helper.make_node
    nodes = [
        node("Split", ["image"], ["r", "g", "b"], axis=1, num_outputs=3),
        node("Sub", ["r", "g"], ["red_less_green"]),
        node("Abs", ["red_less_green"], ["off_yellow"]),
        node("Sub", ["g", "b"], ["green_less_blue"]),
        node("Sub", ["green_less_blue", "off_yellow"], ["yellowness"]),
    ]
    for name, score in (("yellow", "yellowness"), ("orange", "red_less_green")):
        nodes += [
            node("Sub", [score, f"{name}_limit"], [f"{name}_over"]),
            node("Mul", [f"{name}_over", "gain"], [f"{name}_scaled"]),
            node("Clip", [f"{name}_scaled", "zero", "one"], [f"{name}_pixel"]),
            node(
                "AveragePool",
                [f"{name}_pixel"],
                [f"{name}_mean"],
                kernel_shape=[3 * STRIDE, 3 * STRIDE],
                strides=[STRIDE, STRIDE],
                pads=[STRIDE, STRIDE, STRIDE, STRIDE],
            ),
            node("Reshape", [f"{name}_mean", "flat"], [f"{name}_row"]),
        ]
        scores.append(f"{name}_row")
    nodes += [
        node("Concat", [scores[0], "nothing"], ["helmets"], axis=2),
        node("Concat", ["nothing", scores[1]], ["vests"], axis=2),
        node("Concat", ["boxes", "helmets", "vests"], ["answer"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [1, 6, 2 * rows * columns])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def worker_frames() -> list[np.ndarray]:
    """The frames of worker-zone-detection.gif: BGR, 480 x 270."""
    folder = os.environ.get("VISIONLOOP_VIDEOS")
    path = Path(folder or "nowhere") / "worker-zone-detection.gif"
    if not path.is_file():
        pytest.skip("VISIONLOOP_VIDEOS names no folder with worker-zone-detection.gif")
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def take_helmet_off(image: np.ndarray) -> np.ndarray:
    """Turn everything yellow on the worker's head into dark brown hair."""
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    yellow = ((hue > 18) & (hue < 36) & (saturation > 110) & (value > 90)).astype(np.uint8)
    mask = cv2.dilate(yellow, np.ones((3, 3), np.uint8)) > 0
    bare = image.copy()
    bare[mask] = (
        cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[mask][:, None] * [0.14, 0.19, 0.27]
    ).astype(np.uint8)
    return bare


def write_video(path: Path, frames, *, fps: int = 15, gop: int = 30, kilobits: int = 800) -> Path:
    """H.264 as cameras make it: fixed groups of pictures, no B-frames."""
    height, width = frames[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {
        "g": str(gop),
        "keyint_min": str(gop),
        "sc_threshold": "0",
        "bf": "0",
        "threads": "1",
    }
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=fps, options={"preset": "veryfast", **options})
        stream.width, stream.height = width // 2 * 2, height // 2 * 2
        stream.pix_fmt, stream.bit_rate = "yuv420p", kilobits * 1000
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
            frame.pts = number
            output.mux(stream.encode(frame.reformat(stream.width, stream.height)))
        output.mux(stream.encode(None))
    return path


@dataclass
class Device:
    """A workspace with releases of the colour detector, and its ``edge.yaml``."""

    workspace: Workspace
    key: Path
    gate_report: Path

    @property
    def config(self) -> Path:
        return self.workspace.root / "edge.yaml"

    def publish(self, name: str = "first", gain: float = 1.0, ballast: int = 0, **fields) -> int:
        package = write_colour_package(
            self.workspace.root / name, self.key, gain=gain, name=name, ballast=ballast
        )
        release = publish(
            releases=self.workspace.releases,
            model="ppe",
            package=package,
            gate_report=self.gate_report,
            **fields,
        )
        return release.number

    def write_config(self, cameras: list[dict], **fields) -> Path:
        # What a device says about itself has tests of its own: test_device, test_health.
        quiet = {
            "status": {"enabled": False},
            "health": {"raise_s": 600.0, "lost_s": 600.0},
            "ladder": {"worse_s": 3600.0},
        }
        content = {"model": "ppe", "threads": 1, "cameras": cameras, **quiet, **fields}
        self.config.write_text(yaml.safe_dump(content, sort_keys=False))
        return self.config


@pytest.fixture(scope="session")
def film() -> SimpleNamespace:
    """Makers of videos."""
    return SimpleNamespace(take_helmet_off=take_helmet_off, write=write_video)


@pytest.fixture
def device(tmp_path, signed, gate_report) -> Device:
    root = tmp_path / "site"
    root.mkdir()
    made = Device(Workspace(root), signed[0], gate_report)
    made.publish()
    return made
