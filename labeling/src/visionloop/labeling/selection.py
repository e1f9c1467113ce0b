"""The verb ``select``: which samples people annotate next, within a budget."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.errors import DataError
from visionloop.core.plugins import resolve
from visionloop.core.tables import REQUESTS, Table, read_table, write_table
from visionloop.core.workspace import Workspace
from visionloop.labeling.params import load_params
from visionloop.labeling.state import load_push_record, state_folder
from visionloop.labeling.strategies import NEEDS_PROBABILITIES, STRATEGIES

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
    chosen = _choose(workspace, wanted, budget, name, project.seed)
    rest = budget - len(chosen)
    if rest > 0 and len(others):
        chosen += _choose(workspace, others, rest, name, project.seed)
    reasons = [requests.get(one) or f"Chosen by the strategy '{name}'." for one in chosen]
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
    taken = annotated | excluded | set(load_push_record(workspace).first)
    left = samples[~samples["sample_id"].isin(list(taken))]
    return left.sort_values("sample_id").reset_index(drop=True)


def _requests(workspace: Workspace) -> dict[str, str]:
    """Requested sample id to reason, most wanted first."""
    path = workspace.root / "data" / "requests.parquet"
    if not path.exists():
        return {}
    frame = read_table(path, REQUESTS).sort_values("priority", ascending=False, kind="stable")
    return dict(zip(frame["sample_id"], frame["reason"], strict=True))


def _choose(
    workspace: Workspace, pool: pandas.DataFrame, budget: int, name: str, seed: int
) -> list[str]:
    ids = pool["sample_id"].tolist()
    if not ids:
        return []
    from visionloop.data.embeddings import load_embeddings

    embeddings = load_embeddings(workspace.embeddings)
    probabilities = None
    if name in NEEDS_PROBABILITIES:
        probabilities = _probabilities(workspace, pool)
    function = resolve(STRATEGIES, name, kind="selection strategy")
    embedded = set(embeddings.ids)
    known = [one for one in _annotated_for_training(workspace) if one in embedded]
    indices: NDArray[np.int64] = function(
        embeddings.of(ids),
        probabilities,
        budget,
        seed,
        annotated=embeddings.of(known) if known else None,
    )
    return [ids[index] for index in indices]


def _probabilities(workspace: Workspace, pool: pandas.DataFrame) -> NDArray[np.float32]:
    from visionloop.labeling.drafts import load_drafter

    drafter = load_drafter(workspace, *load_params(workspace))
    if drafter is None:
        raise DataError(
            str(workspace.package),
            "there is no model package, and this strategy asks the model",
            "export one (visionloop train export), or select with --strategy clustered",
        )
    return drafter.probabilities(workspace.images / name for name in pool["file_name"])


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
