"""Mode frozen: a linear head on cached features of the frozen backbone.

Multinomial logistic regression on standardised features, minimised by L-BFGS (scipy's;
torch's stops short of the optimum here) in double precision. The problem is convex, so
the start does not matter and no seed is needed; for two classes the penalty is doubled,
which gives the optimum of binary logistic regression (scikit-learn's
``LogisticRegression(C=1 / l2)``).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import VisionloopError
from visionloop.training.resume import EpochRow, ResumePoint
from visionloop.training.validation import balanced_weights, measure_classification

__all__ = ["FeatureSplit", "LinearHead", "train_head"]

STEPS_AN_EPOCH = 10

TINY_DEVIATION = 1e-6
"""A feature that varies less than this is constant; it is centred but not scaled."""


@dataclass(frozen=True, eq=False)
class FeatureSplit:
    """Features float32 (N, D) and class_ids int64 (N,) of one split."""

    features: NDArray[np.float32]
    class_ids: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """``logits = features @ weight.T + bias``, standardisation folded in.

    Attributes
    ----------
    weight : float32 tensor (C, D)
    bias : float32 tensor (C,)
    """

    weight: torch.Tensor
    bias: torch.Tensor


def train_head(
    train: FeatureSplit,
    val: FeatureSplit,
    *,
    classes: int,
    l2: float,
    class_weight: str,
    epochs: int,
    resume: ResumePoint,
    on_epoch: Callable[[EpochRow], None],
) -> LinearHead:
    """Fit the head; one epoch is 10 L-BFGS steps over all train samples.

    Raises
    ------
    VisionloopError
        If the loss is not finite.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in one order: the same bytes whatever the machine's load
    try:
        fit = _Fit(train, val, classes=classes, l2=l2, class_weight=class_weight)
        if resume.epoch:
            fit.restore(resume.path("last").read_bytes())
        for epoch in range(resume.epoch + 1, epochs + 1):
            row = {"epoch": float(epoch), **fit.step()}
            if not math.isfinite(row["train_loss"]):
                raise VisionloopError(
                    "training", f"the loss is not finite at epoch {epoch}", "check the features"
                )
            resume.save_epoch(row, {"last": fit.state()})
            on_epoch(row)
        return fit.fold()
    finally:
        torch.set_num_threads(threads)


class _Fit:
    """The optimisation problem and its state."""

    def __init__(
        self, train: FeatureSplit, val: FeatureSplit, *, classes: int, l2: float, class_weight: str
    ) -> None:
        features = torch.from_numpy(train.features).double()
        self.mean = features.mean(dim=0)
        deviation = features.std(dim=0, correction=0)
        self.deviation = torch.where(
            deviation < TINY_DEVIATION, torch.ones_like(deviation), deviation
        )
        self.features = (features - self.mean) / self.deviation
        self.class_ids = torch.from_numpy(train.class_ids)
        weights = balanced_weights(train.class_ids, classes, class_weight=class_weight)
        self.sample_weights = torch.from_numpy(weights)[self.class_ids]
        self.val = val
        self.penalty = l2 * (2 if classes == 2 else 1)
        self.weight = torch.zeros(classes, features.shape[1], dtype=torch.double)
        self.bias = torch.zeros(classes, dtype=torch.double)

    def step(self) -> dict[str, float]:
        """One epoch; train_loss is the weighted mean log loss without the penalty."""
        from scipy.optimize import minimize

        found = minimize(
            self._objective,
            torch.cat([self.weight.flatten(), self.bias]).numpy(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": STEPS_AN_EPOCH, "maxcor": 20, "ftol": 1e-15, "gtol": 1e-9},
        )
        self.weight, self.bias = self._split(torch.from_numpy(found.x))
        loss = float(self._log_loss(self.weight, self.bias))
        head = self.fold()
        logits = torch.from_numpy(self.val.features) @ head.weight.T + head.bias
        probabilities = torch.softmax(logits, dim=1).numpy()
        return {"train_loss": loss, **measure_classification(probabilities, self.val.class_ids)}

    def fold(self) -> LinearHead:
        """The head for features as the backbone gives them."""
        weight = self.weight / self.deviation
        bias = self.bias - weight @ self.mean
        return LinearHead(weight.float(), bias.float())

    def state(self) -> bytes:
        """Everything needed to go on, readable without running code."""
        buffer = io.BytesIO()
        torch.save({"weight": self.weight, "bias": self.bias}, buffer)
        return buffer.getvalue()

    def restore(self, content: bytes) -> None:
        """Go on from :meth:`state`."""
        state = torch.load(io.BytesIO(content), weights_only=True)
        self.weight, self.bias = state["weight"], state["bias"]

    def _split(self, flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        count = self.weight.numel()
        return flat[:count].reshape(self.weight.shape).clone(), flat[count:].clone()

    def _log_loss(self, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        logits = self.features @ weight.T + bias
        losses = torch.nn.functional.cross_entropy(logits, self.class_ids, reduction="none")
        return (losses * self.sample_weights).sum() / self.sample_weights.sum()

    def _objective(self, flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Penalised loss and its gradient, for scipy."""
        point = torch.from_numpy(flat.copy()).requires_grad_(True)
        weight, bias = self._split(point)
        penalty = 0.5 * self.penalty * weight.square().sum() / self.sample_weights.sum()
        total = self._log_loss(weight, bias) + penalty
        total.backward()
        return float(total.detach()), point.grad.numpy()
