"""The hubs of the libraries that weights belong to: asked where no local file was found."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionloop.core.files import sha256_of_bytes, sha256_of_file
from visionloop.training.weights import Channels, FoundWeights, WeightsRow

__all__ = ["HUBS"]


def _from_timm_hub(name: str, row: WeightsRow) -> FoundWeights:
    import timm

    model = timm.create_model(row.hub, pretrained=True)
    settings: dict[str, Any] = model.pretrained_cfg
    mean, std = (_as_channels(settings[key]) for key in ("mean", "std"))
    return replace(_from_tensors(name, row, f"hub {row.hub}", model), mean=mean, std=std)


def _from_transformers_hub(name: str, row: WeightsRow) -> FoundWeights:
    from transformers import RTDetrV2ForObjectDetection

    model = RTDetrV2ForObjectDetection.from_pretrained(row.hub)
    return _from_tensors(name, row, f"hub {row.hub}", model)


def _from_tensors(name: str, row: WeightsRow, source: str, model: Any) -> FoundWeights:
    tensors = {key: value.detach() for key, value in model.state_dict().items()}
    content = b"".join(key.encode() + tensors[key].numpy().tobytes() for key in sorted(tensors))
    return FoundWeights(
        name, row, source, None, sha256_of_bytes(content), row.mean, row.std, tensors
    )


def _from_open_clip_hub(name: str, row: WeightsRow) -> FoundWeights:
    import open_clip

    model = open_clip.create_model(row.architecture, pretrained=row.hub)
    return _from_tensors(name, row, f"hub {row.architecture} {row.hub}", model)


def _as_channels(values: Any) -> Channels:
    red, green, blue = (255.0 * float(value) for value in values)
    return red, green, blue


def _from_ultralytics_hub(name: str, row: WeightsRow) -> FoundWeights:
    if os.environ.get("YOLO_OFFLINE", "").lower() in ("1", "true"):
        raise ConnectionError("YOLO_OFFLINE forbids downloads (set it to false to allow them)")
    from ultralytics.utils.downloads import attempt_download_asset

    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "visionloop"
    cache.mkdir(parents=True, exist_ok=True)
    path = Path(attempt_download_asset(cache / row.hub))
    if not path.is_file():
        raise ConnectionError("the download gave no file")
    return FoundWeights(name, row, f"hub {row.hub}", path, sha256_of_file(path), row.mean, row.std)


HUBS: dict[str, Callable[[str, WeightsRow], FoundWeights]] = {
    "timm": _from_timm_hub,
    "open_clip": _from_open_clip_hub,
    "transformers": _from_transformers_hub,
    "ultralytics": _from_ultralytics_hub,
}
"""Library to the function that asks its hub; each raises what its client raises."""
