"""The same weights (YOLOv8n, COCO) in every form that ``inference.py`` runs, and the frames."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.progress import say_step
from visionloop.serving import signing
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package, write_package
from visionloop.serving.variants.fitted_input import fit_input
from visionloop.serving.variants.quantization import write_int8
from visionloop.serving.variants.reference import Reference, ReferenceSample
from visionloop.serving.variants.resize_model import resize_model

__all__ = ["CALIBRATION", "Form", "make_forms", "quantize", "read_frames"]

SIZE, CALIBRATION, HELD_OUT = 640, 48, 40
VIDEO = "Retail02_short.mp4"
Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """A model file and how it is run.

    Attributes
    ----------
    model : Path
        ONNX file.
    backend : str
        Row of our table of backends; ``ultralytics`` is the peer.
    size : (int, int)
        Width and height of its input.
    threads : int or None
        None leaves the library its defaults.
    package : Path or None
        Ours: the package whose form the model is.
    """

    model: Path
    backend: str
    size: tuple[int, int]
    threads: int | None = 1
    package: Path | None = None


def make_forms(folder: Path, frames: Sequence[Frame]) -> tuple[ModelPackage, dict[str, Form], int]:
    """The package, its forms and the peer's by name, and the layers that INT8 keeps in float.

    Names end in ``_fit`` where the input has the frames' shape. INT8 is made from the first
    frames, at each input for itself.
    """
    own = (SIZE, SIZE)
    pictures = folder / "frames"
    pictures.mkdir()
    for number, frame in enumerate(frames[:CALIBRATION]):
        cv2.imwrite(str(pictures / f"{number:03d}.png"), frame)
    package = export_ours(folder)
    fitted = fit_input(package.manifest.input, frames[0].shape[1], frames[0].shape[0])
    assert fitted is not None
    peers = {size: export_peer(folder, size) for size in (own, fitted)}
    resized = folder / "fp32-fit.onnx"
    resized.write_bytes(resize_model(package, package.read_model(), *fitted)[1])
    fp32 = {own: package.path / MODEL_NAME, fitted: resized}
    # Without truth FP32's answers stand for it.
    names = sorted(path.name for path in pictures.iterdir())
    reference = Reference(samples=[ReferenceSample(file_name=name) for name in names])
    int8, kept = {}, 0
    for size in (own, fitted):
        say_step(f"INT8 at {size[0]} x {size[1]} from frames of the video")
        int8[size], facts = quantize(
            package, pictures, reference, folder, size=None if size == own else size
        )
        kept = kept or len(facts["kept_in_float"])
    ours = {
        "int8": Form(int8[own], "openvino-bf16", own, package=package.path),
        "int8_f32": Form(int8[own], "openvino", own, package=package.path),
        "bf16": Form(fp32[own], "openvino-bf16", own, package=package.path),
        "ov": Form(fp32[own], "openvino", own, package=package.path),
        "ort": Form(fp32[own], "onnxruntime", own, package=package.path),
        "int8_fit": Form(int8[fitted], "openvino-bf16", fitted, package=package.path),
        "int8_f32_fit": Form(int8[fitted], "openvino", fitted, package=package.path),
        "bf16_fit": Form(fp32[fitted], "openvino-bf16", fitted, package=package.path),
    }
    theirs = {
        "peer": Form(peers[own], "ultralytics", own),
        "peer_fit": Form(peers[fitted], "ultralytics", fitted),
        "default": Form(peers[own], "ultralytics", own, threads=None),
    }
    return package, {**ours, **theirs}, kept


def read_frames() -> list[Frame]:
    """Frames spread over the video, 1920 x 1080; the first ``CALIBRATION`` give the ranges."""
    capture = cv2.VideoCapture(str(Path(os.environ["VISIONLOOP_VIDEOS"]) / VIDEO))
    total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, total - 2, CALIBRATION + HELD_OUT).astype(int).tolist())
    frames: list[Frame] = []
    for number in range(total):
        is_there, frame = capture.read()
        if is_there and number in wanted:
            frames.append(np.asarray(frame, np.uint8))
    return [*frames[::2], *frames[1::2]][: CALIBRATION + HELD_OUT]


def export_ours(folder: Path) -> ModelPackage:
    """Our package, as the export of the family writes it."""
    from visionloop.training.families.yolo import DetectorForExport, _fuse, _read_checkpoint
    from visionloop.training.onnx_files import export_traced

    network = _read_checkpoint(Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt")
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
    return load_package(folder / "package")


def export_peer(folder: Path, size: tuple[int, int]) -> Path:
    """The peer's own ONNX export of the same weights."""
    from ultralytics import YOLO

    weights = folder / f"yolov8n-{size[0]}x{size[1]}.pt"
    shutil.copy(Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt", weights)
    height_first = [size[1], size[0]]
    return Path(YOLO(str(weights)).export(format="onnx", imgsz=height_first, verbose=False))


def quantize(
    package: ModelPackage,
    images: Path,
    reference: Reference,
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    budget: float = 0.01,
    seconds: float = 150.0,
) -> tuple[Path, dict[str, Any]]:
    """INT8 as ``serve build`` makes it for processors; the file, and what was found."""
    target = folder / f"{package.manifest.name}-{size or 'own'}-int8.onnx"
    found = write_int8(
        package=str(package.path),
        trusted_keys=[str(key) for key in signing.trusted_keys()],
        images=str(images),
        reference=reference.model_dump(mode="json"),
        target=str(target),
        settings={
            "calibration_images": CALIBRATION,
            "search_images": 128,
            "budget": budget,
            "seconds": seconds,
            "symmetric": False,  # for processors: the variant "int8-cpu"
        },
        size=size,
    )
    return target, found
