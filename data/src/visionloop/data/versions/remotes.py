"""The verbs ``push`` and ``pull``: DVC moves the bytes, and both ends are looked at.

``dvc push`` spreads a damaged object and ``dvc pull`` brings it, both without a word. So what
is pushed is hashed first, what arrived is compared, and what was pulled is verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.failpoints import failpoint
from visionloop.core.privacy import mask_secrets
from visionloop.core.workspace import Workspace
from visionloop.data.versions.objects import (
    Store,
    name_objects,
    open_cache,
    open_remote,
    open_repository,
)
from visionloop.data.versions.tracked import tracked_before, tracked_now
from visionloop.data.versions.verify import VerifyReport, verify

__all__ = ["PushReport", "pull", "push"]


@dataclass(frozen=True)
class PushReport:
    """What a push did.

    Attributes
    ----------
    remote : str
        ``remote 'NAME'``.
    place : str
        Its folder or URL, without secrets.
    objects : int
        Objects of the tracked data, all of them in the remote now.
    moved : int
        Of these, how many this push brought.
    """

    remote: str
    place: str
    objects: int
    moved: int


def push(*, workspace: Workspace, remote: str | None = None, history: bool = False) -> PushReport:
    """Push what DVC tracks, after hashing it, and compare what arrived.

    Parameters
    ----------
    workspace : Workspace
    remote : str or None
        The default remote if None.
    history : bool
        Also what earlier git commits track: older dataset versions.

    Raises
    ------
    DataError
        If an object in the cache is damaged: nothing is pushed.
    ConfigError
        If there is no such remote.
    VisionloopError
        If the remote fails, or lacks objects afterwards; push again.
    """
    repository = open_repository(workspace.root)
    cache, there = open_cache(repository), open_remote(repository, remote)
    outputs = [*tracked_now(workspace.root), *(tracked_before(workspace.root) if history else ())]
    wanted = name_objects(outputs, [cache, there])
    new = {md5 for md5 in wanted if _is_absent(md5, cache, there)}
    damaged = [f"{cache.path(md5)} ({wanted[md5][0]})" for md5 in cache.damaged(new)]
    if damaged:
        raise DataError(
            "cache",
            [f"damaged object {one}" for one in damaged],
            "nothing was pushed; visionloop data verify says how to heal it",
        )
    failpoint("push.before_transfer")
    _run("push", repository.push, remote=remote, all_commits=history)
    failpoint("push.after_transfer")
    after = open_remote(repository, remote)
    # DVC notes what it pushed once, and does not look whether it is still there.
    if forgotten := [md5 for md5 in cache.sizes if md5 in wanted and _is_absent(md5, cache, after)]:
        after.take(forgotten, cache)
        after = open_remote(repository, remote)
    _refuse_incomplete(wanted, cache, after)
    place = mask_secrets(after.filesystem.unstrip_protocol(after.place))
    return PushReport(after.name, place, len(wanted), len(new & after.sizes.keys()))


def pull(*, workspace: Workspace, remote: str | None = None) -> VerifyReport:
    """Pull what DVC tracks, checking each object on arrival, and verify the workspace.

    Raises
    ------
    ConfigError
        If there is no such remote.
    VisionloopError
        If the remote fails or lacks an object.
    """
    repository = open_repository(workspace.root)
    name = remote or repository.config["core"].get("remote")
    open_remote(repository, remote)
    # DVC believes a remote unless it is told to hash what arrives; this holds for this call.
    repository.config["remote"][name]["verify"] = True
    _run("pull", repository.pull, remote=remote)
    return verify(workspace=workspace)


def _run(verb: str, call: Callable[..., Any], **options: Any) -> None:
    from dvc.exceptions import DvcException

    try:
        call(**options)
    except DvcException as error:
        words = mask_secrets(str(error)).strip()
        raise VisionloopError(f"dvc {verb}", words, "the same command goes on from here") from None


def _is_absent(md5: str, cache: Store, there: Store) -> bool:
    """Whether an object is not there, or not with the size that it has here."""
    return md5 not in there.sizes or cache.sizes.get(md5, there.sizes[md5]) != there.sizes[md5]


def _refuse_incomplete(wanted: dict[str, list[str]], cache: Store, after: Store) -> None:
    problems = [
        f"{files[0]} did not arrive ({md5})"
        for md5, files in wanted.items()
        if _is_absent(md5, cache, after)
    ]
    if problems:
        next_step = "is it in the cache (dvc status)? then push again"
        raise VisionloopError(after.name, problems[:20], next_step)
