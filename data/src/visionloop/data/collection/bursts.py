"""What starts a burst: a trigger file, the command ``--burst``, an event of the edge agent."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.files import write_text
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.collection.cameras import Camera
from visionloop.data.collection.journal import Journal, collection_folder

__all__ = ["BurstWatch", "request_burst"]

CURSOR = "last event of the edge"


def request_burst(workspace: Workspace, camera: str) -> Path:
    """Ask the running collection for a burst: a file named like the camera.

    Anything may write that file: a PLC's gateway, ``touch``, another program.
    """
    return write_text(_trigger_folder(workspace) / camera, "")


class BurstWatch:
    """Looks for triggers and new events; each starts at most one burst.

    Parameters
    ----------
    workspace : Workspace
    journal : Journal
        Remembers the last event, so that a restart neither repeats nor forgets one.
    max_age_s : float
        Older triggers and events start nothing.
    """

    def __init__(self, workspace: Workspace, journal: Journal, max_age_s: float) -> None:
        self._workspace, self._journal, self._max_age_s = workspace, journal, max_age_s
        self._last = journal.place(CURSOR)
        self._complaint = ""

    def cameras_to_burst(self, cameras: list[Camera]) -> list[str]:
        """Ids of the cameras for which something happened since the last call."""
        return [*self._from_files(cameras), *self._from_events(cameras)]

    def _from_files(self, cameras: list[Camera]) -> list[str]:
        known = {camera.id for camera in cameras}
        found = []
        for path in sorted(_trigger_folder(self._workspace).glob("*")):
            if path.name.startswith("."):
                continue
            try:
                age = time.time() - path.stat().st_mtime
                path.unlink()
            except OSError:
                continue  # somebody else took it, or it cannot be taken: then it starts nothing
            if path.name not in known:
                say_step(f"collect: trigger '{path.name}' names no camera")
            elif age > self._max_age_s:
                say_step(f"collect: trigger '{path.name}' is {age:.0f} s old and starts nothing")
            else:
                found.append(path.name)
        return found

    def _from_events(self, cameras: list[Camera]) -> list[str]:
        from visionloop.serving.edge.delivery.outbox import read_events

        wanted = {camera.id: camera.burst for camera in cameras if camera.burst.on_events}
        database = self._workspace.edge / "outbox.db"
        if not wanted or not database.is_file():
            return []
        try:
            events = read_events(database, after=self._last)
        except DataError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                say_step(f"collect: events start no burst: {error}")
            return []
        if events:
            self._last = events[-1].seq
            self._journal.set_place(CURSOR, self._last)
        found: dict[str, None] = {}
        for event in events:
            camera, rule = str(event.payload.get("camera")), event.payload.get("rule")
            burst = wanted.get(camera)
            is_fresh = _age_s(event.created_at) <= self._max_age_s
            if burst is not None and is_fresh and (not burst.rules or rule in burst.rules):
                found[camera] = None
        return list(found)


def _trigger_folder(workspace: Workspace) -> Path:
    return collection_folder(workspace) / "triggers"


def _age_s(moment: str) -> float:
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - then).total_seconds()
