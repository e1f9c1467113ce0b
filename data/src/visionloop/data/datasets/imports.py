"""The verb ``import``: a data set's phases into ``data/raw``, by content hash.

Every image file is written durably under its own SHA-256 and the tables are replaced
last, so the verb can be killed anywhere and run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes, write_bytes, write_json
from visionloop.core.image_statistics import measure_image
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.table import RawSample, open_dataset
from visionloop.data.params import load_params
from visionloop.data.raw import RawStore

if TYPE_CHECKING:
    import pandas

__all__ = ["ImportReport", "import_raw_samples", "import_samples", "take_in"]


@dataclass(frozen=True)
class ImportReport:
    """What an import brought in.

    Attributes
    ----------
    dataset, source : str
    added, known, duplicates, rejected : int
        Samples new in ``data/raw``; there already; files of equal bytes passed over;
        files that are not usable images.
    phases : dict of str to int
        Samples of each phase in ``data/raw`` afterwards.
    """

    dataset: str
    source: str
    added: int
    known: int
    duplicates: int
    rejected: int
    phases: dict[str, int] = field(default_factory=dict)


def import_samples(*, workspace: Workspace) -> ImportReport:
    """Bring the phases of ``params.yaml`` into ``data/raw``.

    Writes ``data/raw/images``, ``samples.parquet``, ``annotations.json`` and
    ``reports/import/{import,rejected}.json``. Samples that are there already stay,
    with their metadata.

    Raises
    ------
    ConfigError, MissingExtraError
        See :func:`visionloop.data.datasets.table.open_dataset`.
    DataError
        If no image at all could be read.
    """
    project, data = load_params(workspace)
    dataset = open_dataset(data.dataset, project.seed, phase_sizes=data.imports.phase_sizes)
    return import_raw_samples(
        dataset.samples(data.imports.phases),
        workspace=workspace,
        classes=project.classes,
        name=dataset.name,
        source=dataset.source,
    )


def import_raw_samples(
    samples: Iterable[RawSample],
    *,
    workspace: Workspace,
    classes: list[str],
    name: str,
    source: str,
) -> ImportReport:
    """Bring any samples into ``data/raw``; see :func:`import_samples`."""
    store = RawStore.load(workspace)
    rejected: list[dict[str, str]] = []
    rows: dict[str, dict[str, Any]] = {}
    annotations: list[Annotation] = []
    counts = {"known": 0, "duplicates": 0}
    for raw in track(samples, f"importing {name}"):
        failpoint("import.sample")
        if raw.sample_id in rows:
            counts["duplicates"] += 1
            annotations += _conflicting(raw, annotations)
            continue
        if raw.sample_id in store.known:
            counts["known"] += 1
            rows[raw.sample_id] = {}
        else:
            row, problem = take_in(raw, workspace.images)
            if problem:
                rejected.append(_rejection(raw, problem))
                continue
            rows[raw.sample_id] = row
        annotations += raw.annotations
    new = [row for row in rows.values() if row]
    _report_rejected(workspace, rejected)
    if not rows:
        raise DataError(
            f"dataset '{name}'",
            f"not one of its {len(rejected)} images can be read",
            f"see {workspace.reports / 'import' / 'rejected.json'}",
        )
    frame = store.save(new, annotations, classes)
    report = ImportReport(
        dataset=name,
        source=source,
        added=len(new),
        known=counts["known"],
        duplicates=counts["duplicates"],
        rejected=len(rejected),
        phases=_count_phases(frame),
    )
    write_json(workspace.reports / "import" / "import.json", dict(vars(report)))
    return report


def take_in(raw: RawSample, images: Path) -> tuple[dict[str, Any], str]:
    """Decode, measure and write an image; a problem is returned and nothing is written.

    Returns
    -------
    row : dict
        Of the samples table.
    problem : str
        Empty if all went well.
    """
    from visionloop.serving.images import decode_image

    try:
        image = decode_image(raw.content, subject=raw.sample_id[:12], suffix=f".{raw.suffix}")
    except DataError as error:
        return {}, "; ".join(error.problems)
    path = images / f"{raw.sample_id}.{raw.suffix}"
    if not path.exists() or path.stat().st_size != len(raw.content):
        write_bytes(path, raw.content)
    row: dict[str, Any] = {
        "sample_id": raw.sample_id,
        "file_name": path.name,
        "width": int(image.shape[1]),
        "height": int(image.shape[0]),
        "camera": raw.camera,
        "site": raw.site,
        "captured_at": raw.captured_at,
        **measure_image(image).as_row(),
        "phase": raw.phase,
        "official_split": raw.official_split,
        **raw.attributes,
    }
    if raw.mask is not None:
        row["mask_file"] = _keep_mask(raw.mask, images.with_name("masks"))
    return row, ""


def _keep_mask(content: bytes, masks: Path) -> str:
    """Write a mask beside the images, by content hash; returns its name below ``data/raw``."""
    path = masks / f"{sha256_of_bytes(content)}.png"
    if not path.exists() or path.stat().st_size != len(content):
        write_bytes(path, content)
    return f"{masks.name}/{path.name}"


def _conflicting(raw: RawSample, known: list[Annotation]) -> list[Annotation]:
    """Annotations of a second copy that say something else: kept, so that ``check`` sees them."""
    said = {(row.class_name, row.xyxy) for row in known if row.sample_id == raw.sample_id}
    return [row for row in raw.annotations if (row.class_name, row.xyxy) not in said]


def _rejection(raw: RawSample, problem: str) -> dict[str, str]:
    return {
        "sample_id": raw.sample_id,
        "camera": raw.camera,
        "captured_at": raw.captured_at,
        "phase": raw.phase,
        "bytes": str(len(raw.content)),
        "reason": problem,
    }


def _report_rejected(workspace: Workspace, rejected: list[dict[str, str]]) -> None:
    content = {"count": len(rejected), "files": rejected}
    write_json(workspace.reports / "import" / "rejected.json", content)


def _count_phases(frame: pandas.DataFrame) -> dict[str, int]:
    return {str(name): int(count) for name, count in frame["phase"].value_counts().items()}
