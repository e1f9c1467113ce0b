"""The three Kubeflow pipelines, and how to compile them and run them on this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl, local

from visionloop.core.config import load_block
from visionloop.core.errors import ConfigError, VisionloopError
from visionloop.core.files import sha256_of_folder
from visionloop.core.plugins import nearest_hint
from visionloop.core.workspace import Workspace
from visionloop.pipelines import components
from visionloop.pipelines.component_files import pack_config

__all__ = ["PIPELINES", "compile_pipelines", "name_waivers", "run_local"]


class TrainAndExportOutputs(NamedTuple):
    """What a training pipeline returns."""

    fingerprint: str
    onnx_sha256: str
    verdict: str


@dsl.pipeline(
    name="train-and-export", description="Samples to a judged, signed package and its engine."
)
def train_and_export(
    config: str,
    version_name: str,
    raw_uri: str,
    annotations_uri: str,
    raw_sha256: str,
    waivers_uri: str,
    waivers_sha256: str,
) -> TrainAndExportOutputs:
    """check → split, freeze → train → export → evaluate → gate → engine if it passed."""
    raw = dsl.importer(
        artifact_uri=raw_uri, artifact_class=dsl.Dataset, metadata={"sha256": raw_sha256}
    ).output
    annotations = dsl.importer(artifact_uri=annotations_uri, artifact_class=dsl.Artifact).output
    # Not part of the configuration: a new waiver must not train anew.
    waivers = dsl.importer(
        artifact_uri=waivers_uri,
        artifact_class=dsl.Artifact,
        metadata={"sha256": waivers_sha256},
    ).output
    checked = components.check_samples(config=config, raw=raw)
    embedded = components.embed_samples(config=config, raw=raw)
    frozen = components.freeze_version(config=config, raw=raw, annotations=annotations)
    frozen.after(checked)
    version = frozen.outputs["version"]
    trained = components.train_model(
        config=config,
        version_name=version_name,
        raw=raw,
        version=version,
        embeddings=embedded.outputs["embeddings"],
    )
    exported = components.export_package(
        config=config,
        version_name=version_name,
        raw=raw,
        version=version,
        checkpoint=trained.outputs["checkpoint"],
    )
    package = exported.outputs["package"]
    measured = components.evaluate_package(
        config=config, version_name=version_name, raw=raw, version=version, package=package
    )
    judged = components.judge_package(
        config=config,
        package=package,
        check=checked.outputs["report"],
        export=exported.outputs["report"],
        evaluation=measured.outputs["evaluation"],
        robustness=measured.outputs["robustness"],
        waivers=waivers,
    )
    with dsl.If(judged.outputs["Output"] == "passed", name="gate passed"):
        components.build_engine(
            config=config, raw=raw, package=package, export=exported.outputs["report"]
        )
    return TrainAndExportOutputs(
        fingerprint=frozen.outputs["Output"],
        onnx_sha256=exported.outputs["Output"],
        verdict=judged.outputs["Output"],
    )


@dsl.pipeline(
    name="monitor", description="What the edge saw, whether it drifted, what to annotate."
)
def monitor(config: str, raw_uri: str, edge_uri: str, backbone_uri: str) -> str:
    """summaries → drift → requests if it drifted."""
    raw = dsl.importer(artifact_uri=raw_uri, artifact_class=dsl.Dataset).output
    edge = dsl.importer(artifact_uri=edge_uri, artifact_class=dsl.Dataset).output
    backbone = dsl.importer(artifact_uri=backbone_uri, artifact_class=dsl.Model).output
    windows = components.summarise_windows(config=config, edge=edge, backbone=backbone).output
    found = components.detect_drift(config=config, edge=edge, windows=windows)
    with dsl.If(found.outputs["Output"] == "drift", name="drift"):
        components.request_annotations(
            config=config, raw=raw, edge=edge, windows=windows, drift=found.outputs["report"]
        )
    return found.outputs["Output"]


@dsl.pipeline(
    name="synthesise", description="Samples with made ones beside them, for train_and_export."
)
def synthesise(config: str, raw_uri: str, annotations_uri: str, raw_sha256: str) -> int:
    """split → synthesise; its output takes the place of the samples."""
    raw = dsl.importer(
        artifact_uri=raw_uri, artifact_class=dsl.Dataset, metadata={"sha256": raw_sha256}
    ).output
    annotations = dsl.importer(artifact_uri=annotations_uri, artifact_class=dsl.Artifact).output
    made = components.synthesise_samples(config=config, raw=raw, annotations=annotations)
    return made.outputs["Output"]


PIPELINES: dict[str, Any] = {
    "train_and_export": train_and_export,
    "synthesise": synthesise,
    "monitor": monitor,
}


def compile_pipelines(folder: Path) -> list[Path]:
    """Write each pipeline as the YAML that a Kubeflow cluster takes."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, pipeline in PIPELINES.items():
        path = folder / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        made.append(path)
    return made


def run_local(name: str, *, workspace: Workspace) -> dict[str, Any]:
    """Run a pipeline on this machine through ``kfp.local``.

    Finished components are cached below ``kfp/``: after a failure only what failed
    runs again.

    Returns
    -------
    dict
        The pipeline's outputs.

    Raises
    ------
    ConfigError
        If there is no such pipeline.
    VisionloopError
        If a component failed; its own one-screen message is quoted.
    """
    if name not in PIPELINES:
        raise ConfigError(f"pipeline '{name}'", "does not exist", nearest_hint(name, PIPELINES))
    state = workspace.root / "kfp"
    reason = state / "reason.txt"
    reason.unlink(missing_ok=True)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(state / "runs"),
        enable_caching=True,
        cache_root=str(state / "cache"),
    )
    arguments = _arguments(name, workspace)
    for_components = {
        "VISIONLOOP_REASON_FILE": str(reason),
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
    }
    try:
        with _environment(for_components):
            outputs = PIPELINES[name](**arguments).outputs
    except RuntimeError as error:
        why = reason.read_text() if reason.exists() else str(error)
        raise VisionloopError(
            f"pipeline '{name}'", why, "run it again: what worked is cached"
        ) from (None)
    return dict(outputs)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables for the components that run inside the block, then put them back."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _arguments(name: str, workspace: Workspace) -> dict[str, str]:
    from visionloop.data.params import DataParams

    config = pack_config(workspace)
    raw = str(workspace.raw)
    if name == "monitor":
        return {
            "config": config,
            "raw_uri": raw,
            "edge_uri": str(workspace.edge),
            "backbone_uri": str(workspace.backbone),
        }
    collected = {
        "config": config,
        "raw_uri": raw,
        "annotations_uri": str(workspace.studio_annotations),
        # Part of the cache key: the path alone would not show that samples were added.
        "raw_sha256": sha256_of_folder(workspace.raw),
    }
    if name == "synthesise":
        return collected
    version = load_block(workspace.params, "data", DataParams).version
    return {**collected, **name_waivers(workspace), "version_name": version}


def name_waivers(workspace: Workspace) -> dict[str, str]:
    """Where the waivers are, and their SHA-256, by which a new one is seen; the folder is made."""
    folder = workspace.root / "waivers"
    folder.mkdir(exist_ok=True)
    return {"waivers_uri": str(folder), "waivers_sha256": sha256_of_folder(folder)}
