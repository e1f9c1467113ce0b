"""Precision variants of a package: made, compared with FP32, accepted or refused with reasons."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.errors import VisionloopError
from visionloop.core.files import sha256_of_file
from visionloop.core.progress import say_step
from visionloop.core.targets import ParityTargets
from visionloop.serving.apart import call_apart
from visionloop.serving.engines.record import VariantFacts
from visionloop.serving.package import MODEL_NAME, ModelPackage
from visionloop.serving.params import BuildParams
from visionloop.serving.variants.compare import compare_variant
from visionloop.serving.variants.fitted_input import fit_input, read_aspect
from visionloop.serving.variants.precision import write_fp16
from visionloop.serving.variants.quantization import write_int8
from visionloop.serving.variants.reference import Reference, divide

__all__ = ["MadeVariant", "judge_variant", "make_and_compare", "make_variants"]


@dataclass(frozen=True)
class MadeVariant:
    """A variant, and what the parity page shows of it.

    Attributes
    ----------
    facts : VariantFacts
    shown : dict
        ``pairs``, ``worst`` and the folder ``pictures``; empty where nothing was compared.
    search : dict
        How the layers that stay in float were found; empty but for INT8.
    """

    facts: VariantFacts
    shown: dict[str, Any] = field(default_factory=dict)
    search: dict[str, Any] = field(default_factory=dict)


def make_variants(
    package: ModelPackage,
    *,
    folder: Path,
    pictures: Path,
    images: Path,
    reference: Reference,
    keys: Sequence[Path],
    params: BuildParams,
    limits: ParityTargets,
) -> list[MadeVariant]:
    """Make every variant that ``params`` names; files of refused ones do not stay.

    Parameters
    ----------
    package : ModelPackage
    folder : Path
        Where ``model-<precision>.onnx`` is written.
    pictures : Path
        Where drawings of the worst images are written, a folder a precision.
    images : Path
        Folder of the reference's images.
    reference : Reference
    keys : sequence of Path
        Trusted public keys.
    params : BuildParams
    limits : ParityTargets
    """
    candidates, compared = divide(reference.samples, parity=params.parity_images)
    calibration = reference.model_copy(update={"samples": candidates or compared})
    parity = reference.model_copy(update={"samples": compared})
    made = []
    for facts in _list_wanted(package, params):
        target = folder / f"model-{_short(facts)}.onnx"
        shared = {
            "package": str(package.path),
            "trusted_keys": [str(path) for path in keys],
            "images": str(images),
            "size": facts.size,
        }
        drawn = pictures / _short(facts)
        drawn.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        one = _make_one(facts, package, target, drawn, shared, calibration, parity, params, limits)
        seconds = round(time.monotonic() - start, 2)
        if not one.facts.accepted:
            target.unlink(missing_ok=True)
            say_step(f"serving: {facts.name} refused: {'; '.join(one.facts.reasons)}")
        facts = one.facts.model_copy(update={"seconds": seconds})
        made.append(MadeVariant(facts, one.shown, one.search))
    return made


def _list_wanted(package: ModelPackage, params: BuildParams) -> list[VariantFacts]:
    """Every precision at the package's input; that of processors at fitted inputs, too.

    Engines have one size: TensorRT gets no fitted ones.
    """
    wanted = [VariantFacts(precision=one, accepted=False) for one in params.precisions]
    if "int8-cpu" not in params.precisions:
        return wanted
    sizes = {fit_input(package.manifest.input, *read_aspect(one)) for one in params.aspects}
    return wanted + [
        VariantFacts(precision="int8-cpu", accepted=False, width=size[0], height=size[1])
        for size in sorted(filter(None, sizes))
    ]


def _short(facts: VariantFacts) -> str:
    """For names of files."""
    return facts.precision + (f"-{facts.width}x{facts.height}" if facts.size else "")


def judge_variant(row: dict[str, Any], precision: str, limits: ParityTargets) -> list[str]:
    """Why a variant must not ship; empty where it may.

    Parameters
    ----------
    row : dict
        :meth:`VariantParity.as_row`.
    precision : str
    limits : ParityTargets
    """
    is_int8 = precision.startswith("int8")
    allowed = limits.max_metric_loss_int8 if is_int8 else limits.max_metric_loss
    problems = []
    # A hair of slack: a loss of exactly the limit is allowed, whatever the floats say.
    if row["loss"] > allowed + 1e-9:
        against = "annotations" if row["truth"] == "annotations" else "the answers of FP32"
        problems.append(
            f"{row['metric']} against {against} falls by {row['loss']:.4f} (from "
            f"{row['reference_value']:.4f} to {row['value']:.4f}), more than {allowed}"
        )
    if row["agreement"] < limits.minimum_agreement - 1e-9:
        problems.append(
            f"only {row['agreement']:.1%} of its decisions are those of FP32, fewer than "
            f"{limits.minimum_agreement:.0%}"
            + (f" ({row['why_counted']})" if row["why_counted"] else "")
        )
    return problems


def make_and_compare(
    *,
    precision: str,
    source: str,
    target: str,
    shared: dict[str, Any],
    calibration: dict[str, Any],
    parity: dict[str, Any],
    pictures: str,
    search: dict[str, Any],
) -> dict[str, Any]:
    """Make one variant and compare it with FP32. Call it apart: bad graphs have crashed runtimes.

    Parameters
    ----------
    precision : str
    source, target, pictures : str
        Paths: FP32 and variant (ONNX), and where the worst images are drawn.
    shared : dict
        Arguments of :func:`write_int8` and :func:`compare_variant`.
    search : dict
        Fields of :class:`visionloop.serving.variants.quantization.Int8Settings`.
    calibration, parity : dict
        A :class:`Reference` each.

    Returns
    -------
    dict
        ``search`` (empty for FP16) and ``shown``, what the two functions answered.
    """
    found: dict[str, Any] = {}
    if precision == "fp16":
        write_fp16(source=source, target=target)
    else:
        settings = {**search, "symmetric": precision == "int8"}
        found = write_int8(**shared, reference=calibration, target=target, settings=settings)
    shown = compare_variant(**shared, model=target, reference=parity, pictures=pictures)
    return {"search": found, "shown": shown}


def _make_one(
    wanted: VariantFacts,
    package: ModelPackage,
    target: Path,
    drawn: Path,
    shared: dict[str, Any],
    calibration: Reference,
    parity: Reference,
    params: BuildParams,
    limits: ParityTargets,
) -> MadeVariant:
    """Convert, compare, judge; a crash or a failure is a reason, not an end."""
    precision = wanted.precision
    say_step(f"serving: making {wanted.name}, comparing it on {len(parity.samples)} images")
    arguments = {
        "precision": precision,
        "source": str(package.path / MODEL_NAME),
        "target": str(target),
        "shared": shared,
        "calibration": calibration.model_dump(mode="json"),
        "parity": parity.model_dump(mode="json"),
        "pictures": str(drawn),
        "search": {
            "calibration_images": params.calibration_images,
            "search_images": params.search_images,
            "budget": params.search_budget,
            "seconds": params.search_seconds,
        },
    }
    try:
        timeout_s = params.timeout_s + params.search_seconds
        found = call_apart(make_and_compare, arguments, timeout_s=timeout_s)
    except VisionloopError as error:
        reasons = [f"it could not be made or run: {'; '.join(error.problems)}"]
        return MadeVariant(wanted.model_copy(update={"reasons": reasons}))
    search, shown = found["search"], found["shown"]
    row = {name: shown[name] for name in shown if name not in ("pairs", "worst")}
    reasons = judge_variant(row, precision, limits)
    facts = wanted.model_copy(
        update={
            "accepted": not reasons,
            "reasons": reasons,
            "onnx_file": "" if reasons else target.name,
            "onnx_sha256": sha256_of_file(target),
            "onnx_bytes": target.stat().st_size,
            "parity": row,
            "kept_in_float": search.get("kept_in_float", []),
            "layers": search.get("layers", 0),
            "calibration": search.get("calibration", []),
        }
    )
    return MadeVariant(facts, {**shown, "pictures": str(drawn)}, search)
