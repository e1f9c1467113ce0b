"""Per class, the confidence from which showing a box of a draft saves time on average.

A right box spares a person drawing it; a wrong one costs a deletion. Which confidence is
worth showing depends on the model, on the class and on the prices, so it is measured on
annotated samples that the model was not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from visionloop.labeling.answers import GOOD_IOU, PRICES

__all__ = ["NEVER", "choose_thresholds", "seconds_saved"]

NEVER = 1.01
"""Threshold of a class whose boxes are never worth showing."""

BORROWED = 10.0
"""So many boxes' worth of the average class counts beside a class's own boxes: with few of
them its threshold stays near that of all classes together."""

FITTING_IOU = 0.5
"""Below it a box is not adjusted but deleted and drawn anew."""


def seconds_saved(
    iou: NDArray[np.floating],
    *,
    is_class_right: NDArray[np.bool_] | None = None,
    prices: Mapping[str, float] = PRICES,
) -> NDArray[np.float64]:
    """What showing each box saves a person, in seconds; negative where it costs.

    Parameters
    ----------
    iou : float array (N,)
        Overlap with the true object that the box was matched with, 0 where there is none.
        One object is matched with one box: a second box on it has 0.
    is_class_right : bool array (N,) or None
        None: every matched box has the class of its object.
    prices : mapping
        Seconds: draw, class, verify, adjust, delete.

    Returns
    -------
    float64 array (N,)
    """
    is_right = np.ones(len(iou), bool) if is_class_right is None else is_class_right
    by_hand = prices["draw"] + prices["class"]
    mending = np.where(iou >= GOOD_IOU, 0.0, prices["adjust"])
    mending = mending + np.where(is_right, 0.0, prices["class"])
    saved = by_hand - prices["verify"] - mending
    return np.where(iou >= FITTING_IOU, saved, -prices["delete"]).astype(np.float64)


def choose_thresholds(
    confidence: NDArray[np.floating],
    class_id: NDArray[np.integer],
    iou: NDArray[np.floating],
    class_count: int,
    prices: Mapping[str, float] = PRICES,
    *,
    is_class_right: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """The smallest confidence of each class that is worth showing.

    It is where an isotonic regression of the seconds saved on the confidence turns
    positive, which is also the threshold with the largest sum of seconds saved. A class
    borrows from all classes, so that a few lucky boxes decide nothing.

    Parameters
    ----------
    confidence, class_id, iou, is_class_right : arrays (N,)
        Boxes predicted on annotated samples, as low as boxes may be shown; see
        :func:`seconds_saved` for the last two.
    class_count : int
    prices : mapping

    Returns
    -------
    float64 array (class_count,)
        ``NEVER`` where no confidence is worth it, and everywhere if there is not one box.
    """
    if not len(confidence):
        return np.full(class_count, NEVER)
    saved = seconds_saved(np.asarray(iou), is_class_right=is_class_right, prices=prices)
    order = np.argsort(-np.asarray(confidence, np.float64), kind="stable")
    ranked, saved = np.asarray(confidence, np.float64)[order], saved[order]
    classes = np.asarray(class_id)[order]
    borrowed = saved * (BORROWED / len(saved))
    return np.array(
        [
            _best_cut(ranked, np.where(classes == number, saved, 0.0) + borrowed)
            for number in range(class_count)
        ]
    )


def _best_cut(ranked: NDArray[np.float64], saved: NDArray[np.float64]) -> float:
    """The cut of falling confidences above which the sum saved is largest."""
    # Boxes of equal confidence stand or fall together.
    ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
    totals = np.cumsum(saved)[ends]
    best = int(np.argmax(totals))
    if totals[best] <= 0:
        return NEVER
    lowest = ranked[ends[best]]
    following = ranked[ends[best] + 1] if ends[best] + 1 < len(ranked) else lowest
    return float((lowest + following) / 2)
