"""``evaluate``: measure the package that will be shipped, on the test samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.files import replace_folder, write_json
from visionloop.core.workspace import Workspace
from visionloop.evaluation import pages
from visionloop.evaluation.answers import (
    AnsweredSamples,
    answer_samples,
    save_answers,
    truth_of,
)
from visionloop.evaluation.attributes import AttributeMetrics, confusion_of_attributes
from visionloop.evaluation.classification import ClassificationMetrics, confusion_of_classes
from visionloop.evaluation.detection import confusion_of_boxes
from visionloop.evaluation.inputs import EvaluationInputs, load_inputs
from visionloop.evaluation.latency import summarise_latency
from visionloop.evaluation.measurements import (
    Evaluation,
    Latency,
    MapQuality,
    Part,
    save_measurements,
)
from visionloop.evaluation.parts import measure_part, measure_slice
from visionloop.evaluation.slices import find_slices, guarded_rows

__all__ = ["EvaluateReport", "evaluate", "flat_numbers", "measure_answers"]


@dataclass(frozen=True)
class EvaluateReport:
    """What ``evaluate`` made.

    Attributes
    ----------
    folder : Path
        ``reports/evaluation``: evaluation.json, metrics.json (numbers alone, for DVC
        and MLflow), predictions.parquet, pictures and index.html.
    evaluation : Evaluation
    """

    folder: Path
    evaluation: Evaluation


def evaluate(*, workspace: Workspace) -> EvaluateReport:
    """Measure ``artifacts/package`` on the test samples of the dataset version.

    The package is loaded through ``serving``, so what is measured is what is shipped.
    The folder is replaced only when everything is measured.

    Raises
    ------
    ConfigError, DataError, PackageError
        See :func:`visionloop.evaluation.inputs.load_inputs`.
    """
    from visionloop.serving.predictor import Predictor

    inputs = load_inputs(workspace)
    wanted = inputs.params.evaluate
    samples = inputs.version.split("test")
    predictor = Predictor(inputs.package, threads=wanted.threads)
    predictions, milliseconds = answer_samples(
        predictor,
        inputs.version,
        samples,
        minimum_confidence=wanted.min_confidence,
        description="evaluating test samples",
    )
    answered = AnsweredSamples(
        samples,
        [truth_of(inputs.version, str(one)) for one in samples["sample_id"]],
        [one.answer for one in predictions],
        inputs.version.vision_task,
        list(inputs.version.classes),
        inputs.package.manifest.thresholds,
    )
    latency = summarise_latency(milliseconds, wanted.threads, predictor.backend_name)
    evaluation = measure_answers(workspace, inputs, answered, latency)
    if inputs.version.vision_task == "anomaly":
        maps = _measure_maps(inputs, answered, predictions)
        evaluation = evaluation.model_copy(update={"maps": maps})
    shown = answered.take(_shown_rows(inputs, answered))
    folder = workspace.reports / "evaluation"
    with replace_folder(folder) as staging:
        save_answers(staging, answered, predictions, inputs.package.sha256)
        save_measurements(staging, evaluation)
        write_json(staging / "metrics.json", flat_numbers(evaluation))
        _draw(staging, inputs, shown, evaluation)
        pages.render_page(
            staging / "index.html",
            "evaluation.html.j2",
            evaluation=evaluation,
            targets=inputs.targets,
            whole=pages.metric_rows(evaluation.guarded),
            pictures=pages.evaluation_pictures(staging),
        )
    return EvaluateReport(folder, evaluation)


def measure_answers(
    workspace: Workspace, inputs: EvaluationInputs, answered: AnsweredSamples, latency: Latency
) -> Evaluation:
    """Everything that ``evaluation.json`` holds, from the answers on the test samples."""
    shown = answered.take(_shown_rows(inputs, answered)).metrics()
    metrics = answered.metrics()
    targets = inputs.targets.quality
    train_mix = inputs.package.manifest.train_mix
    columns = inputs.params.evaluate.slice_columns
    slices = find_slices(answered.samples, columns, targets.slices, train_mix)
    guarded = guarded_rows(answered.samples, targets.slices, train_mix)
    groups, intervals, seed = answered.groups(), inputs.params.intervals, inputs.project.seed
    if isinstance(shown, ClassificationMetrics):
        confusion = confusion_of_classes(shown)
    elif isinstance(shown, AttributeMetrics):
        confusion = confusion_of_attributes(shown)
    else:
        confusion = confusion_of_boxes(shown)
    return Evaluation(
        vision_task=inputs.targets.vision_task,
        metric=targets.metric,
        classes=answered.classes,
        package=inputs.package.sha256,
        package_name=inputs.package.manifest.name,
        thresholds=inputs.package.manifest.thresholds,
        data=inputs.lineage(workspace),
        guarded=measure_part(metrics, groups, guarded, intervals, seed=seed),
        overall=measure_part(
            metrics, groups, np.arange(len(answered.samples)), intervals, seed=seed
        ),
        slices={
            one.name: measure_slice(metrics, groups, one, intervals, seed=seed) for one in slices
        },
        latency=latency,
        confusion=confusion.tolist(),
    )


def flat_numbers(evaluation: Evaluation) -> dict[str, Any]:
    """The values alone, few enough to compare runs by: for DVC and MLflow."""
    slices = {
        name: part.metrics[evaluation.metric].value
        for name, part in evaluation.slices.items()
        if part.enough and part.status != "reported"
    }
    maps = evaluation.maps
    return {
        **_values(evaluation.guarded),
        "all_samples": _values(evaluation.overall),
        "slices": slices,
        **(
            {}
            if maps is None
            else {"pixel_auroc": maps.pixel_auroc.value, "aupro": maps.aupro.value}
        ),
        "latency_p50_ms": round(evaluation.latency.p50_ms, 2),
        "latency_p95_ms": round(evaluation.latency.p95_ms, 2),
    }


def _values(part: Part) -> dict[str, Any]:
    values: dict[str, Any] = {name: one.value for name, one in part.metrics.items()}
    for class_name, estimates in part.classes.items():
        values[class_name] = {name: one.value for name, one in estimates.items()}
    return values


def _shown_rows(inputs: EvaluationInputs, answered: AnsweredSamples) -> NDArray[np.int64]:
    """What confusions, curves and gallery show: the guarded samples, or all if none is."""
    mix = inputs.package.manifest.train_mix
    rows = guarded_rows(answered.samples, inputs.targets.quality.slices, mix)
    return rows if len(rows) else np.arange(len(answered.samples))


def _measure_maps(
    inputs: EvaluationInputs, answered: AnsweredSamples, predictions: Sequence[Prediction]
) -> MapQuality | None:
    from visionloop.evaluation.anomaly_maps import mask_of, measure_maps

    masks = [mask_of(inputs.version, str(one)) for one in answered.samples["sample_id"]]
    return measure_maps(
        [one.heatmap for one in predictions],
        masks,
        answered.groups(),
        inputs.params.intervals,
        seed=inputs.project.seed,
    )


def _draw(
    folder: Path, inputs: EvaluationInputs, shown: AnsweredSamples, evaluation: Evaluation
) -> None:
    from visionloop.evaluation import gallery, plots
    from visionloop.evaluation.mistakes import draw_mistakes

    minima = {f"{one.column}={one.value}": one.minimum for one in inputs.targets.quality.slices} | {
        "guarded samples": inputs.targets.quality.minimum
    }
    plots.draw_confusion(
        folder / "confusion.png", np.array(evaluation.confusion), evaluation.classes
    )
    plots.draw_curves(folder / "curves.png", shown.metrics())
    plots.draw_slices(folder / "slices.png", evaluation, minima)
    gallery.draw_gallery(
        folder / "worst.png",
        shown,
        inputs.version.images,
        count=inputs.params.evaluate.worst_images,
    )
    draw_mistakes(folder / "mistakes.png", shown, inputs.version.images)
