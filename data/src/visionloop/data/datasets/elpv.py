"""Solar cells: 2,624 electroluminescence images (package ``elpv-dataset``, CC BY-NC-SA 4.0).

Buerhop-Lutz et al., "A Benchmark for Visual Identification of Defective Solar Cells in
Electroluminescence Imagery", EU PVSEC 2018; Deitsch et al., "Segmentation of photovoltaic
module cells in uncalibrated electroluminescence images", 2021. Each cell is mono- or
polycrystalline and carries a defect probability of 0, 1/3, 2/3 or 1.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path

from visionloop.core.entities import Annotation
from visionloop.core.errors import DataError, MissingExtraError
from visionloop.core.files import sha256_of_file
from visionloop.data.datasets.phases import PHASES, cap_phases, check_phases, fill_phases, time_of
from visionloop.data.datasets.table import RawSample

__all__ = ["ElpvDataset"]

PACKAGE = "elpv-dataset"
BLOCK = 6
"""Neighbours in the data set are cells of one solar module (6 x 10 or 6 x 12 cells): whole rows
go to one phase, so that near-duplicates stay together. What still crosses is left out by
``split``."""

SIZES: dict[str, list[tuple[str, int | None]]] = {
    "mono": [("acceptance", 320), ("commissioning", 500), ("production_1", None)],
    "poly": [("acceptance", 500), ("production_2", None)],
}
ANNOTATED = ("commissioning", "acceptance")


@dataclass(frozen=True)
class _Cell:
    file: str
    probability: float
    cell_type: str
    block: str
    block_number: int

    @property
    def class_name(self) -> str:
        return "defective" if self.probability > 0.5 else "functional"


class ElpvDataset:
    """The row ``elpv``: the line makes monocrystalline cells, then polycrystalline ones."""

    name = "elpv"
    licence = "CC BY-NC-SA 4.0"
    classes = ("functional", "defective")

    def __init__(self, *, seed: int, phase_sizes: dict[str, int] | None = None) -> None:
        check_phases(phase_sizes or {}, "data.import.phase_sizes")
        self.folder, version = _find_package()
        self.source = f"package {PACKAGE} {version}"
        self._cells = _read_cells(self.folder)
        self._phase_of = cap_phases(_share_out(self._cells, seed), phase_sizes or {})

    def samples(self, phases: Iterable[str] | None = None) -> Iterator[RawSample]:
        """The cells of these phases, in order of (simulated) time."""
        wanted = tuple(phases) if phases is not None else PHASES
        check_phases(wanted, "phases")
        for phase in PHASES:
            if phase not in wanted:
                continue
            cells = [cell for cell in self._cells if self._phase_of.get(cell.file) == phase]
            cells.sort(key=lambda cell: (cell.cell_type, cell.file))
            for number, cell in enumerate(cells):
                yield self._sample(cell, phase, number)

    def truth(self) -> dict[str, list[Annotation]]:
        """The class of every cell by sample id."""
        found: dict[str, list[Annotation]] = {}
        for cell in self._cells:
            sample_id = sha256_of_file(self.folder / cell.file)
            found.setdefault(sample_id, [Annotation(sample_id, cell.class_name)])
        return found

    def _sample(self, cell: _Cell, phase: str, number: int) -> RawSample:
        raw = RawSample(
            content=(self.folder / cell.file).read_bytes(),
            suffix="png",
            camera=f"el-{1 + cell.block_number % 2}",
            site="plant-1",
            captured_at=time_of(phase, number),
            attributes={
                "cell_type": cell.cell_type,
                "block": cell.block,
                "defect_probability": cell.probability if phase in ANNOTATED else None,
            },
            phase=phase,
            official_split="test" if phase == "acceptance" else None,
        )
        if phase in ANNOTATED:
            object.__setattr__(
                raw,
                "annotations",
                (Annotation(raw.sample_id, cell.class_name, annotator="expert"),),
            )
        return raw


def _find_package() -> tuple[Path, str]:
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            "dataset 'elpv'",
            f"the data package '{PACKAGE}' is not installed",
            "with a network: pip install 'visionloop[solar]' (93 MB); without one, choose "
            "dataset 'deeppcb', which can generate its images",
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "data"
    try:
        version = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        version = "of unknown version"
    return folder, version


@cache
def _read_cells(folder: Path) -> list[_Cell]:
    table = folder / "labels.csv"
    try:
        lines = table.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(
            f"package {PACKAGE}", f"{table} is missing", "install the package again"
        ) from None
    rows = [line.split() for line in lines if line.strip()]
    wrong = [f"line {n}: {row}" for n, row in enumerate(rows, 1) if len(row) != 3]
    if wrong:
        raise DataError(str(table), wrong, "expected: file, probability, mono or poly")
    cells: list[_Cell] = []
    number = 0
    for cell_type, run in groupby(rows, key=lambda row: row[2]):
        of_run = list(run)
        for start in range(0, len(of_run), BLOCK):
            cells += [
                _Cell(file, float(probability), cell_type, f"{cell_type}-{number:03d}", number)
                for file, probability, _ in of_run[start : start + BLOCK]
            ]
            number += 1
    return cells


def _share_out(cells: list[_Cell], seed: int) -> dict[str, str]:
    phase_of: dict[str, str] = {}
    for cell_type, sizes in SIZES.items():
        of_type = [cell for cell in cells if cell.cell_type == cell_type]
        blocks = [
            [cell.file for cell in block] for _, block in groupby(of_type, key=lambda c: c.block)
        ]
        phase_of |= fill_phases(blocks, sizes, seed)
    return {cell.file: phase_of[cell.file] for cell in cells if cell.file in phase_of}
