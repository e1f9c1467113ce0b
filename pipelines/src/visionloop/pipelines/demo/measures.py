"""What the demo measures about itself: planted errors found, and what chance would have given."""

from __future__ import annotations

import random
from typing import Any

from visionloop.core.config import load_project
from visionloop.core.entities import Annotation
from visionloop.core.files import read_json
from visionloop.core.workspace import Workspace

__all__ = ["doubtful_found", "gate_summary", "quality_by_slice", "random_choice_quality"]

Result = dict[str, Any]


def gate_summary(workspace: Workspace) -> Result:
    """Verdict of the gate and the reasons of every check that did not pass."""
    from visionloop.evaluation.gate_report import GATE_NAME

    content = read_json(workspace.reports / "gate" / GATE_NAME)
    checks = content["checks"]
    return {
        "verdict": content["verdict"],
        "package": content["package_sha256"],
        "checks": len(checks),
        "reasons": [_sentence(check) for check in checks if check["verdict"] == "refuse"],
        "notes": [
            _sentence(check) for check in checks if check["verdict"] not in ("pass", "refuse")
        ],
        "rows": checks,
    }


def _sentence(check: Result) -> str:
    return f"{check['name']}: {check['why']}"


def quality_by_slice(workspace: Workspace) -> Result:
    """The target metric with its interval: guarded samples, every slice, latency, robustness."""
    from visionloop.evaluation.measurements import load_evaluation, load_robustness

    found = load_evaluation(workspace.reports / "evaluation")
    harsh = load_robustness(workspace.reports / "robustness")
    slices = {
        f"{part.column}={part.value}": {
            **part.metrics[found.metric].model_dump(),
            "status": part.status,
        }
        for part in found.slices.values()
    }
    return {
        "metric": found.metric,
        "guarded": found.guarded.metrics[found.metric].model_dump(),
        "overall": found.overall.metrics[found.metric].model_dump(),
        "slices": slices,
        "latency_p50_ms": found.latency.p50_ms,
        "latency_p95_ms": found.latency.p95_ms,
        "robustness_mean": harsh.mean,
        "robustness_worst": harsh.worst,
        "robustness_worst_condition": harsh.worst_condition,
    }


def doubtful_found(workspace: Workspace) -> Result:
    """Of the errors planted since the last second look, how many does an equally long list hold?

    The list is the head of ``data/findings.parquet``, one entry a sample; samples that
    had their second look are settled and counted on neither side.
    """
    from visionloop.core.tables import FINDINGS, read_table
    from visionloop.labeling.decisions import load_decisions
    from visionloop.labeling.mistakes import load_mistakes

    settled = {
        row.sample_id
        for row in load_decisions(workspace)
        if row.look == "second" and not row.is_skipped
    }
    findings = read_table(workspace.root / "data" / "findings.parquet", FINDINGS)
    suspects = [one for one in dict.fromkeys(findings["sample_id"]) if one not in settled]
    planted = set(load_mistakes(workspace).errors) - settled
    return {
        "planted": len(planted),
        "found_in_equally_long_list": len(planted & set(suspects[: len(planted)])),
        "suspects": len(suspects),
    }


def random_choice_quality(
    workspace: Workspace, truth: dict[str, list[Annotation]], errors: float
) -> Result | None:
    """The quality if as many new samples had been chosen at random, with the same annotator.

    A dataset version is made from the one before the second review plus randomly chosen
    collected samples; training, export and evaluation are the ring's own. Classification
    with a frozen backbone only: training a detector once more would double the demo.
    """
    from visionloop.core.config import load_block
    from visionloop.pipelines.demo.run import set_param
    from visionloop.training.params import TrainingParams

    if load_block(workspace.params, "training", TrainingParams).mode != "frozen":
        return None
    name = _save_random_version(workspace, truth, errors)
    variant = Workspace(workspace.root, variant="random")
    variant.own.mkdir(parents=True, exist_ok=True)
    variant.params.write_bytes(workspace.params.read_bytes())
    set_param(variant.params, "data.version", name)
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.measurements import load_evaluation
    from visionloop.training.export import export
    from visionloop.training.train import train

    train(workspace=variant)
    export(workspace=variant)
    evaluate(workspace=variant)
    found = load_evaluation(variant.reports / "evaluation")
    return {
        f"{part.column}={part.value}": part.metrics[found.metric].model_dump()
        for part in found.slices.values()
    }


def _save_random_version(
    workspace: Workspace, truth: dict[str, list[Annotation]], errors: float
) -> str:
    import pandas

    from visionloop.data.versions.version import load_version, save_version

    project = load_project(workspace.params)
    before = load_version(workspace.version("v3"), workspace.images)
    after = load_version(workspace.version("v5"), workspace.images)
    chosen_by_ring = set(after.samples["sample_id"]) - set(before.samples["sample_id"])
    pool = _unannotated_candidates(workspace, set(before.samples["sample_id"]))
    drawn = pool.sample(min(len(chosen_by_ring), len(pool)), random_state=project.seed).sort_values(
        "sample_id"
    )
    dice = random.Random(project.seed)
    annotations = [
        _by_erring_annotator(row, project.classes, dice, errors)
        for sample_id in drawn["sample_id"]
        for row in truth[sample_id]
    ]
    save_version(
        workspace.version("random"),
        vision_task=project.vision_task,
        classes=tuple(project.classes),
        samples=pandas.concat([before.samples, drawn], ignore_index=True),
        annotations=[*before.annotations, *annotations],
        parent=before.fingerprint,
    )
    return "random"


def _unannotated_candidates(workspace: Workspace, annotated: set[str]) -> Any:
    """Collected samples that a person could have been asked about, with group and split."""
    import pandas

    from visionloop.data.raw import read_samples

    samples = read_samples(workspace)
    splits = pandas.read_parquet(workspace.root / "data" / "splits.parquet")
    joined = samples.merge(splits[["sample_id", "group", "split"]], on="sample_id")
    is_open = ~joined["sample_id"].isin(annotated) & (joined["phase"] == "collected")
    return joined[is_open & joined["split"].isin(["train", "val"])]


def _by_erring_annotator(
    row: Annotation, classes: list[str], dice: random.Random, errors: float
) -> Annotation:
    name = row.class_name
    if dice.random() < errors:
        name = dice.choice([other for other in classes if other != name])
    return Annotation(row.sample_id, name, row.xyxy, "random-choice", "studio")
