"""Reads files of weights; nothing in them runs code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import DataError
from visionloop.training.weights import FoundWeights

if TYPE_CHECKING:
    import torch

__all__ = ["load_tensors"]


def load_tensors(found: FoundWeights) -> dict[str, torch.Tensor]:
    """Read the tensors of timm weights, in the order of the file; never runs code.

    Raises
    ------
    DataError
        If the file is damaged, or is a pickle that holds anything but tensors.
    """
    if found.tensors is not None:
        return dict(found.tensors)
    if found.path is None:
        raise ValueError(f"weights '{found.name}' are from scratch: there are no tensors to read")
    if found.path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(found.path))
    return _load_plain_tensors(found.path)


def _load_plain_tensors(path: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"weights {path.name}",
            f"refused: not a plain file of tensors ({first_line})",
            "a pickle can run code when it is read; use .safetensors or a state dictionary",
        ) from None
    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise DataError(f"weights {path.name}", "refused: not a dictionary of tensors")
    return dict(content)
