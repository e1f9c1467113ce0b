"""1080p frames in, boxes out: ours beside Ultralytics' predict, same weights (YOLOv8n, COCO).

Both sides run in this process, frame by frame in turn, one thread each; the peer's default
settings (every core) run in turn as well, and count by processor time. Ours is the package that
the export makes, on OpenVINO: in INT8 as ``serve build`` makes it for processors, and in bfloat16.
The metric is measured where there is a truth: the YOLO of ``export_models.py`` on its test boards;
and on the video, where the peer's own answers are the truth. Ultralytics is AGPL-3.0.

    python benchmarks/inference.py [--rounds 40] [--images 100]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from export_models import prepare_model, use_throwaway_keys
from numpy.typing import NDArray
from report import make_row, save_results

from visionloop.core.entities import Detections, Prediction
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.data.versions.version import load_version
from visionloop.serving import signing
from visionloop.serving.answer_metrics import measure_metric
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import ModelPackage, load_package, write_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.quantization import write_int8
from visionloop.serving.reference import Reference, ReferenceSample, divide
from visionloop.training.reference import make_reference

SIZE, CALIBRATION, HELD_OUT = 640, 48, 40
VIDEO = "Retail02_short.mp4"
Frame = NDArray[np.uint8]


def main() -> None:
    """Measure, print the table, write ``results/inference.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--images", type=int, default=100, help="test boards for the metric")
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        frames = read_frames(folder / "frames")
        package, peer_onnx = export_both(folder)
        say_step("INT8 from frames of the video")
        int8 = quantize(package, folder / "frames", frames_of(folder / "frames"), folder)
        rows = speed_rows(package, int8, peer_onnx, frames[CALIBRATION:], options.rounds)
        rows += video_rows(package, int8, peer_onnx, frames[CALIBRATION:])
        rows += truth_rows(folder, options.images)
    save_results("inference", rows)


def read_frames(folder: Path) -> list[Frame]:
    """Frames spread over the video, 1920 x 1080; kept as PNG for the calibration."""
    folder.mkdir()
    capture = cv2.VideoCapture(str(Path(os.environ["VISIONLOOP_VIDEOS"]) / VIDEO))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, total - 2, CALIBRATION + HELD_OUT).astype(int).tolist())
    frames: list[Frame] = []
    for number in range(total):
        is_there, frame = capture.read()
        if is_there and number in wanted:
            frames.append(np.asarray(frame, np.uint8))
    # Every second one gives the ranges, the others are measured on.
    frames = [*frames[::2], *frames[1::2]][: CALIBRATION + HELD_OUT]
    for number, frame in enumerate(frames[:CALIBRATION]):
        cv2.imwrite(str(folder / f"{number:03d}.png"), frame)
    return frames


def frames_of(folder: Path) -> Reference:
    """The calibration frames without truth: FP32's answers stand for it."""
    names = sorted(path.name for path in folder.iterdir())
    return Reference(samples=[ReferenceSample(file_name=name) for name in names])


def export_both(folder: Path) -> tuple[ModelPackage, Path]:
    """The same weights as our package and as the peer's own ONNX export, 640 pixels each."""
    import shutil

    from ultralytics import YOLO

    from visionloop.training.families.yolo import DetectorForExport, _fuse, _read_checkpoint
    from visionloop.training.onnx_files import export_traced

    weights = folder / "yolov8n.pt"
    shutil.copy(Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt", weights)
    network = _read_checkpoint(weights)
    names = [network.names[number] for number in range(len(network.names))]
    fused = _fuse(DetectorForExport(network).eval())
    onnx = folder / "ours.onnx"
    export_traced(fused, onnx, height=SIZE, width=SIZE, outputs=["detections", "embedding"])
    manifest = Manifest(
        name="yolov8n-coco",
        vision_task="detection",
        family="yolo",
        classes=names,
        input=ImageInput(width=SIZE, height=SIZE, resize="letterbox"),
        outputs=ModelOutputs(answer="detections", embedding="embedding", kind="yolo"),
        max_iou=0.7,
        licence="AGPL-3.0",
    )
    write_package(folder / "package", model=onnx, manifest=manifest)
    exported = YOLO(str(weights)).export(format="onnx", imgsz=SIZE, verbose=False)
    return load_package(folder / "package"), Path(exported)


def quantize(
    package: ModelPackage, images: Path, reference: Reference, folder: Path, budget: float = 0.01
) -> tuple[bytes, dict[str, Any]]:
    """INT8 as ``serve build`` makes it for processors."""
    target = folder / f"{package.manifest.name}-int8.onnx"
    found = write_int8(
        package=str(package.path),
        trusted_keys=[str(key) for key in signing.trusted_keys()],
        images=str(images),
        reference=reference.model_dump(mode="json"),
        target=str(target),
        calibration_images=CALIBRATION,
        search_images=24,
        budget=budget,
        seconds=240,
        symmetric=False,  # for processors: the variant "int8-cpu"
    )
    return target.read_bytes(), found


def open_peer(onnx: Path, *, threads: int | None) -> Callable[[Frame], Any]:
    """Ultralytics' ONNX predict; one thread means one for its ONNX Runtime session too."""
    import onnxruntime
    from ultralytics import YOLO

    original = onnxruntime.InferenceSession

    def pinned(path: Any, sess_options: Any = None, *rest: Any, **options: Any) -> Any:
        settings = sess_options or onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        return original(path, settings, *rest, **options)

    model = YOLO(str(onnx), task="detect")
    if threads == 1:
        onnxruntime.InferenceSession = pinned
    try:
        model.predict(np.zeros((1080, 1920, 3), np.uint8), imgsz=SIZE, verbose=False, device="cpu")
    finally:
        onnxruntime.InferenceSession = original

    def ask(frame: Frame) -> Any:
        return model.predict(frame, imgsz=SIZE, verbose=False, device="cpu")[0]

    return ask


def speed_rows(
    package: ModelPackage,
    int8: tuple[bytes, dict[str, Any]],
    peer_onnx: Path,
    frames: Sequence[Frame],
    rounds: int,
) -> list[dict[str, Any]]:
    """Everybody in turn on the same frame; ratios of the medians, spread of the quarters."""
    import torch

    torch.set_num_threads(1)
    ours = Predictor(package, backend="openvino", threads=1, model=int8[0], batch_size=1)
    runners: dict[str, Callable[[Frame], Any]] = {
        "ours": lambda frame: ours.predict([frame]),
        "ours_ort": asker(Predictor(package, threads=1, batch_size=1)),
        "ours_ov": asker(Predictor(package, backend="openvino", threads=1, batch_size=1)),
        "ours_bf16": asker(Predictor(package, backend="openvino-bf16", threads=1, batch_size=1)),
        "peer": open_peer(peer_onnx, threads=1),
        "default": open_peer(peer_onnx, threads=None),
    }
    wall: dict[str, list[float]] = {name: [] for name in runners}
    cpu: dict[str, list[float]] = {name: [] for name in runners}
    own = []
    for number in range(rounds + 3):
        frame = frames[number % len(frames)]
        for name, ask in runners.items():
            start, busy = time.perf_counter(), time.process_time()
            ask(frame)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - busy)
            time.sleep(0.002)  # threads of the one before come to rest
        own.append(ours.predict_timed([frame])[1])
    kept = {name: np.array(cpu[name][3:]) for name in runners}
    walls = {name: np.array(wall[name][3:]) for name in runners}
    rate = {name: 1 / float(np.median(values)) for name, values in kept.items()}
    rows = []
    for own_name, form in (("ours", "INT8"), ("ours_bf16", "bfloat16")):
        for name, target, shown in (("peer", 2.0, "one thread"), ("default", 4.0, "its defaults")):
            ratio = rate[own_name] / rate[name]
            rows.append(
                make_row(
                    f"images/s and core, 1080p to boxes, {form} on OpenVINO; peer: {shown}",
                    rate[own_name],
                    peer=rate[name],
                    peer_name="ultralytics onnx",
                    spread=quarters(kept[name] / kept[own_name]),
                    target=target,
                    met=ratio >= target,
                )
            )
    ratio = float(np.median(walls["peer"] / walls["ours"]))
    rows += [
        make_row("INT8 by wall time, ratio of each frame's pair", ratio,
                 spread=quarters(walls["peer"] / walls["ours"])),
        make_row("FP32 on ONNX Runtime, images/s and core", rate["ours_ort"], peer=rate["peer"],
                 peer_name="ultralytics onnx"),
        make_row("FP32 on OpenVINO, images/s and core", rate["ours_ov"], peer=rate["peer"],
                 peer_name="ultralytics onnx"),
        make_row("pre- and post-processing together, ms, median",
                 float(np.median([one.pre + one.post for one in own[3:]])), target=1.5,
                 higher_is_better=False),
        make_row(f"layers kept in float of {int8[1]['layers']}",
                 len(int8[1]["kept_in_float"])),
    ]  # fmt: skip
    return rows


def asker(predictor: Predictor) -> Callable[[Frame], Any]:
    """One frame a call."""
    return lambda frame: predictor.predict([frame])


def quarters(values: NDArray[np.float64]) -> tuple[float, float]:
    """First and third quartile."""
    low, high = np.percentile(values, [25, 75])
    return float(low), float(high)


def video_rows(
    package: ModelPackage,
    int8: tuple[bytes, dict[str, Any]],
    peer_onnx: Path,
    frames: Sequence[Frame],
) -> list[dict[str, Any]]:
    """mAP50 of our answers where the peer's reported boxes are the truth: FP32, then INT8."""
    peer = open_peer(peer_onnx, threads=1)
    truth = []
    for frame in frames:
        found = peer(frame).boxes
        truth.append(
            ReferenceSample(
                file_name="frame",
                xyxy=found.xyxy.numpy().astype(float).tolist(),
                box_class_id=found.cls.numpy().astype(int).tolist(),
            )
        )
    rows = []
    forms = {
        "FP32": Predictor(package, threads=1),
        "INT8": Predictor(package, backend="openvino", threads=1, model=int8[0]),
        "bfloat16": Predictor(package, backend="openvino-bf16", threads=1),
    }
    for name, predictor in forms.items():
        answers: list[Prediction] = []
        for frame in frames:
            answers += predictor.predict([frame], minimum_confidence=0.01)
        value = measure_metric("map50", answers, truth, len(package.manifest.classes))
        boxes = sum(
            int((one.answer.confidence >= 0.25).sum())
            for one in answers
            if isinstance(one.answer, Detections)
        )
        claim = f"{name} on {len(frames)} frames, the peer's boxes as truth ({boxes} boxes): mAP50"
        rows.append(make_row(claim, value))
    return rows


def truth_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """Relative loss of mAP50 of INT8 on test boards with people's boxes."""
    workspace = prepare_model("yolo")
    package = load_package(workspace.package)
    version = load_version(workspace.version("v1"), workspace.images)
    candidates, _ = divide(make_reference(version, "map50").samples, parity=1)
    say_step("INT8 of the fine-tuned YOLO")
    content, facts = quantize(
        package, workspace.images, Reference(metric="map50", samples=candidates), folder
    )
    tests = version.split("test").head(count)
    samples = []
    for one in tests["sample_id"]:
        xyxy, class_id = version.boxes(str(one))
        samples.append(
            ReferenceSample(
                file_name=version.image_path(str(one)).name,
                xyxy=xyxy.astype(float).tolist(),
                box_class_id=class_id.tolist(),
            )
        )
    images = [read_image(workspace.images / one.file_name) for one in samples]
    forms = {
        "FP32": Predictor(package, threads=1),
        "INT8": Predictor(package, backend="openvino", threads=1, model=content),
        "bfloat16": Predictor(package, backend="openvino-bf16", threads=1),
    }
    values = {}
    for name, predictor in forms.items():
        answers = predictor.predict(images, minimum_confidence=0.01)
        values[name] = measure_metric("map50", answers, samples, len(package.manifest.classes))
    kept = f"{len(facts['kept_in_float'])} of {facts['layers']} layers float"
    return [
        make_row(
            f"{name} on {len(images)} test boards{f' ({kept})' if name == 'INT8' else ''}: "
            f"relative loss of mAP50 ({values['FP32']:.4f} to {values[name]:.4f})",
            (values["FP32"] - values[name]) / values["FP32"],
            target=0.005,
            higher_is_better=False,
        )
        for name in ("INT8", "bfloat16")
    ]


if __name__ == "__main__":
    main()
