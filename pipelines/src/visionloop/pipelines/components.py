"""Kubeflow components: each lays its inputs out as a project folder and calls one verb.

The container image holds this package (``deploy/Dockerfile``), so a component is a
few lines that import it. The same components run on a cluster and, unchanged,
through ``kfp.local``. Annotations are not postponed here: kfp reads them as types.
"""

import os

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Metrics, Model, Output

__all__ = [
    "IMAGE",
    "build_engine",
    "check_samples",
    "detect_drift",
    "embed_samples",
    "evaluate_package",
    "export_package",
    "freeze_version",
    "judge_package",
    "request_annotations",
    "summarise_windows",
    "synthesise_samples",
    "train_model",
]

IMAGE = os.environ.get("VISIONLOOP_IMAGE", "visionloop/pipelines:0.1.0")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def check_samples(config: str, raw: Input[Dataset], report: Output[Artifact]) -> str:
    """Check collected samples against the data contract; returns passed or refused."""
    from visionloop.data.quality.contract import check
    from visionloop.pipelines.component_files import keep, stage_workspace

    with stage_workspace(config, {"data/raw": raw.path}) as workspace:
        verdict = check(workspace=workspace)
        keep(workspace.reports / "check", report.path)
    return "passed" if verdict.is_passed else "refused"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def embed_samples(
    config: str, raw: Input[Dataset], backbone: Output[Model], embeddings: Output[Dataset]
) -> None:
    """Export the frozen backbone once and embed every sample with it."""
    from visionloop.data.embeddings import embed
    from visionloop.pipelines.component_files import keep, stage_workspace
    from visionloop.training.backbone import export_backbone

    with stage_workspace(config, {"data/raw": raw.path}) as workspace:
        export_backbone(workspace=workspace)
        embed(workspace=workspace)
        keep(workspace.backbone, backbone.path)
        keep(workspace.embeddings, embeddings.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def freeze_version(
    config: str,
    raw: Input[Dataset],
    annotations: Input[Artifact],
    version: Output[Dataset],
    leak_report: Output[Artifact],
) -> str:
    """Split, prove that nothing leaks, freeze the dataset version; returns its fingerprint."""
    from visionloop.core.errors import RefusedError
    from visionloop.data.splits.leaks import leaks
    from visionloop.data.splits.split import split
    from visionloop.data.versions.freeze import freeze
    from visionloop.pipelines.component_files import keep, stage_workspace

    files = {"data/raw": raw.path, "data/annotations/studio.json": annotations.path}
    with stage_workspace(config, files) as workspace:
        split(workspace=workspace)
        proof = leaks(workspace=workspace)
        keep(workspace.reports / "leaks", leak_report.path)
        if not proof.is_tight:
            raise RefusedError("the split", "held-back samples are tied to training", "data leaks")
        frozen = freeze(workspace=workspace)
        keep(workspace.version(frozen.name), version.path)
    return frozen.fingerprint


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def synthesise_samples(
    config: str, raw: Input[Dataset], annotations: Input[Artifact], made: Output[Dataset]
) -> int:
    """The samples with the made ones of ``data.synthesise`` beside them; returns how many."""
    import shutil

    from visionloop.data.synthesis.synthesise import synthesise
    from visionloop.pipelines.component_files import keep, stage_workspace

    with stage_workspace(config, {"data/annotations/studio.json": annotations.path}) as workspace:
        shutil.copytree(raw.path, workspace.raw)  # the verb adds to it
        report = synthesise(workspace=workspace)
        keep(workspace.raw, made.path)
    return sum(report.recipes.values())


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train_model(
    config: str,
    version_name: str,
    raw: Input[Dataset],
    version: Input[Dataset],
    embeddings: Input[Dataset],
    checkpoint: Output[Model],
    report: Output[Artifact],
    metrics: Output[Metrics],
) -> None:
    """Train the recipe's model family on a dataset version."""
    from visionloop.core.files import read_json
    from visionloop.pipelines.component_files import keep, stage_workspace
    from visionloop.training.train import train

    files = {
        "data/raw": raw.path,
        f"data/versions/{version_name}": version.path,
        "data/embeddings": embeddings.path,
    }
    with stage_workspace(config, files) as workspace:
        train(workspace=workspace)
        keep(workspace.checkpoint, checkpoint.path)
        keep(workspace.reports / "training", report.path)
        measured = read_json(workspace.reports / "training" / "metrics.json")
        for name, value in measured.items():
            if isinstance(value, (int, float)):
                metrics.log_metric(name, float(value))
        keep(workspace.reports / "training" / "metrics.json", metrics.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def export_package(
    config: str,
    version_name: str,
    raw: Input[Dataset],
    version: Input[Dataset],
    checkpoint: Input[Model],
    package: Output[Model],
    report: Output[Artifact],
) -> str:
    """Export to ONNX, check parity, sign; returns the SHA-256 of the ONNX file."""
    from visionloop.core.files import sha256_of_file
    from visionloop.pipelines.component_files import keep, stage_workspace
    from visionloop.training.export import export

    files = {
        "data/raw": raw.path,
        f"data/versions/{version_name}": version.path,
        "artifacts/checkpoint": checkpoint.path,
    }
    with stage_workspace(config, files) as workspace:
        export(workspace=workspace)
        keep(workspace.package, package.path)
        keep(workspace.reports / "export", report.path)
        return sha256_of_file(workspace.package / "model.onnx")


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate_package(
    config: str,
    version_name: str,
    raw: Input[Dataset],
    version: Input[Dataset],
    package: Input[Model],
    evaluation: Output[Artifact],
    robustness: Output[Artifact],
) -> None:
    """Measure the package on clean and on worst-case images."""
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.robustness import robustness as measure_robustness
    from visionloop.pipelines.component_files import keep, stage_workspace

    files = {
        "data/raw": raw.path,
        f"data/versions/{version_name}": version.path,
        "artifacts/package": package.path,
    }
    with stage_workspace(config, files) as workspace:
        evaluate(workspace=workspace)
        measure_robustness(workspace=workspace)
        keep(workspace.reports / "evaluation", evaluation.path)
        keep(workspace.reports / "robustness", robustness.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def judge_package(
    config: str,
    package: Input[Model],
    check: Input[Artifact],
    export: Input[Artifact],
    evaluation: Input[Artifact],
    robustness: Input[Artifact],
    waivers: Input[Artifact],
    gate: Output[Artifact],
) -> str:
    """Judge the package by ``targets.yaml`` and ``waivers/``, sign the report; returns the verdict.

    That is passed or refused.
    """
    from visionloop.evaluation.gate import gate as judge
    from visionloop.pipelines.component_files import keep, stage_workspace

    files = {
        "artifacts/package": package.path,
        "reports/check": check.path,
        "reports/export": export.path,
        "reports/evaluation": evaluation.path,
        "reports/robustness": robustness.path,
        "waivers": waivers.path,
    }
    with stage_workspace(config, files) as workspace:
        report = judge(workspace=workspace)
        keep(workspace.reports / "gate", gate.path)
    return str(report.verdict)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def build_engine(
    config: str,
    raw: Input[Dataset],
    package: Input[Model],
    export: Input[Dataset],
    engine: Output[Model],
    parity: Output[Dataset],
) -> str:
    """Precision variants with their parity, and TensorRT engines where the builder is installed."""
    from visionloop.pipelines.component_files import keep, stage_workspace
    from visionloop.serving.build import build

    files = {
        "data/raw": raw.path,
        "artifacts/package": package.path,
        "reports/export": export.path,
    }
    with stage_workspace(config, files) as workspace:
        report = build(workspace=workspace)
        keep(workspace.engine, engine.path)
        keep(workspace.reports / "parity", parity.path)
        return "built" if report.manifest.built else "not built"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def summarise_windows(
    config: str, edge: Input[Dataset], backbone: Input[Model], windows: Output[Dataset]
) -> None:
    """Summarise what the edge saw into windows."""
    from visionloop.monitoring.summarise import summarise
    from visionloop.pipelines.component_files import keep, stage_workspace

    with stage_workspace(
        config, {"edge": edge.path, "artifacts/backbone": backbone.path}
    ) as workspace:
        summarise(workspace=workspace)
        keep(workspace.reports / "windows", windows.path)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def detect_drift(
    config: str, edge: Input[Dataset], windows: Input[Dataset], report: Output[Artifact]
) -> str:
    """Compare the current window with the reference; returns drift or no drift."""
    from visionloop.monitoring.drift import drift
    from visionloop.pipelines.component_files import keep, stage_workspace

    files = {"edge": edge.path, "reports/windows": windows.path}
    with stage_workspace(config, files) as workspace:
        found = drift(workspace=workspace)
        keep(workspace.reports / "drift", report.path)
    return "drift" if found.is_drift else "no drift"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def request_annotations(
    config: str,
    raw: Input[Dataset],
    edge: Input[Dataset],
    windows: Input[Dataset],
    drift: Input[Artifact],
    requests: Output[Dataset],
) -> None:
    """Choose which of the drifted frames people should annotate."""
    from visionloop.monitoring.feedback import feedback
    from visionloop.pipelines.component_files import keep, stage_workspace

    files = {
        "data/raw": raw.path,
        "edge": edge.path,
        "reports/windows": windows.path,
        "reports/drift": drift.path,
    }
    with stage_workspace(config, files) as workspace:
        feedback(workspace=workspace)
        keep(workspace.root / "data" / "requests.parquet", requests.path)
