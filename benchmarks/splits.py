"""Splits: exposures of one view found by pictures alone, and what a random split flatters by.

Magnetic tiles: 1,344 pictures, most views shot at six exposures and cropped by hand each time.
File names (``exp<exposure>_num<number>``) are the truth and nothing else; the finder sees pictures.
Names do not tell all: some tiles were shot twice (24 of 24 ties between far numbers that were drawn
and looked at show the same marks), so groups made from the names alone still leak.
Frozen features of the default backbone. DeepPCB: its official split, boards by file name.

    python benchmarks/splits.py
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas
from backbone import embed_files
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import track
from visionloop.data.datasets.archive_dataset import open_archive_dataset
from visionloop.data.datasets.table import RawSample
from visionloop.data.splits.groups import find_ties
from visionloop.data.splits.leaks import derive_column, find_leaks
from visionloop.data.splits.near_duplicates import find_near_duplicates, hash_image, join_groups
from visionloop.data.splits.params import SameViewParams, SplitParams
from visionloop.data.splits.same_view import find_same_views, read_texture
from visionloop.serving.images import decode_image

TILES = RESULTS / "splits_tiles.npz"
NEAR = 100
"""Difference of file numbers below which two pictures can be of one view."""
SEEDS = 3
FOLDS = 5

MEASURES = (
    "defect-class balanced accuracy",
    "one-class AUROC, nearest good tiles",
    "one-class AUROC, Mahalanobis",
)

Row = dict[str, Any]
Pair = tuple[int, int]
Ints = NDArray[np.int64]


def main() -> None:
    """Measure, print the table, write ``results/splits.json``."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    set_quiet_environment()
    tiles = list(open_archive_dataset("magnetic-tile"))
    classes = [tile.annotations[0].class_name for tile in tiles]
    views, rows = view_rows(tiles, classes)
    hundreds = np.array([int(tile.attributes["number"]) // NEAR for tile in tiles])
    groupings = {"random": np.arange(len(tiles)), "by blocks of 100 numbers": hundreds}
    rows += flatter_rows(tiles, np.array(classes), {**groupings, "grouped": views})
    rows += board_rows()
    save_results("splits", rows)


def view_rows(tiles: Sequence[RawSample], classes: Sequence[str]) -> tuple[Ints, list[Row]]:
    """The group of every tile, and how well the groups agree with the file names."""
    started, cpu = time.perf_counter(), time.process_time()
    limits = SameViewParams()
    hashes, textures = [], []
    for tile in track(tiles, "reading textures"):
        image = decode_image(tile.content)
        hashes.append(hash_image(image))
        textures.append(read_texture(image, scale=limits.scale))
    pairs = find_same_views(
        textures, min_correlation=limits.min_correlation, candidates=limits.candidates
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    views = join_groups(len(tiles), [(first, second) for first, second, _ in pairs])
    near = find_near_duplicates(hashes, max_distance=SplitParams().near_duplicate_distance)
    by_hash = join_groups(len(tiles), [(first, second) for first, second, _ in near])
    numbers = [int(tile.attributes["number"]) for tile in tiles]
    exposures = [int(tile.attributes["exposure"]) for tile in tiles]
    close = close_pairs(numbers, classes)
    runs = run_pairs(numbers, exposures, classes)
    joined = Counter(views)
    inside = sum(count * (count - 1) // 2 for count in joined.values())
    explained = sum(views[first] == views[second] for first, second in runs)
    far = [pair for pair in pairs if abs(numbers[pair[0]] - numbers[pair[1]]) >= 3 * NEAR]
    rows = [
        agreement_row(f"exposures of one view, numbers closer than {NEAR}", runs, views, by_hash),
        agreement_row(f"all pairs of one class closer than {NEAR}", close, views, by_hash),
        make_row("views by name with exactly six exposures", float(six_by_name(close, exposures))),
        make_row("groups found with exactly six exposures", float(six_of(views, exposures))),
        make_row("largest group found", float(max(joined.values()))),
        make_row("pairs in groups that the names explain", explained / inside),
        make_row("direct ties between numbers 300 or more apart", len(far) / len(pairs)),
        make_row("seconds for 1,344 pictures", seconds, target=120, higher_is_better=False),
        make_row("of these, processor seconds", cpu, target=120, higher_is_better=False),
    ]
    return views, rows


def agreement_row(what: str, pairs: Sequence[Pair], views: Ints, by_hash: Ints) -> Row:
    """Share of the pairs that are in one group; the perceptual hash beside."""
    ours, theirs = (
        float(np.mean([groups[first] == groups[second] for first, second in pairs]))
        for groups in (views, by_hash)
    )
    claim = f"magnetic tiles: {what} ({len(pairs)} pairs), joined"
    return make_row(claim, ours, peer=theirs, peer_name="perceptual hash", target=0.98)


def close_pairs(numbers: Sequence[int], classes: Sequence[str]) -> list[Pair]:
    """Pairs of one class whose file numbers differ by less than 100."""
    order = np.argsort(numbers, kind="stable")
    pairs = []
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            if numbers[second] - numbers[first] >= NEAR:
                break
            if classes[first] == classes[second]:
                pairs.append((int(first), int(second)))
    return pairs


def run_pairs(
    numbers: Sequence[int], exposures: Sequence[int], classes: Sequence[str]
) -> list[Pair]:
    """Of these, pairs of one run of rising exposures: two tiles that were shot in turns, whose
    numbers interleave, are not taken for one view."""
    run_of: dict[int, int] = {}
    last: dict[str, int] = {}
    for row in np.argsort(numbers, kind="stable"):
        before = last.get(classes[row])
        follows = (
            before is not None
            and numbers[row] - numbers[before] < NEAR
            and exposures[row] > exposures[before]
        )
        run_of[int(row)] = run_of[before] if follows and before is not None else int(row)
        last[classes[row]] = int(row)
    return [pair for pair in close_pairs(numbers, classes) if run_of[pair[0]] == run_of[pair[1]]]


def six_by_name(pairs: Sequence[Pair], exposures: Sequence[int]) -> int:
    """Views with each exposure once, if close numbers of one class alone made a view."""
    return six_of(join_groups(len(exposures), list(pairs)), exposures)


def six_of(groups: Ints, exposures: Sequence[int]) -> int:
    """Groups with each of the six exposures once."""
    inside: dict[int, list[int]] = defaultdict(list)
    for group, exposure in zip(groups, exposures, strict=True):
        inside[int(group)].append(exposure)
    return sum(sorted(found) == [1, 2, 3, 4, 5, 6] for found in inside.values())


def flatter_rows(
    tiles: Sequence[RawSample], classes: NDArray[np.str_], groupings: dict[str, Ints]
) -> list[Row]:
    """The same classifier and the same one-class measure under both kinds of folds."""
    if not TILES.is_file():
        RESULTS.mkdir(exist_ok=True)
        np.savez(TILES, vectors=embed_files([tile.content for tile in tiles]))
    vectors = np.load(TILES)["vectors"]
    vectors = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
    found = {
        name: [
            (
                defect_accuracy(vectors, classes, groups, seed),
                *novelty(vectors, classes, groups, seed),
            )
            for seed in track(range(SEEDS), f"{name} folds")
        ]
        for name, groups in groupings.items()
    }
    rows = []
    for place, what in enumerate(MEASURES):
        values = {name: np.array([one[place] for one in runs]) for name, runs in found.items()}
        for name, runs in values.items():
            low, high = np.quantile(runs, [0.05, 0.95])
            claim = f"magnetic tiles: {what}, {name} folds"
            rows.append(make_row(claim, float(runs.mean()), spread=[low, high]))
        gap = values["random"] - values["grouped"]
        low, high = np.quantile(gap, [0.05, 0.95])
        claim = f"magnetic tiles: {what}, what random folds flatter by"
        rows.append(make_row(claim, float(gap.mean()), spread=[low, high], higher_is_better=False))
    return rows


def defect_accuracy(
    vectors: NDArray[np.float32], classes: NDArray[np.str_], groups: Ints, seed: int
) -> float:
    """Balanced accuracy among the five kinds of defects, logistic regression, five folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedGroupKFold

    bad = classes != "Free"
    rows, truth = vectors[bad], classes[bad]
    told = np.empty(len(truth), truth.dtype)
    cutter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, left_out in cutter.split(rows, truth, groups[bad]):
        model = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced")
        told[left_out] = model.fit(rows[fitted], truth[fitted]).predict(rows[left_out])
    return float(balanced_accuracy_score(truth, told))


def novelty(
    vectors: NDArray[np.float32], classes: NDArray[np.str_], groups: Ints, seed: int
) -> tuple[float, float]:
    """AUROC of two distances to the good tiles of the other folds; defects never train."""
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.neighbors import NearestNeighbors

    bad = classes != "Free"
    nearest, spread = np.zeros(len(bad)), np.zeros(len(bad))
    cutter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for fitted, left_out in cutter.split(vectors, bad, groups):
        good = vectors[fitted[~bad[fitted]]]
        near = NearestNeighbors(n_neighbors=5, metric="cosine").fit(good)
        nearest[left_out] = near.kneighbors(vectors[left_out])[0].mean(axis=1)
        spread[left_out] = mahalanobis(good, vectors[left_out])
    return float(roc_auc_score(bad, nearest)), float(roc_auc_score(bad, spread))


def mahalanobis(good: NDArray[np.float32], asked: NDArray[np.float32]) -> NDArray[np.float64]:
    """Squared distance to the mean of the good ones along their 100 widest directions."""
    mean = good.mean(axis=0)
    width, ways = np.linalg.eigh(np.cov((good - mean).T))
    along = (asked - mean) @ ways[:, -100:]
    return np.asarray((along**2 / width[-100:]).sum(axis=1), np.float64)


def board_rows() -> list[Row]:
    """Official test images of DeepPCB that share a board with its training images."""
    samples = list(open_archive_dataset("deeppcb"))
    table = pandas.DataFrame(
        {
            "sample_id": [one.sample_id for one in samples],
            "file": [one.attributes["file"] for one in samples],
        }
    )
    table = derive_column(table, "board", source="file", pattern=r"(\d{5})\d{3}\.")
    sides = ["test" if one.official_split == "test" else "train" for one in samples]
    ties = find_ties(table, None, SplitParams(group_columns=["board"]))
    report = find_leaks(table, sides, ties, judged="official")
    return [
        make_row(
            f"DeepPCB: of {report.counts['test']} official test images, those of a board in train",
            report.shares["test"],
            target=0.34,
            met=abs(report.shares["test"] - 0.34) < 0.01,
        ),
        make_row("DeepPCB: boards on both sides", float(report.crossing_groups)),
    ]


if __name__ == "__main__":
    main()
