"""A file of JSON lines that another program on the device reads.

Each batch is written and synced before it counts. After a kill a torn last line is cut off; an
event may then stand there twice, with one id.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from visionloop.core.errors import ConfigError
from visionloop.core.failpoints import failpoint
from visionloop.serving.edge.delivery.sinks.params import SinkParams
from visionloop.serving.edge.delivery.sinks.table import SinkContext, SinkError, SinkResult
from visionloop.serving.edge.record.events import Event

__all__ = ["FileSink"]

TAIL_BYTES = 1 << 20


class FileSink:
    """Appends to a file; full, it becomes ``<name>.1`` and a new one begins.

    Raises
    ------
    ConfigError
        If the address is no path of a file.
    """

    max_events = 500

    def __init__(self, params: SinkParams, context: SinkContext) -> None:
        self._path = context.root / params.address
        if "://" in params.address or self._path.is_dir():
            raise ConfigError(f"sink '{params.name}'", f"{params.address} is no path of a file")
        self._params, self._context = params, context
        self._is_clean = False

    def send(self, events: Sequence[Event]) -> SinkResult:
        """Append and sync."""
        names = {"site": self._context.site, "device": self._context.device}
        lines = [json.dumps({**names, **event.as_row()}, ensure_ascii=False) for event in events]
        content = "".join(line + "\n" for line in lines).encode()
        try:
            self._append(content)
        except OSError as error:
            self._is_clean = False
            raise SinkError(f"{self._path.name}: {error.strerror or error}") from None
        return SinkResult([event.event_id for event in events])

    def close(self) -> None:
        """Nothing is held open."""

    def _append(self, content: bytes) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if not self._is_clean:
            _cut_torn_line(self._path)
            self._is_clean = True
        if self._path.exists() and self._path.stat().st_size >= self._params.max_mb * 1e6:
            self._turn()
        descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        try:
            written = os.write(descriptor, content)
            if written < len(content):
                raise OSError(28, "the disk is full")
            failpoint("file_sink.before_sync")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _turn(self) -> None:
        """Rename ``x`` to ``x.1``, ``x.1`` to ``x.2``, and let the oldest go."""
        for number in range(self._params.kept_files, 0, -1):
            old = self._numbered(number - 1)
            if old.exists():
                old.replace(self._numbered(number))
                failpoint("file_sink.turned")

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}") if number else self._path


def _cut_torn_line(path: Path) -> None:
    """Cut off what a kill left of a line."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - TAIL_BYTES))
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(end - len(tail) + tail.rfind(b"\n") + 1)
