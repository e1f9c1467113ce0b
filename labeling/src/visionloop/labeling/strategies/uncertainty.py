"""Where the model is least sure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.strategies.pool import Indices, Pool, order_by

__all__ = ["doubt_of", "margins", "select_doubtful_boxes", "select_entropy", "select_margin"]


def select_margin(pool: Pool) -> Indices:
    """Smallest margin between the two most probable classes first.

    Margin sampling, Scheffer et al., IDA 2001.

    Raises
    ------
    ValueError
        If there are no probabilities.
    """
    return order_by(-margins(pool.answers()), pool)


def select_entropy(pool: Pool) -> Indices:
    """Largest entropy of the class probabilities first.

    Raises
    ------
    ValueError
        If there are no probabilities.
    """
    rows = np.clip(pool.answers(), 1e-12, 1)
    return order_by(-(rows * np.log(rows)).sum(axis=1), pool)


def select_doubtful_boxes(pool: Pool) -> Indices:
    """For detection: the images whose boxes are in doubt, all boxes of an image together.

    A box whose confidence is c adds its variance c (1 - c): boxes near 1/2 are the ones that a
    person decides, surely there or surely not there adds nothing. An image counts by the
    root of the sum, so that ten faint boxes do not outweigh one that is open. For other
    tasks it is the margin.

    Raises
    ------
    ValueError
        If there are neither boxes nor probabilities.
    """
    if pool.box_confidences is None:
        return select_margin(pool)
    return order_by(doubt_of(pool.box_confidences), pool)


def doubt_of(box_confidences: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Doubt about each image, from the confidences of its boxes: float64 (N,), 0 without boxes."""
    counts = np.array([len(one) for one in box_confidences], np.int64)
    every = np.concatenate([np.zeros(0), *box_confidences]).astype(np.float64)
    image = np.repeat(np.arange(len(counts)), counts)
    return np.sqrt(np.bincount(image, every * (1 - every), minlength=len(counts)))


def margins(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Difference of the two largest probabilities of each row; of one class, that class."""
    if probabilities.shape[1] < 2:
        return np.asarray(probabilities.max(axis=1, initial=0), np.float32)
    ranked = np.partition(probabilities, -2, axis=1)
    return np.asarray(ranked[:, -1] - ranked[:, -2], np.float32)
