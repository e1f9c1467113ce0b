"""The detector of ``streams.py``: YOLOv8n (COCO), exported at 320 x 192, as a release.

Ultralytics is AGPL-3.0; ``yolov8n-coco.pt`` from ``VISIONLOOP_WEIGHTS``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from stream_feeds import KEEP

from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package
from visionloop.serving.releases.store import publish
from visionloop.serving.signing import new_key_pair, sign_folder

__all__ = ["HEIGHT", "MODEL", "WIDTH", "make_release", "weights"]

MODEL = "coco"
WIDTH, HEIGHT = 320, 192


def weights() -> Path:
    """The checkpoint."""
    return Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt"


def make_release(releases: Path) -> None:
    """Sign and publish the detector with throw-away keys, which are then trusted here."""
    onnx, names = _export()
    private, public = new_key_pair(releases.parent / "keys")
    os.environ |= {
        "VISIONLOOP_SIGNING_KEY": str(private),
        "VISIONLOOP_TRUSTED_KEYS": str(public),
    }
    manifest = Manifest(
        name=MODEL,
        vision_task="detection",
        classes=names,
        input=ImageInput(width=WIDTH, height=HEIGHT, resize="letterbox"),
        outputs=ModelOutputs(answer="output0", kind="yolo"),
        thresholds={"person": 0.35},
        licence="AGPL-3.0-only",
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_package(folder / "package", model=onnx, manifest=manifest, signing_key=private)
        gate = folder / "gate"
        gate.mkdir()
        (gate / "gate.json").write_text('{"verdict": "passed"}')
        sign_folder(gate, key=private, signature_name="gate.sig")
        publish(releases=releases, model=MODEL, package=folder / "package", gate_report=gate)


def _export() -> tuple[Path, list[str]]:
    """The ONNX file, exported once, and its class names."""
    from ultralytics import YOLO

    path = KEEP / f"yolov8n-{WIDTH}x{HEIGHT}.onnx"
    network = YOLO(str(weights()))
    names = [network.names[row] for row in range(len(network.names))]
    if not path.is_file():
        KEEP.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "yolov8n.pt"
            shutil.copy(weights(), copied)
            made = YOLO(str(copied)).export(
                format="onnx", imgsz=(HEIGHT, WIDTH), dynamic=True, opset=17, simplify=False
            )
            shutil.move(made, path)
    return path, names
