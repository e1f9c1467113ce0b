"""What export costs: every model family in FP32, FP16 and INT8, with engines.

Each family's package (``export_models.py`` trains them) goes through ``visionloop serve build``'s
own steps: loss of the metric and decisions kept on val images, size, seconds to build, and
whether TensorRT takes it. At the end a YOLO quantized as a one-line export does it (every
operator, nothing in float) is put before the same gate.

    python benchmarks/export.py [--families yolo efficientnet ...] [--report]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from export_models import MODELS, prepare_model, use_throwaway_keys
from report import RESULTS, make_row, save_results

from visionloop.core.files import read_json, write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.targets import ParityTargets
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version
from visionloop.serving import signing
from visionloop.serving.apart import call_apart
from visionloop.serving.engines.cache import EngineCache
from visionloop.serving.engines.record import ENGINE_PRECISIONS
from visionloop.serving.images import read_image
from visionloop.serving.package import MODEL_NAME, ModelPackage, load_package
from visionloop.serving.params import BuildParams
from visionloop.serving.preprocess import make_batch
from visionloop.serving.variants.compare import compare_variant
from visionloop.serving.variants.make import judge_variant, make_variants
from visionloop.serving.variants.parity_page import write_parity_page
from visionloop.serving.variants.precision import write_full_int8
from visionloop.serving.variants.reference import Reference, divide
from visionloop.training.reference import make_reference

FOLDER = RESULTS / "export"
LIMITS = ParityTargets()
PARAMS = BuildParams(search_seconds=120.0)
METRICS = {"detection": "map50", "anomaly": "auroc", "classification": "balanced_accuracy"}


def main() -> None:
    """Measure what is missing, print the table, write ``results/export.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--report", action="store_true", help="only what is there already")
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    rows: list[dict[str, Any]] = []
    for family in options.families:
        path = FOLDER / f"{family}.json"
        if not path.is_file() and not options.report:
            write_json(path, measure(prepare_model(family), family))
        if path.is_file():
            rows += rows_of(family, read_json(path))
    save_results("export", rows)


def measure(workspace: Workspace, family: str) -> dict[str, Any]:
    """Variants, engines and the page of one family."""
    from visionloop.serving.engines.record import EngineManifest

    say_step(f"{family}: variants and engines")
    package = load_package(workspace.package)
    reference = reference_of(workspace, package)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_variants(
            package,
            folder=folder,
            pictures=folder / "pictures",
            images=workspace.images,
            reference=reference,
            keys=signing.trusted_keys(),
            params=PARAMS,
            limits=LIMITS,
        )
        onnx = {"fp32": package.path / MODEL_NAME}
        onnx |= {v.facts.precision: folder / v.facts.onnx_file for v in made if v.facts.accepted}
        cache = EngineCache(folder / "cache")
        engines = [
            cache.provide(onnx=path, precision=precision, compute_capability="8.0", max_batch=8)[0]
            for precision, path in onnx.items()
            if precision in ENGINE_PRECISIONS
        ]
        manifest = EngineManifest(
            package_sha256=package.sha256,
            variants=[one.facts for one in made],
            engines=engines,
        )
        found: dict[str, Any] = {
            "fp32_bytes": onnx["fp32"].stat().st_size,
            "variants": [one.facts.model_dump(mode="json") for one in made],
            "engines": [one.model_dump(mode="json") for one in engines],
            "search": [one.search for one in made],
        }
        if family == "yolo":
            found["full_int8"] = measure_full(workspace, package, reference, folder)
        write_parity_page(FOLDER / f"{family}-parity", package, manifest, made, LIMITS)
    return found


def reference_of(workspace: Workspace, package: ModelPackage) -> Reference:
    """The images that the export would name."""
    version = load_version(workspace.version("v1"), workspace.images)
    return make_reference(version, METRICS[package.manifest.vision_task])


def measure_full(
    workspace: Workspace, package: ModelPackage, reference: Reference, folder: Path
) -> dict[str, Any]:
    """A one-line INT8 export before the same gate."""
    candidates, compared = divide(reference.samples, parity=PARAMS.parity_images)
    batches = (
        make_batch([read_image(workspace.images / one.file_name)], package.manifest.input)[0]
        for one in candidates[: PARAMS.calibration_images]
    )
    target = folder / "full-int8.onnx"
    start = time.monotonic()
    write_full_int8(source=package.path / MODEL_NAME, target=target, batches=batches)
    row = call_apart(
        compare_variant,
        {
            "package": str(package.path),
            "trusted_keys": [str(key) for key in signing.trusted_keys()],
            "model": str(target),
            "images": str(workspace.images),
            "reference": reference.model_copy(update={"samples": compared}).model_dump(mode="json"),
        },
    )
    engine, _ = EngineCache(folder / "cache").provide(
        onnx=target, precision="int8", compute_capability="8.0", max_batch=8
    )
    kept = {name: row[name] for name in row if name not in ("pairs", "worst")}
    return {
        **kept,
        "reasons": judge_variant(kept, "int8", LIMITS),
        "bytes": target.stat().st_size,
        "seconds": time.monotonic() - start,
        "engine": engine.built,
        "engine_reason": engine.reason,
    }


def rows_of(family: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of one family."""
    rows = []
    limits = dict.fromkeys(("int8", "int8-cpu"), LIMITS.max_metric_loss_int8)
    limits["fp16"] = LIMITS.max_metric_loss
    for one in found["variants"]:
        name = f"{family} {one['precision']}"
        if not one["parity"]:
            rows.append(make_row(f"{name}: made (1) or not (0)", 0.0, target=1.0))
            continue
        row = one["parity"]
        against = row["metric"] if row["truth"] == "annotations" else f"{row['metric']} of FP32"
        kept = f", {len(one['kept_in_float'])} of {one['layers']} layers float"
        rows += [
            make_row(
                f"{name}: loss of {against} ({row['reference_value']:.3f} in FP32)"
                + (kept if one["layers"] else ""),
                row["loss"],
                target=limits[one["precision"]],
                higher_is_better=False,
            ),
            make_row(
                f"{name}: decisions as FP32, {row['images']} images", row["agreement"],
                target=LIMITS.minimum_agreement,
            ),
            make_row(
                f"{name}: size, MB (peer: FP32)", one["onnx_bytes"] / 1e6,
                peer=found["fp32_bytes"] / 1e6, peer_name="fp32", higher_is_better=False,
            ),
            make_row(f"{name}: seconds to make and compare", one["seconds"]),
        ]  # fmt: skip
    for one in found["engines"]:
        name = f"{family} {one['precision']}: TensorRT-RTX engine built"
        seconds = f" in {one['seconds']:.1f} s, {one['engine_bytes'] / 1e6:.1f} MB"
        claim = name + (seconds if one["built"] else f" ({one['reason'][:60]})")
        rows.append(make_row(claim, float(one["built"]), target=1.0))
    if full := found.get("full_int8"):
        rows.append(
            make_row(
                f"{family} one-line INT8: loss of {full['metric']}, refused by the gate (1 yes): "
                f"{int(bool(full['reasons']))}, engine built: {int(full['engine'])}",
                full["loss"],
            )
        )
    return rows


if __name__ == "__main__":
    main()
