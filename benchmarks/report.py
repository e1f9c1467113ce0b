"""What every benchmark ends with: rows of one shape, a table, ``results/<name>.json``."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from visionloop.core.files import write_json
from visionloop.core.progress import say_done

__all__ = ["RESULTS", "make_row", "save_results"]

RESULTS = Path(__file__).parent / "results"


def make_row(
    claim: str,
    ours: float,
    *,
    peer: float | None = None,
    peer_name: str = "",
    spread: Sequence[float] | None = None,
    target: float | None = None,
    met: bool | None = None,
    higher_is_better: bool = True,
) -> dict[str, Any]:
    """One row of the results file; the ratio is ours by the peer's.

    Without ``met`` a target is met if ours is on its good side.
    """
    if met is None and target is not None:
        met = ours >= target if higher_is_better else ours <= target
    return {
        "claim": claim,
        "ours": ours,
        "peer": peer,
        "peer_name": peer_name,
        "ratio": ours / peer if peer else None,
        "spread": None if spread is None else [float(value) for value in spread],
        "target": target,
        "higher_is_better": higher_is_better,
        "met": None if met is None else bool(met),
    }


def save_results(name: str, rows: list[dict[str, Any]], **facts: Any) -> Path:
    """Print the table and write ``results/<name>.json`` with date, machine and command."""
    for row in rows:
        print(_shown(row))
    content = {
        "name": name,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        **facts,
        "rows": rows,
    }
    path = write_json(RESULTS / f"{name}.json", content)
    say_done("results", path)
    return path


def _shown(row: dict[str, Any]) -> str:
    parts = [f"{row['claim']:<88} {row['ours']:+.3f}"]
    if row["spread"] is not None:
        parts.append("[{:+.3f}, {:+.3f}]".format(*row["spread"]))
    if row["peer"] is not None:
        parts.append(f"{row['peer_name']} {row['peer']:.3f}")
    if row["ratio"] is not None:
        parts.append(f"ratio {row['ratio']:.2f}")
    if row["met"] is not None:
        parts.append("met" if row["met"] else "MISSED")
    return "   ".join(parts)
