"""Drift on solar cells: false alarms and power, beside Evidently's embedding methods.

Reference and current windows hold 150 cells each. "Nothing changed" draws both from one pool
of monocrystalline cells that the head never saw; a shift mixes polycrystalline cells into the
current one. Both sides see the same draws. The first run embeds about 1,500 cells (two
minutes) and keeps them beside the results; later runs take about five minutes.

    python benchmarks/drift.py [--draws 1000] [--peer-draws 50]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas
from backbone import embed_files
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.image_statistics import STATISTIC_NAMES, measure_image
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import track
from visionloop.monitoring.families import compare_windows
from visionloop.monitoring.params import DriftParams
from visionloop.monitoring.windows import Window

CELLS = RESULTS / "drift_cells.npz"
ALPHA = 0.01
SIZE = 150
SHIFTS = (0.1, 0.2, 1.0)
POLY_CELLS = 400

Vectors = NDArray[np.float32]
Draw = tuple[NDArray[np.int64], NDArray[np.int64]]


def main() -> None:
    """Measure, print the table, write ``results/drift.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="null draws of our check")
    parser.add_argument("--peer-draws", type=int, default=50, help="draws beside the peer")
    options = parser.parse_args()
    set_quiet_environment()
    cells = load_cells()
    frames = frames_of(cells)
    rows = null_rows(frames, cells, options.draws)
    rows += power_rows(frames, cells, options.draws // 10)
    rows += peer_rows(frames, cells, options.peer_draws)
    save_results("drift", rows)


def null_rows(frames: pandas.DataFrame, cells: dict[str, Any], draws: int) -> list[dict[str, Any]]:
    """False alarms of the whole check and of each family over pairs where nothing changed."""
    alarms: dict[str, int] = {"whole check": 0}
    params = DriftParams()
    for draw in track(range(draws), "null draws", total=draws):
        decision = compare(frames, draw_pair(cells, 0.0, draw), params, draw)
        alarms["whole check"] += decision.is_drift
        for family in decision.families:
            alarms[family.name] = alarms.get(family.name, 0) + (family.p_value < ALPHA)
    return [
        make_row(
            f"false alarms at alpha .01, {draws} null draws: {name.replace('_', ' ')}",
            count / draws,
            spread=wilson(count, draws),
            target=ALPHA,
            met=wilson(count, draws)[0] <= ALPHA,
            higher_is_better=False,
        )
        for name, count in alarms.items()
    ]


def power_rows(frames: pandas.DataFrame, cells: dict[str, Any], draws: int) -> list[dict[str, Any]]:
    """How often the whole check sees polycrystalline cells, by their share."""
    rows = []
    params = DriftParams()
    for share in (0.05, *SHIFTS):
        found = [compare(frames, draw_pair(cells, share, n), params, n) for n in range(draws)]
        count = sum(decision.is_drift for decision in found)
        rows.append(
            make_row(
                f"whole check fires, {share:.0%} of the cells are new, {draws} draws",
                count / draws,
                spread=wilson(count, draws),
                target=1.0 if share == 1.0 else None,
                higher_is_better=True,
            )
        )
    return rows


def peer_rows(frames: pandas.DataFrame, cells: dict[str, Any], draws: int) -> list[dict[str, Any]]:
    """Embedding tests side by side: null, then shifts of growing size, then seconds."""
    methods = evidently_methods()
    ours = DriftParams(families=["embeddings"])
    fired: dict[tuple[str, float], int] = {}
    seconds: dict[str, list[float]] = {}
    jobs = [(share, draw) for share in (0.0, *SHIFTS) for draw in range(draws)]
    for share, draw in track(jobs, "beside Evidently"):
        first, second = draw_pair(cells, share, draw)
        start = time.perf_counter()
        decision = compare(frames, (first, second), ours, draw)
        seconds.setdefault("ours", []).append(time.perf_counter() - start)
        tally(fired, "ours", share, decision.is_drift)
        for name, method in methods.items():
            # A new frame each time: the method adds a column to what it is given.
            reference = pandas.DataFrame(cells["vectors"][first])
            current = pandas.DataFrame(cells["vectors"][second])
            start = time.perf_counter()
            _, is_drift, _ = method(current, reference)
            seconds.setdefault(name, []).append(time.perf_counter() - start)
            tally(fired, name, share, bool(is_drift))
    return shift_rows(fired, list(methods), draws) + second_rows(seconds, list(methods))


def shift_rows(
    fired: dict[tuple[str, float], int], names: list[str], draws: int
) -> list[dict[str, Any]]:
    """Share of draws that fired, for each share of new cells and each of Evidently's methods."""
    rows = []
    for share in (0.0, *SHIFTS):
        count = fired["ours", share]
        what = f"{share:.0%} of the cells are new" if share else "nothing changed (false alarms)"
        for name in names:
            rows.append(
                make_row(
                    f"embedding test fires, {what}, {draws} draws",
                    count / draws,
                    peer=fired[name, share] / draws,
                    peer_name=f"evidently 0.7.23 {name}",
                    spread=wilson(count, draws),
                    target=ALPHA if not share else (1.0 if share == 1.0 else None),
                    met=wilson(count, draws)[0] <= ALPHA if not share else None,
                    higher_is_better=bool(share),
                )
            )
    return rows


def second_rows(seconds: dict[str, list[float]], names: list[str]) -> list[dict[str, Any]]:
    """Median seconds of one embedding check."""
    ours = float(np.median(seconds["ours"]))
    return [
        make_row(
            f"seconds of an embedding check, {SIZE} + {SIZE} cells, 1280 columns",
            ours,
            peer=float(np.median(seconds[name])),
            peer_name=f"evidently 0.7.23 {name}",
            spread=[float(value) for value in np.quantile(seconds["ours"], [0.05, 0.95])],
            higher_is_better=False,
        )
        for name in names
    ]


def evidently_methods() -> dict[str, Callable[..., tuple[float, bool, str]]]:
    """Its four embedding methods as they come, and its classifier with a bootstrap at alpha."""
    from evidently.legacy.metrics.data_drift import embedding_drift_methods as methods

    return {
        "model": methods.model(),
        "model with bootstrap": methods.model(bootstrap=True, quantile_probability=1 - ALPHA),
        "ratio": methods.ratio(),
        "distance": methods.distance(),
        "mmd": methods.mmd(),
    }


def compare(frames: pandas.DataFrame, pair: Draw, params: DriftParams, seed: int) -> Any:
    """Our decision on a pair of windows."""
    first, second = (
        Window(name, frames.iloc[rows].reset_index(drop=True))
        for name, rows in zip(("reference", "current"), pair, strict=True)
    )
    return compare_windows(first, second, params=params, alpha=ALPHA, seed=seed)


def draw_pair(cells: dict[str, Any], share: float, seed: int) -> Draw:
    """Rows of a reference and of a current window with this share of polycrystalline cells."""
    rng = np.random.default_rng([seed, round(share * 1000)])
    mono = rng.permutation(np.flatnonzero(cells["is_mono"] & ~cells["is_commissioning"]))
    poly = rng.permutation(np.flatnonzero(~cells["is_mono"]))
    new = round(share * SIZE)
    return mono[:SIZE], np.concatenate([mono[SIZE : 2 * SIZE - new], poly[:new]])


def frames_of(cells: dict[str, Any]) -> pandas.DataFrame:
    """A window table of all cells, answered by a head that was trained on commissioning cells."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    known = cells["is_commissioning"]
    head = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, max_iter=500, class_weight="balanced")
    ).fit(cells["vectors"][known], cells["is_defective"][known])
    probability = head.predict_proba(cells["vectors"])[:, 1]
    count = len(probability)
    return pandas.DataFrame(
        {
            "sample_id": [f"{number:064d}" for number in range(count)],
            "package": "head",
            "confidence": np.maximum(probability, 1 - probability),
            "predicted_class": np.where(probability > 0.5, "defective", "functional"),
            "boxes": -1,
            "embedding": list(cells["vectors"]),
            "embedding_package": "backbone",
            "probability_functional": 1 - probability,
            "probability_defective": probability,
            **dict(zip(STATISTIC_NAMES, cells["statistics"].T, strict=True)),
        }
    )


def load_cells() -> dict[str, Any]:
    """Features, statistics and truth of the cells; embedded once, then read from the results."""
    if not CELLS.is_file():
        RESULTS.mkdir(exist_ok=True)
        np.savez(CELLS, **embed_cells())
    return dict(np.load(CELLS))


def embed_cells() -> dict[str, Any]:
    """All monocrystalline cells and some polycrystalline ones, through the backbone package."""
    from visionloop.data.datasets.table import open_dataset
    from visionloop.serving.images import decode_image

    dataset = open_dataset("elpv", seed=0)
    samples = list(dataset.samples())
    poly = [one for one in samples if one.attributes["cell_type"] != "mono"]
    mono = [one for one in samples if one.attributes["cell_type"] == "mono"]
    chosen = mono + [poly[number * len(poly) // POLY_CELLS] for number in range(POLY_CELLS)]
    truth = dataset.truth()
    statistics = [
        list(measure_image(decode_image(one.content)).as_row().values()) for one in chosen
    ]
    classes = [truth[one.sample_id][0].class_name for one in chosen]
    return {
        "vectors": embed_files([one.content for one in chosen]),
        "statistics": np.array(statistics),
        "is_mono": np.array([one.attributes["cell_type"] == "mono" for one in chosen]),
        "is_commissioning": np.array([one.phase == "commissioning" for one in chosen]),
        "is_defective": np.array(classes) == "defective",
    }


def tally(fired: dict[tuple[str, float], int], name: str, share: float, is_drift: bool) -> None:
    """Count an alarm."""
    fired[name, share] = fired.get((name, share), 0) + is_drift


def wilson(count: int, total: int) -> list[float]:
    """95 % interval of a share (Wilson, 1927)."""
    z, share = 1.96, count / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    return [float(max(0.0, middle - half)), float(min(1.0, middle + half))]


if __name__ == "__main__":
    main()
