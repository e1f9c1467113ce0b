"""The table of sources: one row a kind, one way to open them all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from visionloop.core.entities import Frame
from visionloop.core.plugins import resolve
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.frames import Pace, Watcher

__all__ = ["SOURCES", "Source", "open_source"]

SOURCES = {
    "folder": "visionloop.serving.sources.files:FolderSource",
    "file": "visionloop.serving.sources.files:VideoFileSource",
    "rtsp": "visionloop.serving.sources.rtsp:RtspSource",
    "http": "visionloop.serving.sources.snapshot:SnapshotSource",
    "gstreamer": "visionloop.serving.sources.gstreamer:GstreamerSource",
}


class Source(Protocol):
    """A source; built with ``(params, site=..., root=..., watcher=...)``.

    Attributes
    ----------
    total : int or None
        Number of its frames, where it has an end that is known.
    is_live : bool
        Whether it is a camera: it has no end, and what was not taken is gone.
    pace : Pace
        Its rate, which the owner may change while it plays.
    """

    total: int | None
    is_live: bool
    pace: Pace

    def frames(self, start: int = 0) -> Iterator[Frame]:
        """Frames from sequence number ``start`` on, at the source's rate."""
        ...


def open_source(
    params: SourceParams, *, site: str, root: Path, watcher: Watcher | None = None
) -> Source:
    """Build the source that a configuration names.

    Parameters
    ----------
    params : SourceParams
    site : str
        Stands in its frames.
    root : Path
        What relative paths start from.
    watcher : Watcher or None
        Ends the source and hears of faults; None plays until the end and prints faults.

    Raises
    ------
    ConfigError
        If the kind is unknown, or a password that it refers to is not there.
    DataError
        If its folder or file is missing.
    """
    source: Source = resolve(SOURCES, params.kind, kind="source", extra="edge")(
        params, site=site, root=root, watcher=watcher or Watcher()
    )
    return source
