"""Moving average of the weights: what is judged and kept is steadier than the last step.

Polyak and Juditsky, 1992 (10.1137/0330046); with the short memory at first that TensorFlow's
``ExponentialMovingAverage`` has, so that a short training is not an average of its start.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

__all__ = ["WeightAverage"]


class WeightAverage:
    """The average of a network's weights and of its batch norms' statistics.

    Parameters
    ----------
    network : Module
        Trained elsewhere; call :meth:`update` after each step.
    decay : float
        Share of the average that a step keeps, 0 to 1; 0 makes no average.
    """

    def __init__(self, network: torch.nn.Module, decay: float) -> None:
        self._network, self._decay = network, decay
        self._average = (
            AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True) if decay else None
        )

    def update(self) -> None:
        """Take in the weights of this step."""
        if self._average is not None:
            self._average.update_parameters(self._network)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights inside, its own afterwards."""
        if self._average is None:
            yield
            return
        own = {name: one.clone() for name, one in self._network.state_dict().items()}
        self._network.load_state_dict(self._average.module.state_dict())
        try:
            yield
        finally:
            self._network.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        """Tensors to go on from; empty without an average."""
        return {} if self._average is None else dict(self._average.state_dict())

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        if self._average is not None:
            self._average.load_state_dict(state)

    def _mix(self, average: Any, now: Any, updates: torch.Tensor | int) -> None:
        """Move one kind of tensors; counters are taken as they are."""
        if not average[0].is_floating_point():
            for one, new in zip(average, now, strict=True):
                one.copy_(new)
            return
        steps = float(updates)
        torch._foreach_lerp_(average, now, 1 - min(self._decay, (1 + steps) / (10 + steps)))
