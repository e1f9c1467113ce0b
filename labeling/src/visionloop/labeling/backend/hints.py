"""Pulls when Label Studio hints that somebody answered, and every few minutes anyway.

The hint carries nothing that is believed: lost, doubled, forged or reordered ones can only
change when the next pull runs. The pull compares with the server, which is the truth.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from visionloop.core.privacy import mask_secrets
from visionloop.core.workspace import Workspace

__all__ = ["Puller"]

GATHER_SECONDS = 2.0
"""Hints that come close together lead to one pull."""

PULL_SECONDS = 900.0
log = logging.getLogger(__name__)


class Puller:
    """Runs ``visionloop label pull`` in a process of its own, from a thread of its own.

    Parameters
    ----------
    workspace : Workspace
    minutes : float
        Longest time between two pulls.
    on_pulled : function
        Called after each pull that succeeded.
    """

    def __init__(
        self, workspace: Workspace, *, minutes: float, on_pulled: Callable[[], object]
    ) -> None:
        self._workspace = workspace
        self._seconds = minutes * 60
        self._on_pulled = on_pulled
        self._hinted = threading.Event()
        self._is_over = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._watch, name="puller", daemon=True)
        self.pulls = 0
        self.problem = ""

    def hint(self) -> None:
        """Something may have changed; returns at once."""
        self._hinted.set()

    def start(self) -> None:
        """Begin with a pull: hints were lost while no backend ran."""
        self._hinted.set()
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and a pull that runs: the next one does its work again."""
        self._is_over.set()
        self._hinted.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(timeout=20)

    def _watch(self) -> None:
        while not self._is_over.is_set():
            self._hinted.wait(self._seconds)
            self._is_over.wait(GATHER_SECONDS)
            self._hinted.clear()
            if self._is_over.is_set():
                return
            try:
                self._pull()
            except Exception:  # a thread that died would never pull again
                log.exception("a pull failed")

    def _pull(self) -> None:
        command = [sys.executable, "-m", "visionloop.labeling", "pull"]
        self._process = subprocess.Popen(
            [*command, "--workspace", str(self._workspace.root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        begun = time.monotonic()
        try:
            said, _ = self._process.communicate(timeout=PULL_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, _ = self._process.communicate()
        code = self._process.returncode
        self._process = None
        self.pulls += 1
        self.problem = "" if code == 0 else mask_secrets(said.strip())[-600:]
        if code and not self._is_over.is_set():
            log.warning("the pull ended with %s: %s", code, self.problem)
        else:
            log.info("pulled in %.1f s", time.monotonic() - begun)
        if code == 0:
            self._on_pulled()
