"""``robustness``: the worst case first, on a fixed subset under conditions of a plant."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.errors import DataError
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
from visionloop.evaluation.measurements import Robustness, load_robustness, save_measurements
from visionloop.evaluation.worst_case import (
    CLEAN,
    Measured,
    choose_samples,
    conditions_of,
    measure_condition,
    subset_errors,
    summarise,
)

if TYPE_CHECKING:
    import pandas

    from visionloop.serving.predictor import Predictor

__all__ = ["RobustnessReport", "robustness"]

BUDGET_FOLDER = "robustness-budget"


@dataclass(frozen=True)
class RobustnessReport:
    """What ``robustness`` made: ``reports/robustness`` with its json, curves and page."""

    folder: Path
    robustness: Robustness


def robustness(*, workspace: Workspace, budget: int | None = None) -> RobustnessReport:
    """Measure ``artifacts/package`` under each condition and severity.

    The answers of each condition are kept in ``cache/``, by package, samples, condition
    and seed: an interrupted run goes on where it was, and a new condition costs its
    own time only.

    Where no limit of ``targets.yaml`` binds there is nothing to distort: the report
    then says so and the gate refuses.

    Parameters
    ----------
    budget : int or None
        Answers to spend over all conditions, for a quick look: fewer samples, written to
        ``reports/robustness-budget``, where the gate does not look. The error against a full
        run is measured where one of the same package is there. None measures in full.

    Raises
    ------
    ConfigError, DataError, PackageError
        See :func:`visionloop.evaluation.inputs.load_inputs`; an unknown condition.
    """
    from visionloop.evaluation.plots import draw_robustness
    from visionloop.serving.predictor import Predictor

    inputs = load_inputs(workspace)
    folder = workspace.reports / ("robustness" if budget is None else BUDGET_FOLDER)
    asked = [CLEAN, *conditions_of(inputs)]
    samples = choose_samples(inputs, most=None if budget is None else budget // len(asked))
    predictor = Predictor(inputs.package, threads=1)
    wanted = asked if len(samples) else []
    used: set[str] = set()
    measured: list[Measured] = []
    for condition, severity in wanted:
        cache = folder / "cache" / _cache_name(inputs, samples, condition, severity)
        used.add(cache.name)
        answered = _answered(inputs, samples, predictor, cache, condition, severity)
        measured.append(measure_condition(inputs, answered, condition, severity))
        failpoint("robustness.condition")
    content = summarise(inputs, len(samples), measured, is_full=budget is None)
    if budget is None:
        content = content.model_copy(
            update={"subset_errors": subset_errors(measured, inputs.targets.quality.metric)}
        )
    else:
        content = _with_error(content, workspace.reports / "robustness")
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


def _with_error(content: Robustness, full: Path) -> Robustness:
    """The error against the full run, where there is one of the same package and data."""
    try:
        whole = load_robustness(full)
    except DataError:
        return content
    same = ("package", "fingerprint", "metric", "severity")
    if any(getattr(content, name) != getattr(whole, name) for name in same):
        return content
    mean, other = content.mean_under_conditions, whole.mean_under_conditions
    if set(content.conditions) != set(whole.conditions) or mean is None or other is None:
        return content
    error = mean - other
    say_step(
        f"against the full run of {whole.samples} samples, mPC is off by {error:+.4f} "
        f"({mean:.4f}, there {other:.4f})"
    )
    return content.model_copy(update={"error_against_full": error})


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


def _forget(cache: Path, used: set[str]) -> None:
    """Answers of other packages and samples are of no use any more."""
    import shutil

    for path in cache.glob("*"):
        if path.name not in used:
            shutil.rmtree(path)
