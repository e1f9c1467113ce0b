"""A place for the benchmark of the HTTP server: pictures, a signed release, the two servers."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml

from visionloop.core.files import write_json
from visionloop.core.privacy import QUIET_ENVIRONMENT
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package
from visionloop.serving.releases.store import GATE_SIGNATURE, publish
from visionloop.serving.signing import new_key_pair, sign_folder

__all__ = ["Place", "make_place", "run_ours", "run_peer"]

PICTURES = 40
PIXELS = 640


@dataclass(frozen=True)
class Place:
    """Where things are: workspace, pictures, the ONNX file that both servers run."""

    root: Path
    pictures: Path
    model: Path


def make_place(root: Path) -> Place:
    """YOLOv8n with COCO weights as a release, and pictures of people with hard hats."""
    os.environ["VISIONLOOP_HTTP_TOKEN"] = secrets.token_urlsafe(24)
    private, public = new_key_pair(root / "keys")
    os.environ["VISIONLOOP_SIGNING_KEY"] = str(private)
    os.environ["VISIONLOOP_TRUSTED_KEYS"] = str(public)
    pictures = root / "pictures"
    pictures.mkdir()
    with zipfile.ZipFile(Path(os.environ["VISIONLOOP_MIRROR"]) / "hardhat.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg")))
        for number, name in enumerate(names[:PICTURES]):
            (pictures / f"{number:03d}.jpg").write_bytes(archive.read(name))
    model, classes = _export(root)
    manifest = Manifest(
        name="yolov8n-coco",
        vision_task="detection",
        classes=classes,
        input=ImageInput(width=PIXELS, height=PIXELS, resize="letterbox"),
        outputs=ModelOutputs(answer="output0", kind="yolo"),
    )
    write_package(root / "package", model=model, manifest=manifest)
    gate = root / "gate"
    write_json(gate / "gate.json", {"verdict": "passed"})
    sign_folder(gate, key=private, signature_name=GATE_SIGNATURE)
    publish(releases=root / "releases", model="people", package=root / "package", gate_report=gate)
    return Place(root, pictures, model)


def _export(root: Path) -> tuple[Path, list[str]]:
    """By Ultralytics itself, in a process of its own: torch must not weigh on the servers."""
    weights = Path(os.environ["VISIONLOOP_WEIGHTS"]) / "yolov8n-coco.pt"
    target = root / "yolov8n.pt"
    target.write_bytes(weights.read_bytes())
    code = (
        "import json, sys; from ultralytics import YOLO; m = YOLO(sys.argv[1]); "
        f"m.export(format='onnx', imgsz={PIXELS}, opset=17, dynamic=False, simplify=True, "
        "batch=1, verbose=False); print(json.dumps(list(m.names.values())))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)],
        env={**os.environ, **QUIET_ENVIRONMENT},
        capture_output=True,
        text=True,
        check=True,
    )
    return target.with_suffix(".onnx"), yaml.safe_load(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def run_ours(place: Place, port: int | None = None) -> Iterator[str]:
    """``visionloop serve http`` as a command, default parameters."""
    port = port or _free_port()
    config = place.root / "http.yaml"
    config.write_text(yaml.safe_dump({"model": "people"}))
    command = [sys.executable, "-m", "visionloop.serving", "http", "--config", str(config)]
    options = ["--workspace", str(place.root), "--port", str(port)]
    with _running([*command, *options], port, place.root / "ours.log") as url:
        yield url


@contextlib.contextmanager
def run_peer(place: Place) -> Iterator[str]:
    """``http_peer.py`` as a command."""
    port = _free_port()
    script = Path(__file__).with_name("http_peer.py")
    command = [sys.executable, str(script), str(place.model), str(port)]
    with _running(command, port, place.root / "peer.log") as url:
        yield url


@contextlib.contextmanager
def _running(command: list[str], port: int, log: Path) -> Iterator[str]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-2000:])
            time.sleep(0.1)
        yield url + "/v1/predict"
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(url + "/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
