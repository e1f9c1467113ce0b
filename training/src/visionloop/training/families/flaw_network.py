"""The networks of the family ``flaws``: the logit of a flaw at each place of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

__all__ = ["FlawNetwork", "FlawNetworks"]

WIDTH = 48
"""Channels of the head."""
RARE = -3.0
"""Logit of a flaw before anything is learned."""
SOFTNESS, FARTHEST = 4.0, 10.0
"""Logits are divided by the one, cut at the other: half precision holds their exponential."""


class FlawNetwork(torch.nn.Module):  # type: ignore[misc]
    """Images to (logit of a flaw at each place (B, h, w), embedding (B, D)).

    Parameters
    ----------
    network : timm network
    layers : list of int
        Which of its intermediate outputs, beside the last; the grid is that of the one in the
        middle.
    """

    def __init__(self, network: Any, *, layers: list[int]) -> None:
        super().__init__()
        known = network.feature_info
        self.network, self.layers = network, sorted({*layers, len(known) - 1})
        self.middle = self.layers.index(layers[len(layers) // 2])
        self.narrow = torch.nn.ModuleList(
            torch.nn.Conv2d(known[one]["num_chs"], WIDTH, 1) for one in self.layers
        )
        self.mix = torch.nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.tell = torch.nn.Conv2d(WIDTH, 1, 1)
        torch.nn.init.constant_(self.tell.bias, RARE)

    def train(self, mode: bool = True) -> FlawNetwork:
        """Batch statistics stay those of the weights: batches are small, and alike."""
        super().train(mode)
        self.network.eval()
        return self

    def keep_first_stages(self) -> None:
        """What comes before the grid is not trained."""
        last = self.network.feature_info[self.layers[self.middle]]["module"]
        names = [name for name, _ in self.network.named_parameters()]
        inside = [number for number, name in enumerate(names) if name.startswith(f"{last}.")]
        for number, one in enumerate(self.network.parameters()):
            one.requires_grad_(number > max(inside, default=-1))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (logits, embedding)."""
        found = self.network.forward_intermediates(
            image, indices=self.layers, intermediates_only=True
        )
        # Plain numbers: an export by tracing must not take them for values that vary.
        size = [int(one) for one in found[self.middle].shape[-2:]]
        total = torch.zeros(1, dtype=image.dtype, device=image.device)
        for narrow, layer in zip(self.narrow, found, strict=True):
            total = total + _on_grid(narrow(layer), size)
        mixed = functional.silu(self.mix(functional.silu(total)))
        return self.tell(mixed)[:, 0], found[-1].mean(dim=(2, 3))


class FlawNetworks(torch.nn.Module):  # type: ignore[misc]
    """Images to (raw map (B, h, w) of the mean of several networks, embedding of the last (B, D)).

    The raw map is the odds of a flaw, softened: their fourth root.
    """

    def __init__(self, networks: Sequence[FlawNetwork]) -> None:
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)

    def keep_first_stages(self) -> None:
        """See :meth:`FlawNetwork.keep_first_stages`."""
        for one in self.networks:
            one.keep_first_stages()

    def forward(
        self, image: torch.Tensor, own: Sequence[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor] | list[torch.Tensor]:
        """float32 (B, 3, H, W) to (raw map, embedding).

        With ``own``, rows of the batch for each network: the logits of each, for its training.
        """
        if own is not None:
            return [one(image[rows])[0] for one, rows in zip(self.networks, own, strict=True)]
        answers = [one(image) for one in self.networks]
        logits = torch.stack([places for places, _ in answers]).mean(dim=0)
        return (logits / SOFTNESS).clamp(-FARTHEST, FARTHEST).exp(), answers[-1][1]


def _on_grid(values: torch.Tensor, size: list[int]) -> torch.Tensor:
    """Features (B, C, h, w) on another grid: the largest of finer ones, coarser ones spread."""
    rows, columns = int(values.shape[-2]), int(values.shape[-1])
    if rows > size[0] and rows % size[0] == 0 and columns % size[1] == 0:
        return functional.max_pool2d(values, (rows // size[0], columns // size[1]))
    if [rows, columns] != size:
        return functional.interpolate(values, size=size, mode="bilinear", align_corners=False)
    return values
