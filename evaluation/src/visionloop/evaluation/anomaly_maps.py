"""How well anomaly maps show where the defect is: pixel AUROC and AUPRO, with intervals.

AUPRO (Bergmann et al., "The MVTec Anomaly Detection Dataset", 2021): the mean overlap of the true
regions, averaged over the limits at which up to 30 % of the normal pixels are above. Maps and
outlines are compared on a common grid. Every map is reduced to histograms, of its normal pixels,
its anomalous ones and each region, so that any resampling of pictures is a weighted sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.evaluation.intervals import draw_weights, interval
from visionloop.evaluation.measurements import Estimate, MapQuality
from visionloop.evaluation.params import IntervalParams
from visionloop.evaluation.ratios import ratio

if TYPE_CHECKING:
    from visionloop.data.versions.version import DatasetVersion

__all__ = ["AnomalyMaps", "mask_of", "measure_maps"]

GRID = 112
"""Side of the common grid, pixels."""
BINS = 1024
MOST_FALSE = 0.3
FINE = 4
"""Bits of a part of a pixel in outlines."""
STEPS = 60

Weights = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class AnomalyMaps:
    """Histograms of the maps of N pictures.

    Attributes
    ----------
    normal, anomalous : float64 arrays (N, BINS)
        Pixels by the value of the map, of what is normal and what is not.
    regions : float64 array (R, BINS)
        Of each connected anomalous region, as shares.
    region_of : int64 array (R,)
        The picture of each region.
    """

    normal: NDArray[np.float64]
    anomalous: NDArray[np.float64]
    regions: NDArray[np.float64]
    region_of: NDArray[np.int64]

    @classmethod
    def of(
        cls, maps: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]
    ) -> AnomalyMaps:
        """From maps in [0, 1] of any size and masks (GRID, GRID) that say what is anomalous."""
        normal, anomalous, regions, region_of = [], [], [], []
        for number, (places, mask) in enumerate(zip(maps, masks, strict=True)):
            heat = cv2.resize(np.asarray(places, np.float32), (GRID, GRID))
            bins = np.clip((heat * BINS).astype(np.int64), 0, BINS - 1)
            normal.append(np.bincount(bins[~mask], minlength=BINS))
            anomalous.append(np.bincount(bins[mask], minlength=BINS))
            count, parts = cv2.connectedComponents(mask.astype(np.uint8))
            for part in range(1, count):
                inside = bins[parts == part]
                regions.append(np.bincount(inside, minlength=BINS) / len(inside))
                region_of.append(number)
        return cls(
            np.array(normal, np.float64).reshape(-1, BINS),
            np.array(anomalous, np.float64).reshape(-1, BINS),
            np.array(regions, np.float64).reshape(-1, BINS),
            np.array(region_of, np.int64),
        )

    def resampled(self, weights: Weights) -> dict[str, NDArray[np.float64]]:
        """``pixel_auroc`` and ``aupro`` of each resampling (B,) of the pictures (B, N)."""
        normal, anomalous = weights @ self.normal, weights @ self.anomalous
        below = np.cumsum(normal, axis=1) - normal
        wins = (anomalous * (below + 0.5 * normal)).sum(axis=1)
        area = ratio(wins, normal.sum(axis=1) * anomalous.sum(axis=1))
        return {"pixel_auroc": area, "aupro": self._region_overlap(weights, normal)}

    def _region_overlap(self, weights: Weights, normal: NDArray[np.float64]) -> NDArray[np.float64]:
        if not len(self.regions):
            return np.full(len(weights), np.nan)
        own = weights[:, self.region_of]
        overlap = ratio_rows(own @ self.regions, own.sum(axis=1))
        above_regions = np.cumsum(overlap[:, ::-1], axis=1)  # from the highest value down
        above_normal = np.cumsum(ratio_rows(normal, normal.sum(axis=1))[:, ::-1], axis=1)
        wanted = np.linspace(0, MOST_FALSE, STEPS + 1)[1:]
        rows = [
            np.interp(wanted, np.append(0.0, false), np.append(0.0, found)).mean()
            for false, found in zip(above_normal, above_regions, strict=True)
        ]
        return np.asarray(rows, np.float64)


def ratio_rows(table: NDArray[np.float64], totals: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each row by its total; NaN where that is not positive."""
    safe = np.where(totals > 0, totals, np.nan)
    return np.asarray(table / safe[:, None], np.float64)


def mask_of(version: DatasetVersion, sample_id: str) -> NDArray[np.bool_] | None:
    """Where a sample is anomalous, (GRID, GRID); None where nobody drew it.

    A normal sample is normal everywhere. Outlines are filled; without them boxes are.
    """
    rows = version.annotations_of(sample_id)
    bad = [one for one in rows if one.class_name == version.classes[1]]
    if not bad:
        return np.zeros((GRID, GRID), np.bool_)
    drawn = [one for one in bad if one.polygon or one.xyxy is not None]
    if not drawn:
        return None
    size = version.samples.loc[version.samples["sample_id"] == sample_id, ["width", "height"]]
    width, height = (int(value) for value in size.iloc[0])
    canvas = np.zeros((height, width), np.uint8)
    for one in drawn:
        cv2.fillPoly(canvas, [_ring(ring) for ring in _outlines(one)], 255, shift=FINE)
    small = cv2.resize(canvas, (GRID, GRID), interpolation=cv2.INTER_AREA)
    return np.asarray(small > 64, np.bool_)


def measure_maps(
    maps: Sequence[NDArray[np.float32] | None],
    masks: Sequence[NDArray[np.bool_] | None],
    groups: Sequence[str],
    params: IntervalParams,
    *,
    seed: int,
) -> MapQuality | None:
    """Both metrics over the pictures that have a map and a mask; None where there are none."""
    kept = [
        row
        for row, (one, mask) in enumerate(zip(maps, masks, strict=True))
        if one is not None and mask is not None
    ]
    if not kept:
        return None
    table = AnomalyMaps.of(
        [maps[row] for row in kept],  # type: ignore[misc]
        [masks[row] for row in kept],  # type: ignore[misc]
    )
    names = [groups[row] for row in kept]
    values = table.resampled(np.ones((1, len(kept))))
    drawn = table.resampled(draw_weights(names, draws=params.draws, seed=seed))
    regions = len(table.regions)
    found = {}
    for name, numbers in values.items():
        value = float(numbers[0])
        ends = interval(value, drawn[name], groups=len(set(names)), level=params.level)
        enough = len(kept) >= params.min_samples and regions >= params.min_class_samples
        found[name] = Estimate.of(value, ends, n=len(kept), enough=enough)
    return MapQuality(
        pixel_auroc=found["pixel_auroc"],
        aupro=found["aupro"],
        regions=regions,
        without_outline=sum(mask is None for mask in masks),
    )


def _outlines(annotation: Annotation) -> list[tuple[float, ...]]:
    if annotation.polygon:
        return list(annotation.polygon)
    assert annotation.xyxy is not None
    x1, y1, x2, y2 = annotation.xyxy
    return [(x1, y1, x2, y1, x2, y2, x1, y2)]


def _ring(ring: Sequence[float]) -> NDArray[np.int32]:
    """Corners as OpenCV counts them: a pixel's centre is whole, and parts of pixels count."""
    corners = np.array(ring, np.float64).reshape(-1, 2)
    inward = 0.5 + 0.25 * np.sign(corners - corners.mean(axis=0))  # not the pixel beyond the edge
    return np.asarray(np.round((corners - inward) * 2**FINE), np.int32)
