"""1080p frames in, boxes out: ours beside Ultralytics' predict, same weights (YOLOv8n, COCO).

Everybody runs in a process of its own, frame by frame in turn, one thread each; the peer's default
settings (every core) run in turn as well. Both clocks are told: the processor's and the wall's.
Ours is the package that the export makes, on OpenVINO: in INT8 as ``serve build`` makes it for
processors, and in bfloat16. The metric is measured where there is a truth: the YOLO of
``export_models.py`` on boards that it did not see; and on the video, where the peer's own answers
are the truth. Ultralytics is AGPL-3.0.

    python benchmarks/inference.py [--parts speed video boards] [--rounds 40] [--images 600]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from export_models import prepare_model, read_data, use_throwaway_keys
from inference_runners import Runner, Turn, open_peer
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Detections, Prediction
from visionloop.core.files import read_json, write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.data.versions.version import DatasetVersion, load_version
from visionloop.serving import signing
from visionloop.serving.images import decode_image
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package, write_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.answer_metrics import measure_metric
from visionloop.serving.variants.quantization import write_int8
from visionloop.serving.variants.reference import Reference, ReferenceSample, divide
from visionloop.training.reference import make_reference

SIZE, CALIBRATION, HELD_OUT = 640, 48, 40
PARTS = ("speed", "video", "boards")
WARM_UP, GROUPS = 3, 20
VIDEO = "Retail02_short.mp4"
Frame = NDArray[np.uint8]


def main() -> None:
    """Measure what is asked for, print the table, write ``results/inference.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--images", type=int, default=600, help="unseen boards for the metric")
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=PARTS, help="the others as measured last"
    )
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"speed", "video"} & set(options.parts):
            frames = read_frames(folder / "frames")
            package, peer_onnx = export_both(folder)
            say_step("INT8 from frames of the video")
            int8 = quantize(package, folder / "frames", frames_of(folder / "frames"), folder)
            asked = (package, int8, peer_onnx, frames[CALIBRATION:])
            if "speed" in options.parts:
                keep("speed", speed_rows(*asked, options.rounds))
            if "video" in options.parts:
                keep("video", video_rows(*asked))
        if "boards" in options.parts:
            keep("boards", truth_rows(folder, options.images))
    paths = [RESULTS / "inference" / f"{part}.json" for part in PARTS]
    rows = [row for path in paths if path.is_file() for row in read_json(path)["rows"]]
    save_results("inference", rows)


def keep(part: str, rows: list[dict[str, Any]]) -> None:
    """A part is done: what comes later may be cut off."""
    write_json(RESULTS / "inference" / f"{part}.json", {"rows": rows})


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
    package: ModelPackage,
    images: Path,
    reference: Reference,
    folder: Path,
    budget: float = 0.01,
    seconds: float = 150.0,
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
        search_images=128,
        budget=budget,
        seconds=seconds,
        symmetric=False,  # for processors: the variant "int8-cpu"
    )
    return target.read_bytes(), found


def speed_rows(
    package: ModelPackage,
    int8: tuple[bytes, dict[str, Any]],
    peer_onnx: Path,
    frames: Sequence[Frame],
    rounds: int,
) -> list[dict[str, Any]]:
    """Everybody in turn on the same frame, each in its process; ratios of each frame's pair."""
    folder = peer_onnx.parent
    np.save(folder / "frames.npy", np.stack(frames))
    (folder / "int8.onnx").write_bytes(int8[0])
    fp32 = package.path / MODEL_NAME
    forms: dict[str, tuple[Path, str, int | None]] = {
        "int8": (folder / "int8.onnx", "openvino-bf16", 1),
        "int8_f32": (folder / "int8.onnx", "openvino", 1),
        "bf16": (fp32, "openvino-bf16", 1),
        "ov": (fp32, "openvino", 1),
        "ort": (fp32, "onnxruntime", 1),
        "peer": (peer_onnx, "ultralytics", 1),
        "default": (peer_onnx, "ultralytics", None),
    }
    runners = {
        name: Runner(
            folder / "frames.npy",
            model,
            backend=backend,
            threads=threads,
            package=None if backend == "ultralytics" else package.path,
            size=SIZE,
        )
        for name, (model, backend, threads) in forms.items()
    }
    turns: dict[str, list[Turn]] = {name: [] for name in runners}
    try:
        for number in range(rounds + WARM_UP):
            for name, runner in runners.items():
                turns[name].append(runner.ask(number % len(frames)))
    finally:
        for runner in runners.values():
            runner.close()
    table = {name: np.array(rows[WARM_UP:]) for name, rows in turns.items()}  # rounds x Turn
    return [
        *ratio_rows(table),
        *plain_rows(table),
        make_row(f"layers kept in float of {int8[1]['layers']}", len(int8[1]["kept_in_float"])),
    ]


def ratio_rows(table: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Images a second by the processor's time and by the clock, beside the peer's."""
    rows = []
    shown = {
        "int8": "INT8 on OpenVINO, the rest bfloat16",
        "int8_f32": "INT8 on OpenVINO",
        "bf16": "bfloat16 on OpenVINO",
    }
    for ours, form in shown.items():
        for peer, target, what in (("peer", 2.0, "one thread"), ("default", 4.0, "its defaults")):
            for column, unit in ((Turn._fields.index("busy"), "and core"), (0, "by the clock")):
                pairs = table[peer][:, column] / table[ours][:, column]
                # By the clock its defaults take all cores, ours one: no claim is made there.
                is_claim = unit == "and core" or peer == "peer"
                rows.append(
                    make_row(
                        f"images/s {unit}, 1080p to boxes, {form}; peer: {what}",
                        1 / float(np.median(table[ours][:, column])),
                        peer=1 / float(np.median(table[peer][:, column])),
                        peer_name="ultralytics onnx",
                        spread=quarters(pairs),
                        target=target if is_claim else None,
                        met=float(np.median(pairs)) >= target if is_claim else None,
                    )
                )
    return rows


def plain_rows(table: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """FP32, pre- and post-processing, and what is burned after the answers."""
    busy, around, after = (Turn._fields.index(one) for one in ("busy", "around", "after"))
    rows = [
        make_row(
            f"FP32 on {shown}, images/s and core",
            1 / float(np.median(table[name][:, busy])),
            peer=1 / float(np.median(table["peer"][:, busy])),
            peer_name="ultralytics onnx",
        )
        for name, shown in (("ort", "ONNX Runtime"), ("ov", "OpenVINO"))
    ]
    rows.append(
        make_row(
            "pre- and post-processing together, ms by the clock, median",
            1e3 * float(np.median(table["int8"][:, around])),
            spread=quarters(1e3 * table["int8"][:, around]),
            target=1.5,
            higher_is_better=False,
        )
    )
    rows += [
        make_row(
            f"burned after the answer, ms of the processor, {shown}",
            1e3 * float(np.median(table[name][:, after])),
            higher_is_better=False,
        )
        for name, shown in (("int8", "INT8"), ("peer", "peer on one thread"), ("default", "peer"))
    ]
    return rows


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
        "INT8, the rest bfloat16": Predictor(
            package, backend="openvino-bf16", threads=1, model=int8[0]
        ),
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
    """Relative loss of mAP50 of INT8 on unseen boards with people's boxes, with its interval."""
    workspace = prepare_model("yolo")
    package = load_package(workspace.package)
    version = load_version(workspace.version("v1"), workspace.images)
    candidates, _ = divide(make_reference(version, "map50").samples, parity=1)
    say_step("INT8 of the fine-tuned YOLO")
    content, facts = quantize(
        package, workspace.images, Reference(metric="map50", samples=candidates), folder
    )
    images, samples = unseen_boards(version, package.manifest.classes, count)
    forms = {
        "FP32": Predictor(package, threads=1),
        "INT8": Predictor(package, backend="openvino", threads=1, model=content),
        "INT8, the rest bfloat16": Predictor(
            package, backend="openvino-bf16", threads=1, model=content
        ),
        "bfloat16": Predictor(package, backend="openvino-bf16", threads=1),
    }
    answers = {
        name: predictor.predict(images, minimum_confidence=0.01)
        for name, predictor in forms.items()
    }
    kept = f" ({len(facts['kept_in_float'])} of {facts['layers']} layers float)"
    return [
        loss_row(
            f"{name}{kept if name.startswith('INT8') else ''} on {len(images)} unseen boards",
            answers["FP32"],
            answers[name],
            samples,
            len(package.manifest.classes),
        )
        for name in list(forms)[1:]
    ]


def unseen_boards(
    version: DatasetVersion, classes: Sequence[str], count: int
) -> tuple[list[Frame], list[ReferenceSample]]:
    """Boards of the whole data set of which no picture was trained on."""
    _, _, samples, annotations, groups = read_data("deeppcb")
    trained = set(version.split("train")["group"])
    images: list[Frame] = []
    truth: list[ReferenceSample] = []
    known: set[str] = set()
    for sample, own, group in zip(samples, annotations, groups, strict=True):
        if group in trained or sample.sample_id in known or len(images) == count:
            continue
        known.add(sample.sample_id)
        images.append(decode_image(sample.content))
        truth.append(
            ReferenceSample(
                file_name=sample.sample_id,
                xyxy=[[float(value) for value in one.xyxy] for one in own if one.xyxy],
                box_class_id=[classes.index(one.class_name) for one in own if one.xyxy],
            )
        )
    return images, truth


def loss_row(
    claim: str,
    first: Sequence[Prediction],
    second: Sequence[Prediction],
    samples: Sequence[ReferenceSample],
    classes: int,
) -> dict[str, Any]:
    """Relative loss, with its 95 % interval over boards (a jackknife of pairs)."""

    def loss(rows: Sequence[int]) -> float:
        chosen = [samples[n] for n in rows]
        values = [
            measure_metric("map50", [answers[n] for n in rows], chosen, classes)
            for answers in (first, second)
        ]
        return (values[0] - values[1]) / values[0]

    # Each group of boards is left out once: Efron and Tibshirani, 1993, chapter 11.
    order = np.random.default_rng(0).permutation(len(samples))
    parts = np.array_split(order, GROUPS)
    left = [loss(np.setdiff1d(order, part).tolist()) for part in parts]
    width = 1.96 * float(np.sqrt((GROUPS - 1) * np.var(left)))
    before, after = (measure_metric("map50", rows, samples, classes) for rows in (first, second))
    found = (before - after) / before
    return make_row(
        f"{claim}: relative loss of mAP50 ({before:.4f} to {after:.4f})",
        found,
        spread=(found - width, found + width),
        target=0.005,
        higher_is_better=False,
    )


if __name__ == "__main__":
    main()
