"""Change against an earlier dataset version: class mix, image statistics, embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.core.image_statistics import STATISTIC_NAMES
from visionloop.core.workspace import Workspace
from visionloop.data.quality.finding import Finding
from visionloop.data.quality.params import CheckParams

if TYPE_CHECKING:
    import pandas

    from visionloop.data.versions.version import DatasetVersion

__all__ = ["embedding_change", "find_change"]

MIN_SAMPLES = 20
FEATURES = 256
PERMUTATIONS = 499
ALPHA = 0.002
MAX_COMPARED = 1000


def find_change(
    workspace: Workspace,
    samples: pandas.DataFrame,
    annotations: list[Annotation],
    limits: CheckParams,
) -> list[Finding]:
    """What is different now from the version of ``compare_with``; nothing if there is none.

    Raises
    ------
    DataError
        If a version is named that is not there.
    """
    before = _earlier_version(workspace, limits.compare_with)
    if before is None:
        return []
    annotated = {row.sample_id for row in annotations}
    now = samples[samples["sample_id"].isin(list(annotated))]
    if min(len(now), len(before.samples)) < MIN_SAMPLES:
        return []
    told = f"than in version {before.name}"
    return [
        *_class_change(annotations, before, limits, told),
        *_statistic_change(now, before, limits, told),
        *_embedding_change(workspace, now, before, told),
    ]


def _earlier_version(workspace: Workspace, wanted: str) -> DatasetVersion | None:
    from visionloop.data.versions.version import load_version

    if wanted == "none":
        return None
    manifests = {
        path.parent.name: read_json(path) for path in workspace.versions.glob("*/manifest.json")
    }
    if wanted != "newest" and wanted not in manifests:
        there = ", ".join(sorted(manifests)) or "none"
        raise DataError(f"dataset version {wanted}", "is not here", f"versions: {there}")
    if not manifests:
        return None
    parents = {row["parent"] for row in manifests.values()}
    ends = sorted(name for name, row in manifests.items() if row["fingerprint"] not in parents)
    name = wanted if wanted != "newest" else (ends or sorted(manifests))[-1]
    return load_version(workspace.version(name), workspace.images)


def _class_change(
    annotations: list[Annotation], before: DatasetVersion, limits: CheckParams, told: str
) -> Iterator[Finding]:
    now = _shares(annotations)
    then = _shares(list(before.annotations))
    names = sorted({*now, *then})
    distance = sum(abs(now.get(name, 0) - then.get(name, 0)) for name in names) / 2
    if distance > limits.max_class_change:
        most = max(names, key=lambda name: abs(now.get(name, 0) - then.get(name, 0)))
        reason = (
            f"{distance:.0%} of the annotations are of other classes {told}; most of all "
            f"'{most}': {then.get(most, 0):.0%} before, {now.get(most, 0):.0%} now"
        )
        yield Finding("change", "", reason, min(1.0, distance))


def _shares(annotations: list[Annotation]) -> dict[str, float]:
    counts = Counter(row.class_name for row in annotations if row.class_name)
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _statistic_change(
    now: pandas.DataFrame, before: DatasetVersion, limits: CheckParams, told: str
) -> Iterator[Finding]:
    """Shift of the median in standard deviations (estimated by quartiles) of the version."""
    for name in STATISTIC_NAMES:
        then, current = before.samples[name].to_numpy(float), now[name].to_numpy(float)
        low, middle, high = np.quantile(then, [0.25, 0.5, 0.75])
        deviation = max((high - low) / 1.349, 1e-6)
        shift = (float(np.median(current)) - middle) / deviation
        if abs(shift) > limits.max_statistic_change:
            way = "larger" if shift > 0 else "smaller"
            reason = (
                f"{name} is {abs(shift):.1f} standard deviations {way} {told}: median "
                f"{middle:.1f} before, {np.median(current):.1f} now"
            )
            yield Finding("change", "", reason, float(min(1.0, abs(shift) / 4)))


def _embedding_change(
    workspace: Workspace, now: pandas.DataFrame, before: DatasetVersion, told: str
) -> Iterator[Finding]:
    from visionloop.data.embeddings import load_embeddings

    if not (workspace.embeddings / "embeddings.npz").is_file():
        return
    embeddings = load_embeddings(workspace.embeddings)
    known = set(embeddings.ids)
    then = [one for one in before.samples["sample_id"] if one in known]
    added = [one for one in now["sample_id"] if one in known and one not in set(then)]
    if min(len(then), len(added)) < MIN_SAMPLES:
        return
    p_value, distance = embedding_change(embeddings.of(then), embeddings.of(added))
    if p_value <= ALPHA:
        reason = (
            f"the {len(added)} samples that are new look different {told} (embeddings: p "
            f"{p_value:.3f}, distance {distance:.2f})"
        )
        yield Finding("change", "", reason, float(min(1.0, 0.3 + distance)))


def embedding_change(
    before: NDArray[np.float32], now: NDArray[np.float32], *, seed: int = 0
) -> tuple[float, float]:
    """Do two sets of vectors come from one distribution?

    Maximum mean discrepancy with random Fourier features (Gretton et al., 2012; Rahimi and
    Recht, 2007) and a permutation test; the kernel's width is the median distance.

    Parameters
    ----------
    before, now : float32 arrays (N, D) and (M, D)
        At most 1,000 of each are used, drawn evenly.
    seed : int

    Returns
    -------
    (p-value, distance)
        The distance is 0 for equal distributions and at most about 1.4.
    """
    generator = np.random.default_rng(seed)
    both = np.concatenate([_thin(before), _thin(now)]).astype(np.float64)
    count = min(len(before), MAX_COMPARED)
    first, second = generator.integers(len(both), size=(2, 500))
    width = float(np.median(np.linalg.norm(both[first] - both[second], axis=1))) or 1.0
    waves = generator.standard_normal((both.shape[1], FEATURES)) / width
    phases = both @ waves
    features = np.concatenate([np.cos(phases), np.sin(phases)], axis=1) / np.sqrt(FEATURES)

    def gap(order: NDArray[np.int64]) -> float:
        difference = features[order[:count]].mean(axis=0) - features[order[count:]].mean(axis=0)
        return float(np.linalg.norm(difference))

    found = gap(np.arange(len(both)))
    drawn = [gap(generator.permutation(len(both))) for _ in range(PERMUTATIONS)]
    return (1 + sum(value >= found for value in drawn)) / (1 + PERMUTATIONS), found


def _thin(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(vectors) <= MAX_COMPARED:
        return vectors
    chosen = np.linspace(0, len(vectors) - 1, MAX_COMPARED).astype(int)
    return np.asarray(vectors[chosen])
