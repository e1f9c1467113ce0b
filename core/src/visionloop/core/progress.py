"""Progress that people see: a bar on a terminal, plain lines elsewhere; always on stderr."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["say_done", "say_step", "track"]

Row = TypeVar("Row")

PLAIN_LINE_SECONDS = 10.0


def track(rows: Iterable[Row], description: str, *, total: int | None = None) -> Iterator[Row]:
    """Yield the rows and show how far the work is, with rate and time left.

    Parameters
    ----------
    rows : iterable
    description : str
        What is being done: "embedding cells".
    total : int or None
        Number of rows; taken from ``len(rows)`` where it has one.
    """
    if total is None and isinstance(rows, Sequence):
        total = len(rows)
    console = _make_console()
    if console.is_terminal:
        yield from _track_with_bar(rows, description, total, console)
    else:
        yield from _track_with_lines(rows, description, total)


def _make_console() -> Console:
    """A console on stderr. The first import of rich draws from Python's global generator,
    and work that was seeded must not notice that its progress is shown."""
    state = random.getstate()
    from rich.console import Console

    random.setstate(state)
    return Console(stderr=True)


def _track_with_bar(
    rows: Iterable[Row], description: str, total: int | None, console: Console
) -> Iterator[Row]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(rows, total=total, description=description)


def _track_with_lines(rows: Iterable[Row], description: str, total: int | None) -> Iterator[Row]:
    start = last = time.monotonic()
    for count, row in enumerate(rows):
        now = time.monotonic()
        if now - last >= PLAIN_LINE_SECONDS:
            last = now
            rate = count / (now - start)
            left = f", {(total - count) / rate:.0f} s left" if total and rate else ""
            _print(f"{description}: {count}{f'/{total}' if total else ''} ({rate:.1f}/s{left})")
        yield row


def say_step(text: str) -> None:
    """Tell the person which step begins."""
    _print(text)


def say_done(made: str, where: object, next_step: str = "") -> None:
    """End a command: what it made, where it is, what to run next (on stdout)."""
    print(f"{made}: {where}")
    if next_step:
        print(f"next: {next_step}")


def _print(text: str) -> None:
    import sys

    print(text, file=sys.stderr, flush=True)
