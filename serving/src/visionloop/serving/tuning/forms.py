"""Which forms of a package ``visionloop serve tune`` measures: files, backends, sizes, threads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visionloop.core.errors import DataError
from visionloop.serving.backends.table import ENGINE_BACKENDS
from visionloop.serving.engines.record import EngineManifest
from visionloop.serving.images import read_header
from visionloop.serving.package import MODEL_NAME, ModelPackage
from visionloop.serving.params import TuneParams
from visionloop.serving.variants.fitted_input import fit_input
from visionloop.serving.variants.reference import ReferenceSample

__all__ = ["list_forms", "shapes_of"]

Size = tuple[int, int]


@dataclass(frozen=True)
class _File:
    precision: str
    size: Size
    path: Path
    is_at_size: bool


def list_forms(
    package: ModelPackage,
    manifest: EngineManifest | None,
    folder: Path | None,
    params: TuneParams,
    *,
    shapes: Iterable[Size] = (),
) -> list[dict[str, Any]]:
    """Every combination that there are files for.

    Parameters
    ----------
    package : ModelPackage
    manifest : EngineManifest or None
    folder : Path or None
        Of the manifest.
    params : TuneParams
    shapes : iterable of (int, int)
        Width and height of the pictures of this device. Where one fitted input serves all of
        them it is measured unasked.

    Returns
    -------
    list of dict
        Fields of :class:`visionloop.serving.tuning.device_profile.Choice`; ``model``: path of
        the file; ``is_at_size``: it was made for this input, not for the package's.
    """
    spec = package.manifest.input
    own = (spec.width, spec.height)
    files = _list_files(package, manifest, folder, _list_sizes(own, manifest, params))
    fitted = {fit_input(spec, *shape) for shape in shapes}
    if len(fitted) == 1 and (size := fitted.pop()) is not None:
        files += _list_files(package, manifest, folder, [size])
    engines = []
    if manifest is not None and folder is not None:
        engines = [_File(e.precision, own, folder / e.engine_file, True) for e in manifest.built]
    return [
        {
            "backend": backend,
            "precision": file.precision,
            "threads": threads,
            "width": file.size[0],
            "height": file.size[1],
            "model": str(file.path),
            "is_at_size": file.is_at_size,
        }
        for backend in params.backends
        for file in dict.fromkeys(engines if backend in ENGINE_BACKENDS else files)
        for threads in (params.threads[:1] if backend in ENGINE_BACKENDS else params.threads)
    ]


def shapes_of(samples: Iterable[ReferenceSample], images: Path) -> set[Size]:
    """Width and height of image files; a damaged one has none, and is told where it is read."""
    shapes = set()
    for one in samples:
        try:
            header = read_header((images / one.file_name).read_bytes())
        except (OSError, DataError):
            continue
        shapes.add((header.width, header.height))
    return shapes


def _list_sizes(own: Size, manifest: EngineManifest | None, params: TuneParams) -> list[Size]:
    """The package's input, those asked for, and those that the release was built for."""
    asked = [(width, max(32, round(width * own[1] / own[0]))) for width in params.sizes]
    built = [one.size for one in manifest.variants if one.accepted] if manifest else []
    return list(dict.fromkeys([own, *asked, *filter(None, built)]))


def _list_files(
    package: ModelPackage,
    manifest: EngineManifest | None,
    folder: Path | None,
    sizes: Iterable[Size],
) -> list[_File]:
    """A file for each precision and size: made for it, else the package's own form, resized."""
    spec = package.manifest.input
    own = (spec.width, spec.height)
    fp32 = package.path / MODEL_NAME
    found = []
    for size in sizes:
        found.append(_File("fp32", size, fp32, is_at_size=size == own))
        if manifest is None or folder is None:
            continue
        for precision in dict.fromkeys(one.precision for one in manifest.variants):
            made = manifest.variant(precision, None if size == own else size)
            one = made or manifest.variant(precision)
            if one is not None:
                found.append(_File(precision, size, folder / one.onnx_file, made is not None))
    return found
