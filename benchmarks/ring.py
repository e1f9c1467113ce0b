"""The ring's second round on solar cells: which 200 polycrystalline cells to annotate.

Thirty splits, made as the data set makes its phases (whole rows of a module stay together):
500 commissioning cells annotated by experts and 200 production cells by an annotator who errs
at 5 % (all monocrystalline), then 200 of about 1,050 polycrystalline cells chosen by a
strategy and annotated by the same annotator. Selection, head and label issues are the
product's functions with the numbers of ``params.yaml``. Measured on the acceptance cells (320
mono, 500 poly). The first run embeds all cells (about three minutes) and keeps the vectors
beside the results; later runs take about ten minutes.

    python benchmarks/ring.py [--splits 30] [--first-split 0]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from backbone import embed_files
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.config import load_block
from visionloop.core.plugins import resolve
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import track
from visionloop.data.quality.class_issues import rank_label_issues
from visionloop.labeling.strategies.pool import Pool
from visionloop.labeling.strategies.table import STRATEGIES
from visionloop.training.head import FeatureSplit, train_head
from visionloop.training.params import TrainingParams
from visionloop.training.resume import ResumePoint

CELLS = RESULTS / "ring_cells.npz"
REPOSITORY = Path(__file__).parents[1]
BUDGET = 200
ERRORS = 0.05
SECOND_LOOK = 40
"""Doubtful samples that go back in one round, as ``labeling.second_look``."""

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Split:
    """Rows of one split's cells, and which of them the annotator would get wrong."""

    number: int
    expert: Rows
    studio: Rows
    pool: Rows
    test: dict[str, Rows]
    mistake_order: NDArray[np.float64]
    repair: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cells:
    """All cells: vectors float32 (N, D), is_defective bool (N,), block and sample id (N,)."""

    vectors: Vectors
    is_defective: NDArray[np.bool_]
    blocks: NDArray[np.str_]
    ids: NDArray[np.str_]


def main() -> None:
    """Measure, print the table, write ``results/ring.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=30)
    parser.add_argument("--first-split", type=int, default=0)
    options = parser.parse_args()
    set_quiet_environment()
    cells = load_cells()
    numbers = range(options.first_split, options.first_split + options.splits)
    measured = [measure_split(cells, number) for number in track(numbers, "splits")]
    rows = make_rows({name: np.array([one[name] for one in measured]) for name in measured[0]})
    save_results("ring", rows, splits=options.splits)


def measure_split(cells: Cells, number: int) -> dict[str, float]:
    """Every figure of one split."""
    split = make_split(cells, number)
    said = cells.is_defective.astype(np.int64)
    first_errors = mistakes(split, split.studio)
    said[first_errors] = 1 - said[first_errors]
    mono = np.concatenate([split.expert, split.studio])
    before = fit_head(cells.vectors[mono], said[mono])
    found = {"mono-only": poly_quality(cells, split, before)}
    loss_from = quality(cells, split.test["mono"], before)
    found |= issue_figures(cells, mono, said, split.studio, first_errors, number, "mono")
    for name in ("random", "typical", "margin", "recommended"):
        chosen = choose(name, cells, split, mono, before)
        errors = mistakes(split, chosen)
        told = said.copy()
        told[errors] = 1 - told[errors]
        train = np.concatenate([mono, chosen])
        head = fit_head(cells.vectors[train], told[train])
        found[name] = poly_quality(cells, split, head)
        if name in ("random", "recommended"):
            found[f"{name} mono loss"] = loss_from - quality(cells, split.test["mono"], head)
            found |= second_look(cells, split, train, told, chosen, name)
        if name == "recommended":
            found |= issue_figures(cells, train, told, chosen, errors, number, "poly")
            suspects = np.concatenate([split.studio, chosen])
            both = np.concatenate([first_errors, errors])
            found |= issue_figures(cells, train, told, suspects, both, number, "pooled")
    every = np.concatenate([mono, split.pool])
    errors = mistakes(split, split.pool)
    said[errors] = 1 - said[errors]
    found["all"] = poly_quality(cells, split, fit_head(cells.vectors[every], said[every]))
    return found


def choose(
    name: str, cells: Cells, split: Split, annotated: Rows, before: NDArray[np.float64]
) -> Rows:
    """Rows that the strategy of this name sends to people."""
    vectors = cells.vectors[split.pool]
    defective = 1 / (1 + np.exp(-(vectors @ before[:-1] + before[-1])))
    probabilities = np.stack([1 - defective, defective], axis=1).astype(np.float32)
    function: Callable[[Pool], Rows] = resolve(STRATEGIES, name, kind="selection strategy")
    pool = Pool(
        vectors=vectors,
        budget=BUDGET,
        seed=split.number,
        probabilities=probabilities,
        known_vectors=cells.vectors[annotated],
    )
    return split.pool[function(pool)]


def second_look(
    cells: Cells, split: Split, train: Rows, told: Rows, chosen: Rows, name: str
) -> dict[str, float]:
    """Quality after the most doubtful of both rounds were looked at again."""
    doubtful = rank(cells, train, told, split.number)
    again = told.copy()
    for suspects in (split.studio, chosen):
        looked_at = worst(doubtful, train, suspects, SECOND_LOOK)
        repaired = looked_at[split.repair[looked_at] >= ERRORS]
        again[repaired] = cells.is_defective[repaired]
    head = fit_head(cells.vectors[train], again[train])
    return {f"{name} second look": poly_quality(cells, split, head)}


def issue_figures(
    cells: Cells,
    train: Rows,
    told: Rows,
    suspects: Rows,
    errors: Rows,
    seed: int,
    name: str,
) -> dict[str, float]:
    """How many of the planted errors a list of their number holds, and one of the second look."""
    doubtful = rank(cells, train, told, seed)
    return {
        f"issues {name}": float(
            np.isin(errors, worst(doubtful, train, suspects, len(errors))).mean()
        ),
        f"issues {name} second look": float(
            np.isin(errors, worst(doubtful, train, suspects, SECOND_LOOK)).mean()
        ),
    }


def rank(cells: Cells, train: Rows, told: Rows, seed: int) -> NDArray[np.float64]:
    """Severity of the annotations of these rows."""
    groups = cells.blocks[train].tolist()
    return rank_label_issues(cells.vectors[train], told[train], groups, seed=seed).severity


def worst(severity: NDArray[np.float64], train: Rows, suspects: Rows, count: int) -> Rows:
    """The most doubtful suspects."""
    of_suspects = np.where(np.isin(train, suspects), severity, -1)
    return train[np.argsort(-of_suspects, kind="stable")[:count]]


def fit_head(vectors: Vectors, class_ids: Rows) -> NDArray[np.float64]:
    """Weights and, last, bias (D + 1,) of the product's head; positive says defective."""
    params = load_block(REPOSITORY / "params.yaml", "training", TrainingParams)
    train = FeatureSplit(vectors, class_ids)
    with tempfile.TemporaryDirectory() as folder:
        head = train_head(
            train,
            train,
            classes=2,
            l2=params.l2,
            class_weight=params.class_weight,
            epochs=params.epochs,
            resume=ResumePoint(Path(folder), "ring"),
            on_epoch=lambda row: None,
        )
    weight, bias = head.weight.double().numpy(), head.bias.double().numpy()
    return np.append(weight[1] - weight[0], bias[1] - bias[0])


def quality(cells: Cells, rows: Rows, head: NDArray[np.float64]) -> float:
    """Balanced accuracy of a head."""
    is_found = cells.vectors[rows] @ head[:-1] + head[-1] > 0
    truth = cells.is_defective[rows]
    return float(((is_found[truth]).mean() + (~is_found[~truth]).mean()) / 2)


def poly_quality(cells: Cells, split: Split, head: NDArray[np.float64]) -> float:
    """Balanced accuracy on the polycrystalline cells held back."""
    return quality(cells, split.test["poly"], head)


def mistakes(split: Split, rows: Rows) -> Rows:
    """The rows that the annotator gets wrong: 5 % of a batch, the same cells where they recur."""
    return rows[np.argsort(split.mistake_order[rows])[: round(ERRORS * len(rows))]]


def make_split(cells: Cells, number: int) -> Split:
    """The phases of the data set with this seed."""
    from visionloop.data.datasets.table import open_dataset

    place = {one: row for row, one in enumerate(cells.ids)}
    rows: dict[tuple[str, str], list[int]] = {}
    for sample in open_dataset("elpv", seed=number).samples():
        key = sample.phase, sample.attributes["cell_type"]
        rows.setdefault(key, []).append(place[sample.sample_id])
    found = {key: np.array(sorted(set(value)), np.int64) for key, value in rows.items()}
    rng = np.random.default_rng(number)
    return Split(
        number=number,
        expert=found["commissioning", "mono"],
        studio=np.sort(rng.permutation(found["production_1", "mono"])[:BUDGET]),
        pool=found["production_2", "poly"],
        test={kind: found["acceptance", kind] for kind in ("mono", "poly")},
        mistake_order=rng.random(len(cells.ids)),
        repair=rng.random(len(cells.ids)),
    )


def load_cells() -> Cells:
    """Vectors and truth of all cells; embedded once, then read from the results."""
    if not CELLS.is_file():
        RESULTS.mkdir(exist_ok=True)
        np.savez(CELLS, **embed_cells())
    with np.load(CELLS) as stored:
        return Cells(**{name: stored[name] for name in stored.files})


def embed_cells() -> dict[str, Any]:
    """All cells through the backbone package of the default recipe."""
    from visionloop.data.datasets.table import open_dataset

    dataset = open_dataset("elpv", seed=0)
    truth = dataset.truth()
    samples = list({one.sample_id: one for one in dataset.samples()}.values())
    return {
        "vectors": embed_files([one.content for one in samples]),
        "is_defective": np.array(
            [truth[one.sample_id][0].class_name == "defective" for one in samples]
        ),
        "blocks": np.array([one.attributes["block"] for one in samples]),
        "ids": np.array([one.sample_id for one in samples]),
    }


def make_rows(found: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """The rows of the results file, targets of issue and design included."""
    count = len(found["random"])
    poly = f"balanced accuracy on poly, {BUDGET} poly annotated: "
    gain = found["recommended"] - found["random"]
    repaired = found["recommended second look"] - found["random second look"]
    loss = found["recommended mono loss"]
    rows = [
        mean_row(f"{poly}recommended", found["recommended"], target=0.75),
        *(mean_row(poly + name, found[name]) for name in ("random", "typical", "margin")),
        mean_row("the same, no poly annotated", found["mono-only"]),
        mean_row("the same, all poly annotated", found["all"]),
        mean_row("recommended less random, paired over splits", gain, target=0.0, is_strict=True),
        mean_row("share of splits in which recommended is better", (gain > 0).astype(float)),
        mean_row("loss on mono, recommended", loss, target=0.02, higher_is_better=False),
        mean_row("loss on mono, random", found["random mono loss"], higher_is_better=False),
        mean_row(f"{poly}recommended, second look", found["recommended second look"]),
        mean_row(f"{poly}random, second look", found["random second look"]),
        mean_row("recommended less random, both with a second look, paired", repaired),
    ]
    for name, what in (("mono", "200 mono"), ("poly", "200 poly"), ("pooled", "both, 400")):
        rows += [
            mean_row(
                f"planted errors held by a list of their number: {what}",
                found[f"issues {name}"],
                target=0.5,
            ),
            mean_row(
                f"planted errors held by a second look of {SECOND_LOOK}: {what}",
                found[f"issues {name} second look"],
            ),
        ]
    return [{**row, "splits": count} for row in rows]


def mean_row(
    claim: str,
    values: NDArray[np.float64],
    *,
    target: float | None = None,
    is_strict: bool = False,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """One row: the mean over splits and its 95 % interval (t); strict asks the whole interval."""
    from scipy.stats import t

    mean = float(values.mean())
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    half = float(t.ppf(0.975, max(1, len(values) - 1))) * error
    met = None
    if target is not None:
        judged = mean - half if is_strict else mean
        met = judged > target if is_strict else (judged >= target) == higher_is_better
    return make_row(
        claim,
        mean,
        spread=[mean - half, mean + half],
        target=target,
        met=met,
        higher_is_better=higher_is_better,
    )


if __name__ == "__main__":
    main()
