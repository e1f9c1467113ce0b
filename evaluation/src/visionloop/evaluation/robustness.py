"""``robustness``: the worst case first, on a fixed subset under conditions of a plant.

mPC, the mean of the metric over conditions and severities, and rPC, its share of the clean
metric, are from Michaelis et al., "Benchmarking Robustness in Object Detection", 2019
(arXiv 1907.07484: mean and relative performance under corruption).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.failpoints import failpoint
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.evaluation import pages
from visionloop.evaluation.answers import (
    AnsweredSamples,
    answer_samples,
    load_answers,
    save_answers,
    truth_of,
)
from visionloop.evaluation.coco_metrics import Truth
from visionloop.evaluation.inputs import EvaluationInputs, load_inputs
from visionloop.evaluation.intervals import draw_weights, interval
from visionloop.evaluation.measurements import (
    ConditionResult,
    ConditionSummary,
    Estimate,
    Robustness,
    save_measurements,
)
from visionloop.evaluation.parts import why_not_enough
from visionloop.evaluation.slices import guarded_rows

if TYPE_CHECKING:
    import pandas

    from visionloop.serving.predictor import Predictor

__all__ = ["RobustnessReport", "robustness", "stratified_subset", "summarise"]

CLEAN = ("clean", 0)


@dataclass(frozen=True)
class RobustnessReport:
    """What ``robustness`` made: ``reports/robustness`` with its json, curves and page."""

    folder: Path
    robustness: Robustness


def robustness(*, workspace: Workspace) -> RobustnessReport:
    """Measure ``artifacts/package`` under each condition and severity.

    The answers of each condition are kept in ``cache/``, by package, samples, condition
    and seed: an interrupted run goes on where it was, and a new condition costs its
    own time only.

    Where no limit of ``targets.yaml`` binds there is nothing to distort: the report
    then says so and the gate refuses.

    Raises
    ------
    ConfigError, DataError, PackageError
        See :func:`visionloop.evaluation.inputs.load_inputs`; an unknown condition.
    """
    from visionloop.evaluation.plots import draw_robustness
    from visionloop.serving.predictor import Predictor

    inputs = load_inputs(workspace)
    folder = workspace.reports / "robustness"
    samples = _subset(inputs)
    predictor = Predictor(inputs.package, threads=1)
    wanted = [CLEAN, *_conditions(inputs)] if len(samples) else []
    used: set[str] = set()
    measured: list[tuple[str, int, Estimate]] = []
    for condition, severity in wanted:
        cache = folder / "cache" / _cache_name(inputs, samples, condition, severity)
        used.add(cache.name)
        answered = _answered(inputs, samples, predictor, cache, condition, severity)
        measured.append((condition, severity, _estimate(inputs, answered)))
        failpoint("robustness.condition")
    content = summarise(inputs, len(samples), measured)
    save_measurements(folder, content)
    limits = inputs.targets.worst_case
    draw_robustness(
        folder / "curves.png",
        content,
        minimum_mean=limits.minimum_mean,
        minimum_worst=limits.minimum_worst,
    )
    pages.render_page(
        folder / "index.html",
        "robustness.html.j2",
        robustness=content,
        targets=inputs.targets,
        table=pages.condition_table(content),
        picture=pages.inline_picture(folder / "curves.png"),
    )
    _forget(folder / "cache", used)
    return RobustnessReport(folder, content)


def stratified_subset(
    strata: Sequence[str], sample_ids: Sequence[str], *, size: int, seed: int
) -> NDArray[np.int64]:
    """Positions of a fixed subset that keeps the shares of the strata.

    Parameters
    ----------
    strata : sequence of str
        The stratum of each sample.
    sample_ids : sequence of str
        The order within a stratum follows a hash of the id and the seed, so that a
        sample's membership hardly depends on which other samples there are.
    size : int
        At most so many; each stratum keeps at least one sample where there is room.

    Returns
    -------
    int64 array, ascending
    """
    if len(sample_ids) <= size:
        return np.arange(len(sample_ids))
    ranks = [sha256_of_bytes(f"{seed}:{one}".encode()) for one in sample_ids]
    order = sorted(range(len(ranks)), key=lambda row: ranks[row])
    totals = Counter(strata)
    counts: Counter[str] = Counter()
    # The k-th sample of a stratum of n asks for place (k + 0.5) / n: the smallest places win.
    places = np.empty(len(order))
    for row in order:
        name = strata[row]
        places[row] = 0.0 if counts[name] == 0 else (counts[name] + 0.5) / totals[name]
        counts[name] += 1
    return np.sort(np.argsort(places, kind="stable")[:size])


def summarise(
    inputs: EvaluationInputs, count: int, measured: list[tuple[str, int, Estimate]]
) -> Robustness:
    """Mean and worst at the severity of ``targets.yaml``, mPC and rPC over all severities."""
    nothing = Estimate(value=None, n=0, enough=False)
    clean, results = measured[0][2] if measured else nothing, measured[1:]
    limit = inputs.targets.worst_case.severity
    at_limit = {
        condition: estimate.value
        for condition, severity, estimate in results
        if severity == limit and estimate.value is not None
    }
    worst_condition = min(at_limit, key=lambda name: at_limit[name]) if at_limit else ""
    values = [estimate.value for _, _, estimate in results if estimate.value is not None]
    overall = float(np.mean(values)) if values else None
    return Robustness(
        metric=inputs.targets.quality.metric,
        package=inputs.package.sha256,
        fingerprint=inputs.version.fingerprint,
        samples=count,
        clean=clean,
        results=[
            ConditionResult(condition=condition, severity=severity, metric=estimate)
            for condition, severity, estimate in results
        ],
        severity=limit,
        mean=float(np.mean(list(at_limit.values()))) if at_limit else None,
        worst=at_limit.get(worst_condition),
        worst_condition=worst_condition,
        mean_under_conditions=overall,
        retained=_share(overall, clean.value),
        conditions=_by_condition(results, clean.value),
    )


def _by_condition(
    results: Sequence[tuple[str, int, Estimate]], clean: float | None
) -> dict[str, ConditionSummary]:
    """mPC and rPC of each condition, over its severities."""
    found = {}
    for name in dict.fromkeys(condition for condition, _, _ in results):
        values = [one.value for condition, _, one in results if condition == name]
        known = [value for value in values if value is not None]
        mean = float(np.mean(known)) if known else None
        found[name] = ConditionSummary(mean=mean, retained=_share(mean, clean))
    return found


def _share(value: float | None, clean: float | None) -> float | None:
    return value / clean if value is not None and clean else None


def _subset(inputs: EvaluationInputs) -> pandas.DataFrame:
    """The guarded test samples, or a fixed part of them with the same mix of classes."""
    test = inputs.version.split("test")
    slices = inputs.targets.quality.slices
    guarded = guarded_rows(test, slices, inputs.package.manifest.train_mix)
    test = test.iloc[guarded].reset_index(drop=True)
    columns = [test[one] for one in dict.fromkeys(slice_.column for slice_ in slices)]
    classes = [
        "+".join(str(one) for one in sorted(set(truth_of(inputs.version, str(name)).class_id)))
        for name in test["sample_id"]
    ]
    strata = ["|".join(map(str, row)) for row in zip(classes, *columns, strict=True)]
    chosen = stratified_subset(
        strata,
        [str(one) for one in test["sample_id"]],
        size=inputs.params.robustness.max_samples,
        seed=inputs.project.seed,
    )
    return test.iloc[chosen].reset_index(drop=True)


def _conditions(inputs: EvaluationInputs) -> list[tuple[str, int]]:
    """Every condition at every severity; an unknown name is refused before the first image."""
    from visionloop.data.synthesis.conditions.table import check_condition

    wanted = inputs.params.robustness
    severities = sorted({*wanted.severities, inputs.targets.worst_case.severity})
    names = list(dict.fromkeys(wanted.conditions))
    for name in names:
        check_condition(name)
    return [(name, severity) for name in names for severity in severities]


def _cache_name(
    inputs: EvaluationInputs, samples: pandas.DataFrame, condition: str, severity: int
) -> str:
    """Everything that the answers depend on, as a folder name a person can read."""
    from visionloop.data.synthesis.conditions.table import ENGINE, changes_boxes

    key = [
        ENGINE,
        inputs.version.fingerprint if changes_boxes(condition) else "",
        inputs.package.sha256,
        inputs.project.seed,
        inputs.params.evaluate.min_confidence,
        list(samples["sample_id"]),
    ]
    return f"{condition}-{severity}-{sha256_of_bytes(canonical_json(key))[:16]}"


def _answered(
    inputs: EvaluationInputs,
    samples: pandas.DataFrame,
    predictor: Predictor,
    cache: Path,
    condition: str,
    severity: int,
) -> AnsweredSamples:
    from visionloop.data.synthesis.conditions.table import changes_boxes

    truths = {str(one): truth_of(inputs.version, str(one)) for one in samples["sample_id"]}
    classes, task = list(inputs.version.classes), inputs.version.vision_task
    thresholds = inputs.package.manifest.thresholds
    if (cache / "predictions.parquet").is_file():
        say_step(f"{condition} {severity}: from cache")
        known = load_answers(cache, vision_task=task, classes=classes, thresholds=thresholds)
        true = known.truths if changes_boxes(condition) else list(truths.values())
        return AnsweredSamples(samples, true, known.answers, task, classes, thresholds)
    predictions = _predict(inputs, samples, predictor, condition, severity, truths)
    answered = AnsweredSamples(
        samples,
        list(truths.values()),
        [one.answer for one in predictions],
        task,
        classes,
        thresholds,
    )
    save_answers(
        cache, answered, [Prediction(one.answer) for one in predictions], inputs.package.sha256
    )
    return answered


def _predict(
    inputs: EvaluationInputs,
    samples: pandas.DataFrame,
    predictor: Predictor,
    condition: str,
    severity: int,
    truths: dict[str, Truth],
) -> list[Prediction]:
    """Answers under a condition; ``truths`` become what is still to be seen, where it is now."""
    from visionloop.data.synthesis.conditions.table import apply_condition_to_sample

    seed = inputs.project.seed
    clean = dict(truths)

    def distort(image: NDArray[np.uint8], sample_id: str) -> NDArray[np.uint8]:
        own_seed = int(sha256_of_bytes(f"{seed}:{sample_id}".encode())[:8], 16)
        truth = clean[sample_id]
        done = apply_condition_to_sample(image, truth.xyxy, condition, severity, own_seed)
        if len(truth.xyxy):
            truths[sample_id] = Truth(truth.class_id[done.kept], done.xyxy)
        return done.image

    predictions, _ = answer_samples(
        predictor,
        inputs.version,
        samples,
        minimum_confidence=inputs.params.evaluate.min_confidence,
        description=f"{condition} {severity}" if severity else "clean",
        distort=distort if severity else None,
        workers=inputs.params.robustness.workers,
    )
    return predictions


def _estimate(inputs: EvaluationInputs, answered: AnsweredSamples) -> Estimate:
    metrics, name = answered.metrics(), inputs.targets.quality.metric
    groups, wanted = answered.groups(), inputs.params.intervals
    weights = draw_weights(groups, draws=wanted.draws, seed=inputs.project.seed)
    value, drawn = metrics.values()[name], metrics.resampled(weights)[name]
    ends = interval(value, drawn, groups=len(set(groups)), level=wanted.level)
    enough = not why_not_enough(metrics, groups, wanted)
    return Estimate.of(value, ends, n=len(metrics), enough=enough)


def _forget(cache: Path, used: set[str]) -> None:
    """Answers of other packages and samples are of no use any more."""
    import shutil

    for path in cache.glob("*"):
        if path.name not in used:
            shutil.rmtree(path)
