"""The verb ``select``: which samples people annotate next, within a budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from visionloop.core.errors import DataError
from visionloop.core.plugins import resolve
from visionloop.core.tables import REQUESTS, Table, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.params import load_params
from visionloop.labeling.pool_answers import ask_challenger, ask_champion
from visionloop.labeling.state import state_folder
from visionloop.labeling.strategies.pool import Indices, Pool
from visionloop.labeling.strategies.table import (
    NEEDS_CHALLENGER,
    NEEDS_PROBABILITIES,
    STRATEGIES,
    USES_PROBABILITIES,
)

if TYPE_CHECKING:
    import pandas

__all__ = ["SELECTION", "SelectReport", "select"]

SELECTION = Table(
    "selection",
    {
        "sample_id": "a sample to annotate",
        "order": "0 is the most useful",
        "reason": "one sentence for a person",
    },
)


@dataclass(frozen=True)
class SelectReport:
    """How many were chosen of how many, by which strategy, and where the list is."""

    selected: int
    pool: int
    requested: int
    strategy: str
    path: Path


def select(
    *, workspace: Workspace, strategy: str | None = None, budget: int | None = None
) -> SelectReport:
    """Write ``studio/selection.parquet``.

    The pool is what ``data/requests.parquet`` asks for, less what is annotated or has a
    labeling task; where that is less than the budget, the rest is chosen among all
    other samples without an annotation.

    Parameters
    ----------
    workspace : Workspace
    strategy, budget
        None takes those of ``params.yaml``.

    Raises
    ------
    ConfigError
        If there is no such strategy; the nearest name is offered.
    DataError
        If nothing is left to annotate, or embeddings are missing.
    """
    project, params = load_params(workspace)
    name, budget = strategy or params.strategy, budget or params.budget
    resolve(STRATEGIES, name, kind="selection strategy")  # a wrong name is told at once
    pool = _open_samples(workspace)
    if pool.empty:
        raise DataError("selection", "every sample is annotated or waits in Label Studio")
    requests = _requests(workspace)
    is_requested = pool["sample_id"].isin(list(requests))
    wanted, others = pool[is_requested], pool[~is_requested]
    chosen = _choose(workspace, wanted, budget, name, project.seed, requests)
    rest = budget - len(chosen)
    if rest > 0:
        chosen += _choose(workspace, others, rest, name, project.seed, requests)
    usual = f"Chosen by the strategy '{name}'."
    reasons = [requests[one].reason if one in requests else usual for one in chosen]
    path = _write(workspace, chosen, reasons)
    return SelectReport(len(chosen), len(pool), len(wanted), name, path)


def _open_samples(workspace: Workspace) -> pandas.DataFrame:
    """Samples without an annotation and without a task, ordered by id.

    Near-duplicates of test samples stay out: nothing may be trained on them. So does what
    people excluded.
    """
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.quality.exclusions import read_exclusions
    from visionloop.data.raw import read_samples
    from visionloop.data.splits.split import read_splits

    samples = read_samples(workspace)
    annotated = {row.sample_id for row in merge_annotations(workspace).annotations}
    excluded = {one for one, split in read_splits(workspace).items() if split == "excluded"}
    excluded |= set(read_exclusions(workspace))
    with open_ledger(workspace) as ledger:
        pushed = set(ledger.of_look("first"))
    taken = annotated | excluded | pushed
    left = samples[~samples["sample_id"].isin(list(taken))]
    return left.sort_values("sample_id").reset_index(drop=True)


@dataclass(frozen=True)
class _Request:
    reason: str
    priority: float


def _requests(workspace: Workspace) -> dict[str, _Request]:
    """Requested sample id to request, most wanted first."""
    path = workspace.root / "data" / "requests.parquet"
    if not path.exists():
        return {}
    frame = read_table(path, REQUESTS).sort_values("priority", ascending=False, kind="stable")
    rows = zip(frame["sample_id"], frame["reason"], frame["priority"], strict=True)
    return {one: _Request(reason, float(priority)) for one, reason, priority in rows}


def _choose(
    workspace: Workspace,
    pool: pandas.DataFrame,
    budget: int,
    name: str,
    seed: int,
    requests: dict[str, _Request],
) -> list[str]:
    """Ids that the strategy of this name takes from the pool."""
    if pool.empty:
        return []
    function = resolve(STRATEGIES, name, kind="selection strategy")
    given = _make_pool(workspace, pool, budget, name, seed, requests)
    indices: Indices = function(given)
    return [str(pool["sample_id"].iloc[index]) for index in indices]


def _make_pool(
    workspace: Workspace,
    samples: pandas.DataFrame,
    budget: int,
    name: str,
    seed: int,
    requests: dict[str, _Request],
) -> Pool:
    """Everything that the strategy of this name may look at; models are asked only if it does."""
    from visionloop.data.embeddings import load_embeddings

    embeddings = load_embeddings(workspace.embeddings)
    ids = samples["sample_id"].tolist()
    embedded = set(embeddings.ids)
    known = [one for one in _annotated_for_training(workspace) if one in embedded]
    images = [workspace.images / one for one in samples["file_name"]]
    answers = None
    if name in NEEDS_PROBABILITIES | USES_PROBABILITIES:
        answers = ask_champion(workspace, images)
    if answers is None and name in NEEDS_PROBABILITIES:
        raise DataError(
            str(workspace.package),
            "there is no model package, and this strategy asks the model",
            "export one (visionloop train export), or select with --strategy typical",
        )
    places = samples["camera"].astype(str) + "/" + samples["site"].astype(str)
    return Pool(
        vectors=embeddings.of(ids),
        budget=budget,
        seed=seed,
        probabilities=answers.probabilities if answers else None,
        presence=answers.presence if answers else None,
        box_confidences=answers.box_confidences if answers else None,
        challenger=ask_challenger(workspace, images) if name in NEEDS_CHALLENGER else None,
        known_vectors=embeddings.of(known) if known else None,
        class_counts=_class_counts(workspace),
        groups=np.unique(places, return_inverse=True)[1].astype(np.int64),
        wanted=np.array(
            [requests[one].priority if one in requests else 0 for one in ids], np.float32
        ),
    )


def _class_counts(workspace: Workspace) -> Indices:
    """Annotations of each of the project's classes."""
    from visionloop.data.annotated import merge_annotations

    classes = load_params(workspace)[0].classes
    found = Counter(row.class_name for row in merge_annotations(workspace).annotations)
    return np.array([found[one] for one in classes], np.int64)


def _annotated_for_training(workspace: Workspace) -> list[str]:
    """Annotated samples that are not held back for the test split, ordered."""
    from visionloop.data.annotated import merge_annotations
    from visionloop.data.raw import read_samples

    samples = read_samples(workspace)
    if "official_split" in samples.columns:
        samples = samples[samples["official_split"] != "test"]
    annotated = {row.sample_id for row in merge_annotations(workspace).annotations}
    return sorted(annotated & set(samples["sample_id"]))


def _write(workspace: Workspace, chosen: list[str], reasons: list[str]) -> Path:
    import pandas

    frame = pandas.DataFrame({"sample_id": chosen, "order": range(len(chosen)), "reason": reasons})
    return write_table(state_folder(workspace) / "selection.parquet", SELECTION, frame)
