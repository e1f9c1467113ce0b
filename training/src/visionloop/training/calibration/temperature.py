"""Temperature scaling: one number that makes confidences agree with how often they are right.

Guo et al., 2017: On Calibration of Modern Neural Networks (arXiv 1706.04599). The
temperature is applied to probabilities: ``p ** (1 / T)``, normalised, is the same as the
softmax of ``logits / T``. It never changes which class is the most probable, nor the order of
boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["BINS", "Fit", "apply_temperature", "calibration_error", "fit_temperature"]

LOWEST, HIGHEST = 0.1, 10.0
BINS = 15
TINY = 1e-12


@dataclass(frozen=True)
class Fit:
    """A temperature and what it does on the samples it was fitted on.

    Attributes
    ----------
    temperature : float
        1 leaves everything as it is.
    samples : int
        Statements it was fitted on: pictures, attributes of pictures, or boxes.
    loss_before, loss_after : float
        Mean log loss.
    error_before, error_after : float
        Expected calibration error, 15 bins of equal width.
    why_not : str
        Why the temperature is 1, empty where one was fitted.
    """

    temperature: float = 1.0
    samples: int = 0
    loss_before: float = 0.0
    loss_after: float = 0.0
    error_before: float = 0.0
    error_after: float = 0.0
    why_not: str = ""


def fit_temperature(
    probabilities: NDArray[np.floating], truth: NDArray[np.int64], *, min_samples: int
) -> Fit:
    """The temperature with the smallest log loss.

    Parameters
    ----------
    probabilities : float array (N, C)
        Rows that sum to 1. A yes-or-no statement is a row ``(1 - p, p)``.
    truth : int64 array (N,)
        True class of each row.
    min_samples : int
        With fewer rows nothing is fitted.

    Returns
    -------
    Fit
    """
    from scipy.optimize import minimize_scalar

    rows = np.asarray(probabilities, np.float64)
    count = len(rows)
    if count < min_samples:
        return Fit(samples=count, why_not=f"{count} statements, fewer than {min_samples}")
    if not (rows.argmax(axis=1) != truth).any():
        # Without a single error the loss falls for ever as confidences go to 1.
        return Fit(samples=count, why_not=f"all {count} statements are right")
    found = minimize_scalar(
        lambda log_t: _loss(apply_temperature(rows, float(np.exp(log_t))), truth),
        bounds=(np.log(LOWEST), np.log(HIGHEST)),
        method="bounded",
        options={"xatol": 1e-5},
    )
    temperature = round(float(np.exp(found.x)), 4)
    scaled = apply_temperature(rows, temperature)
    before, after = _loss(rows, truth), _loss(scaled, truth)
    errors = calibration_error(rows, truth), calibration_error(scaled, truth)
    if after >= before:
        return Fit(1.0, count, before, before, errors[0], errors[0], "nothing was gained")
    return Fit(temperature, count, before, after, *errors)


def apply_temperature(
    probabilities: NDArray[np.float64], temperature: float
) -> NDArray[np.float64]:
    """``p ** (1 / T)``, normalised: float array (N, C)."""
    powers = np.clip(probabilities, 0, 1) ** (1 / temperature)
    scaled: NDArray[np.float64] = powers / np.maximum(powers.sum(axis=1, keepdims=True), TINY)
    return scaled


def calibration_error(probabilities: NDArray[np.floating], truth: NDArray[np.int64]) -> float:
    """Expected calibration error of the most probable class (Guo et al., 2017)."""
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, is_right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / max(len(truth), 1))


def _loss(probabilities: NDArray[np.float64], truth: NDArray[np.int64]) -> float:
    chosen = probabilities[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(chosen, TINY, 1)).mean())
