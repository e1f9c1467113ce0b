"""Networks of timm: made from a row of the weights table, with a new head."""

from __future__ import annotations

from typing import Any

import timm
import torch

from visionloop.core.errors import ConfigError, DataError
from visionloop.training.weight_files import load_tensors
from visionloop.training.weights import FoundWeights

__all__ = ["BackboneForExport", "build_network", "make_backbone", "make_network"]


class BackboneForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to pooled features (B, D)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """float32 (B, 3, H, W) to float32 (B, D)."""
        features = self.network.forward_features(image)
        return self.network.forward_head(features, pre_logits=True)


def make_backbone(weights: FoundWeights, *, seed: int, image_size: int) -> torch.nn.Module:
    """The network of these weights without its head; ``seed`` matters from scratch only."""
    torch.manual_seed(seed)
    return BackboneForExport(make_network(weights, classes=1, image_size=image_size)).eval()


def make_network(weights: FoundWeights, *, classes: int, image_size: int) -> Any:
    """The timm network with these weights and a new head of ``classes`` outputs.

    Files of other origins name the tensors differently: they are taken in order where
    the names differ, and every shape must fit.

    Raises
    ------
    ConfigError
        If the weights are not of a timm family.
    DataError
        If number or shapes of the tensors do not fit.
    """
    row = weights.row
    if row.library != "timm":
        raise ConfigError(
            f"training.weights '{weights.name}'",
            f"belongs to {row.library or 'no library'}, not to timm",
            "choose weights of this family: see training/README.md",
        )
    network = timm.create_model(row.architecture)
    if not weights.is_scratch:
        found = load_tensors(weights)
        wanted = network.state_dict()
        if set(found) != set(wanted) and len(found) == len(wanted):
            found = dict(zip(wanted, found.values(), strict=True))
        fits = set(found) == set(wanted)
        if not fits or any(found[key].shape != wanted[key].shape for key in wanted):
            raise DataError(
                f"weights '{weights.name}'",
                f"their tensors do not fit {row.architecture}",
                "check the file, it is not what its name says",
            )
        network.load_state_dict(found)
    network.reset_classifier(classes)
    return _fit_input(network, image_size)


def build_network(architecture: dict[str, Any]) -> Any:
    """The network that a checkpoint's facts describe, with random weights."""
    network = timm.create_model(architecture["timm"], num_classes=architecture["classes"])
    return _fit_input(network, architecture["image_size"])


def _fit_input(network: Any, image_size: int) -> Any:
    """A vision transformer has one position a patch: they are interpolated for another size."""
    if hasattr(network, "set_input_size") and hasattr(network, "pos_embed"):
        network.set_input_size(img_size=image_size)
    return network
