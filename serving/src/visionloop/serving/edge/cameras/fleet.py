"""All decoding processes: who reads which camera, and what happens when one of them fails.

Cameras share processes, a group each. A process that was ended by one of its cameras is started
again, and its cameras get a process each, so that the one that broke it breaks nothing else a
second time. One that merely gives no sign of life is started again as it was.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from visionloop.core.progress import say_step
from visionloop.serving.edge.cameras.mailbox import Mailbox, Offer
from visionloop.serving.edge.cameras.member import Member, fault_of
from visionloop.serving.edge.cameras.messages import (
    CameraStatus,
    ClipDone,
    ClipOrder,
    Credit,
    Follow,
    Look,
    Pace,
    Status,
    Stop,
    Unwatch,
    Watch,
)
from visionloop.serving.edge.cameras.process import run_process
from visionloop.serving.sources.backoff import FallLimit, backoff_seconds

__all__ = ["CREDIT", "Fleet"]

CREDIT = 2
"""Frames that one process may have under way or waiting at the agent."""
MAX_EXTRA = 48
"""Processes more than groups are needed; beyond it a group that broke stays together."""
STEADY_S = 60.0
"""So long must a process have lived before its end starts its waits anew."""


class Fleet:
    """The cameras of an agent.

    Parameters
    ----------
    per_process : int
        Cameras of a group.
    on_clip : function (ClipDone)
        Told of every clip that was ordered; from another thread.

    Attributes
    ----------
    mailbox : Mailbox
        The newest frame of each camera, as Offers with a Look.
    status : dict of str to CameraStatus
        As last heard.
    restarts : int
        Processes that were started again after they failed.
    replaced : Counter of str
        Camera to its frames that waited here until a newer one came.
    """

    def __init__(self, per_process: int, on_clip: Callable[[ClipDone], None]) -> None:
        self._per_process, self._on_clip = per_process, on_clip
        self._context = multiprocessing.get_context("forkserver")
        # The libraries are read once; a process is then a fork away, and shares their memory.
        self._context.set_forkserver_preload([run_process.__module__, "av", "cv2"])
        self._watches: dict[str, Watch] = {}
        self._members: list[Member] = []
        self._falls: dict[str, int] = {}
        self._limits: dict[str, FallLimit] = {}
        self._pace = 1.0
        self.mailbox = Mailbox()
        self.status: dict[str, CameraStatus] = {}
        self.restarts = 0
        self.replaced: Counter[str] = Counter()

    @property
    def processes(self) -> dict[int, list[str]]:
        """Process id to the cameras that it reads."""
        return {
            one.process.pid: list(one.names) for one in self._members if one.process is not None
        }

    def set_watches(self, watches: Mapping[str, Watch]) -> None:
        """Read these cameras from now on. Those that did not change are not touched."""
        for name in set(self._watches) - set(watches):
            member = self._member_of(name)
            if member is not None:
                member.names.remove(name)
                self._say(member, Unwatch(name))
            for known in (self.status, self._falls, self._limits, self.replaced):
                known.pop(name, None)
            self.mailbox.forget(name)
        for name, watch in watches.items():
            if self._watches.get(name) == watch:
                continue
            member = self._member_of(name)
            if member is None:
                member = self._roomy_member()
                member.names.append(name)
                self.status[name] = CameraStatus(beat=time.monotonic())
            self._say(member, _with_password(watch))
        self._watches = dict(watches)
        for member in [one for one in self._members if not one.names]:
            self._end(member)
            self._members.remove(member)

    def tend(self) -> None:
        """Start what is not running, end what hangs. Call it a few times a second."""
        now = time.monotonic()
        for member in list(self._members):
            if member.process is None:
                if now >= member.ready_at:
                    self._start(member)
                    return  # the next one a moment later: starting is work
            else:
                why, is_camera = fault_of(member, self.status, now)
                if why:
                    self._replace(member, why, is_camera, now)

    def take(self, most: int, wait_s: float) -> list[Look]:
        """The frames that are next, newest of each camera, fair and by priority."""
        offers = self.mailbox.take(most, wait_s)
        for offer in offers:
            self._give_credit(offer.name)
        return [offer.content for offer in offers]

    def drop_older(self, moment: float) -> int:
        """Drop frames that were decoded before a moment; returns how many."""
        gone = self.mailbox.drop(lambda offer: offer.monotonic < moment)
        for offer in gone:
            self._give_credit(offer.name)
        return len(gone)

    def follow(self, name: str, until: float) -> None:
        """Something is there: look at every key frame of the camera until then (monotonic)."""
        self._tell(name, Follow(name, until))

    def order_clip(self, name: str, path: Path, moment: float) -> None:
        """Let the seconds around a moment (monotonic) be written; ``on_clip`` is told."""
        if not self._tell(name, ClipOrder(name, path, moment)):
            self._on_clip(ClipDone(name, path, "its decoding process is not running"))

    def set_pace(self, share: float) -> None:
        """Analyse at this share of the active rate, all cameras."""
        self._pace = share
        for member in self._members:
            self._say(member, Pace(share))

    def has_ended(self) -> bool:
        """Whether every camera was a file or folder that is played to its end."""
        return bool(self._watches) and all(
            self.status[name].state == "ended" for name in self._watches
        )

    def close(self) -> None:
        """End all processes."""
        for member in self._members:
            self._end(member)
        self._members.clear()
        self.mailbox.close()

    def _member_of(self, name: str) -> Member | None:
        return next((one for one in self._members if name in one.names), None)

    def _roomy_member(self) -> Member:
        for member in self._members:
            if len(member.names) < self._per_process and not member.failures:
                return member
        member = Member([])
        self._members.append(member)
        return member

    def _start(self, member: Member) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=run_process, args=(theirs,), daemon=True)
        with _without_main():
            process.start()
        theirs.close()
        member.process, member.pipe = process, ours
        member.started = member.heard = time.monotonic()
        threading.Thread(target=self._listen, args=(member, ours), daemon=True).start()
        self._say(member, Pace(self._pace))
        for name in member.names:
            falls = self._falls.get(name, 0)
            self.status[name] = CameraStatus(beat=time.monotonic(), falls=falls)
            self._say(member, _with_password(self._watches[name]))
        self._say(member, Credit(CREDIT))

    def _listen(self, member: Member, pipe: Connection) -> None:
        """Hear one process. It may stop in the middle of a word: so each has a thread."""
        try:
            while True:
                message = pipe.recv()
                member.heard = time.monotonic()
                if isinstance(message, Look):
                    self._receive(member, message)
                elif isinstance(message, Status):
                    for name, row in message.cameras.items():
                        if name in member.names:
                            falls = row.falls + self._falls.get(name, 0)
                            self.status[name] = replace(row, falls=falls)
                elif isinstance(message, ClipDone):
                    self._on_clip(message)
        except (EOFError, OSError):
            return

    def _receive(self, member: Member, look: Look) -> None:
        watch = self._watches.get(look.name)
        if watch is None or look.name not in member.names:
            self._say(member, Credit(1))
            return
        offer = Offer(look.name, watch.camera.priority, look.monotonic, look)
        if self.mailbox.put(offer) is not None:
            self.replaced[look.name] += 1
            self._say(member, Credit(1))

    def _replace(self, member: Member, why: str, is_camera: bool, now: float) -> None:
        names = ", ".join(member.names[:3]) + ("…" if len(member.names) > 3 else "")
        say_step(f"edge: the process of {names} {why}; starting again")
        self.restarts += 1
        is_early = now - member.started < STEADY_S
        failures = member.failures + 1 if is_early else 1
        self._end(member)
        self._members.remove(member)
        groups = -(-len(self._watches) // self._per_process)
        is_room = len(self._members) + len(member.names) <= 2 * groups + MAX_EXTRA
        parts = [[name] for name in member.names] if is_camera and is_room else [member.names]
        for part in parts:
            fresh = Member(part, failures=failures if is_camera else 0)
            if len(member.names) == 1:
                wait_s = backoff_seconds(failures, "lost", 0.5)
                fresh.ready_at = now + max(wait_s, self._note_fall(member.names[0], now, is_camera))
            self._members.append(fresh)
        for name in member.names:
            falls = self._falls[name] = self.status[name].falls
            reason = f"its process {why}"
            self.status[name] = CameraStatus("lost", beat=now, reason=reason, falls=falls)

    def _note_fall(self, name: str, now: float, is_camera: bool) -> float:
        """A camera ended its process, or not; seconds until it may have another one."""
        limit = self._limits.setdefault(name, FallLimit())
        if is_camera:
            limit.note(now)
            status = self.status[name]
            self.status[name] = replace(status, falls=status.falls + 1)
        return limit.wait_s(now)

    def _end(self, member: Member) -> None:
        if member.process is None:
            return
        self._say(member, Stop())
        member.process.join(0.2)
        if member.process.is_alive():
            member.process.kill()
            member.process.join(5)
        if member.pipe is not None:
            member.pipe.close()
        member.process = member.pipe = None

    def _tell(self, name: str, message: Any) -> bool:
        member = self._member_of(name)
        return member is not None and self._say(member, message)

    def _say(self, member: Member, message: Any) -> bool:
        """Say something; False where nobody hears it."""
        pipe = member.pipe
        if pipe is None:
            return False
        try:
            with member.sending:
                pipe.send(message)
        except (OSError, ValueError):
            return False
        return True

    def _give_credit(self, name: str) -> None:
        self._tell(name, Credit(1))


def _with_password(watch: Watch) -> Watch:
    """With the environment variable that holds the camera's password, as it is now."""
    given = watch.camera.credentials
    if given is None or given.password_env not in os.environ:
        return watch
    return replace(watch, environment={given.password_env: os.environ[given.password_env]})


@contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a new process from importing the program that started us, which it does not need:
    a fraction of a second and many megabytes for each."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program
