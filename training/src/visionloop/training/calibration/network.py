"""A network with its temperature inside, so that the exported graph answers calibrated."""

from __future__ import annotations

import torch

__all__ = ["CalibratedNetwork"]


class CalibratedNetwork(torch.nn.Module):  # type: ignore[misc]
    """Raises the confidences of a network's answer to ``1 / T`` and normalises them.

    Parameters
    ----------
    network : Module
        float32 (B, 3, H, W) to a tuple whose first member is the answer.
    kind : str
        ``outputs.kind`` of the manifest: probabilities are normalised over the classes,
        all others against their own complement.
    temperature : float
    """

    def __init__(self, network: torch.nn.Module, *, kind: str, temperature: float) -> None:
        super().__init__()
        self.network, self.kind = network, kind
        self.exponent = 1 / temperature

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The network's outputs, the answer calibrated."""
        answer, *others = self.network(image)
        if self.kind == "yolo":
            answer = torch.cat([answer[:, :4], self._yes_or_no(answer[:, 4:])], dim=1)
        elif self.kind == "detr":
            answer = torch.cat([answer[..., :4], self._yes_or_no(answer[..., 4:])], dim=2)
        elif self.kind == "attributes":
            answer = self._yes_or_no(answer)
        else:
            powers = answer.clamp(0, 1) ** self.exponent
            answer = powers / powers.sum(dim=1, keepdim=True)
        return (answer, *others)

    def _yes_or_no(self, confidence: torch.Tensor) -> torch.Tensor:
        yes = confidence.clamp(0, 1) ** self.exponent
        no = (1 - confidence).clamp(0, 1) ** self.exponent
        return yes / (yes + no)
