"""What is known without measuring: devices, and how long a family takes on them.

Every figure names its source. A measurement on the machine at hand always goes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from visionloop.core.errors import ConfigError
from visionloop.core.plugins import nearest_hint

__all__ = ["DEVICES", "Device", "Figure", "Origin", "latency_of"]

Origin = Literal["measured", "cited", "estimated"]

OURS = "visionloop, ONNX Runtime, one thread of an AMD EPYC, random weights"


@dataclass(frozen=True)
class Device:
    """An edge computer.

    Attributes
    ----------
    title : str
    watts : float
        Under load.
    source : str
        Of the watts.
    """

    title: str
    watts: float
    source: str


@dataclass(frozen=True)
class Figure:
    """How long one picture takes, and who says so.

    Attributes
    ----------
    milliseconds : float
        The model alone where the source says no more.
    origin : str
        ``measured`` here, ``cited`` from a source, or ``estimated`` from other figures.
    source : str
    """

    milliseconds: float
    origin: Origin
    source: str


DEVICES = {
    "jetson-orin-nano": Device(
        "NVIDIA Jetson Orin Nano", 15.0, "Savant documentation, performance page: 15 W mode"
    ),
    "cpu-core": Device("one core of an x86 computer", 10.0, "assumed: a share of a computer"),
}
"""Name of ``deployment.device`` to the device."""

CITED: dict[tuple[str, str], Figure] = {
    ("yolo", "jetson-orin-nano"): Figure(
        7.3, "cited", "the0807/YOLOv8-ONNX-TensorRT: YOLOv8n, TensorRT FP16, 640 px"
    ),
    ("yolo", "cpu-core"): Figure(44.0, "cited", f"{OURS}: YOLOv8n, 640 px"),
    ("efficientnet", "cpu-core"): Figure(4.5, "cited", f"{OURS}: EfficientNet-Lite0, 224 px"),
    ("convnext", "cpu-core"): Figure(6.8, "cited", f"{OURS}: ConvNeXt-Atto, 224 px"),
    ("vit", "cpu-core"): Figure(47.0, "cited", f"{OURS}: ViT-S/16, 224 px"),
}
"""(family, device) to a figure."""

LIKE = {"rtdetr": ("yolo", 2.5), "autoencoder + clip": ("vit", 2.2), "patch": ("efficientnet", 2.0)}
"""Families without a figure: the one they are compared with, and how much longer they take. The
factors are the ratios of their multiply-adds, rounded up."""


def latency_of(family: str, device: str) -> Figure:
    """What is known about a family on a device, without measuring.

    Raises
    ------
    ConfigError
        If there is no such device.
    """
    if device not in DEVICES:
        raise ConfigError(
            f"targets.yaml, deployment.device '{device}'",
            "there is no such device in the table",
            nearest_hint(device, DEVICES),
        )
    if (family, device) in CITED:
        return CITED[family, device]
    if family in LIKE:
        like, factor = LIKE[family]
        known = latency_of(like, device)
        why = f"{factor:g} times {like} ({known.source})"
        return Figure(known.milliseconds * factor, "estimated", why)
    here, yolo_here = CITED[family, "cpu-core"], CITED["yolo", "cpu-core"]
    there = CITED["yolo", device]
    share = there.milliseconds / yolo_here.milliseconds
    why = f"as much faster than a core as YOLOv8n is ({here.source}; {there.source})"
    return Figure(here.milliseconds * share, "estimated", why)
