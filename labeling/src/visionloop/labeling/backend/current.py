"""The drafter in use, exchanged for a newer one while requests go on."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from visionloop.core.errors import VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling.drafts import Drafter, load_drafter
from visionloop.labeling.params import load_params

__all__ = ["CurrentDrafter"]

LOOK_SECONDS = 2.0
FIRST_SECONDS = 30.0
log = logging.getLogger(__name__)


class CurrentDrafter:
    """Holds the drafter of the newest release; looks for a newer one every two seconds.

    A request takes the drafter once and keeps it to its end, so nothing is exchanged under
    it; the old one is dropped when the last request that holds it is answered. A release
    that cannot be loaded changes nothing: the old drafter goes on and the reason is kept.

    Parameters
    ----------
    workspace : Workspace
    on_swap : function
        Called when another drafter took over, but not for the one found at the start.
    """

    def __init__(self, workspace: Workspace, on_swap: Callable[[], object]) -> None:
        self._workspace = workspace
        self._on_swap = on_swap
        self._drafter: Drafter | None = None
        self._seen: tuple[object, ...] | None = None
        self._has_looked = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="releases", daemon=True)
        self.problem = ""

    def get(self) -> Drafter | None:
        """The drafter to use now; None before the first model. Waits while the first is loaded."""
        self._has_looked.wait(FIRST_SECONDS)
        return self._drafter

    @property
    def version(self) -> str:
        """Whose drafts are shown; empty before the first model."""
        return self._drafter.version if self._drafter else ""

    def start(self) -> None:
        """Load the first drafter in the background, then watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._is_over.set()
        self._thread.join(timeout=10)

    def look(self) -> None:
        """Exchange the drafter if release, package, thresholds or parameters are others."""
        found = self._stamps()
        if found == self._seen:
            return
        is_first, self._seen = self._seen is None, found
        try:
            loaded = load_drafter(self._workspace, *load_params(self._workspace))
            if loaded is not None:
                loaded.warm_up()
        except VisionloopError as error:
            self.problem = str(error)
            log.warning("drafts stay with %s: %s", self.version or "none", error)
            return
        self.problem = ""
        before, self._drafter = self.version, loaded
        if self.version != before:
            log.info("drafts by %s from now on (before: %s)", self.version, before or "none")
            if not is_first:
                self._on_swap()

    def _watch(self) -> None:
        while not self._is_over.is_set():
            try:
                self.look()
            except Exception:  # a watcher that died would never see the next release
                log.exception("looking for a release failed")
            self._has_looked.set()
            self._is_over.wait(LOOK_SECONDS)

    def _stamps(self) -> tuple[object, ...]:
        space = self._workspace
        files = [space.releases / "index.json", space.package / "manifest.json", space.params]
        files += sorted((space.studio_state / "thresholds").glob("*.json"))
        return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_mtime_ns, found.st_size
