"""Waivers: a person takes responsibility for one check, for one reason, until one day.

A waiver is one signed file in ``waivers/`` of the project folder. Content and signature are in
the same file, so that it can be committed, read and reviewed like any other. The gate uses it if
a trusted key signed it, it has not expired, and it is of this package (or of every one).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from visionloop.core.config import StrictModel
from visionloop.core.errors import DataError, InputError, PackageError
from visionloop.core.files import canonical_json, read_json, sha256_of_bytes, write_json
from visionloop.core.plugins import nearest_hint
from visionloop.core.workspace import Workspace
from visionloop.evaluation.gate_report import GATE_NAME, Check, UsedWaiver, Verdict
from visionloop.serving.package import load_package
from visionloop.serving.signing import sign_bytes, signing_key, verify_bytes

__all__ = ["FORGED", "Waiver", "apply_waivers", "earliest_end", "load_waivers", "waive"]

FOLDER = "waivers"
FORGED = "waivers"
"""Name of the check that refuses where a waiver is not genuine; it cannot be waived."""
LONGEST_DAYS = 365
SHORTEST_REASON = 10


class Waiver(StrictModel):
    """What is signed."""

    kind: Literal["visionloop waiver"] = "visionloop waiver"
    check: str = Field(description="name of the check as the gate prints it, or slice, champion")
    slice: str = Field(default="", description="column=value, for checks of one slice")
    reason: str = Field(min_length=SHORTEST_REASON, description="one sentence for a person")
    author: str = Field(min_length=1)
    package: str = Field(description="SHA-256 of the package it is for; empty: every package")
    made_at: str = Field(description="UTC, RFC 3339")
    expires_at: str = Field(description="UTC, RFC 3339")

    def fits(self, check: Check) -> bool:
        """Whether it is about this check."""
        is_named = self.check == check.name and self.slice in ("", check.slice)
        return is_named or (
            bool(check.slice) and (self.check, self.slice) == (check.question, check.slice)
        )


def waive(
    *,
    workspace: Workspace,
    check: str,
    reason: str,
    author: str,
    days: int,
    slice_name: str = "",
    every_package: bool = False,
) -> Path:
    """Write a signed waiver for the package at hand; the next ``gate`` uses it.

    Parameters
    ----------
    check : str
        Name as the gate prints it, or ``slice`` or ``champion`` with ``slice_name``.
    days : int
        Until it expires, 1 to 365.
    every_package : bool
        Also for packages to come, until it expires.

    Raises
    ------
    InputError
        If the reason is too short to be one, nobody signs for it, the days are out of
        range, the last gate report holds no such check, or there is no signing key.
    PackageError
        If there is no package.
    """
    key = signing_key()
    package = load_package(workspace.package).sha256
    problems = []
    if len(reason.strip()) < SHORTEST_REASON:
        problems.append(f"the reason has fewer than {SHORTEST_REASON} characters")
    if not author.strip():
        problems.append("nobody signs for it")
    if not 1 <= days <= LONGEST_DAYS:
        problems.append(f"it may last 1 to {LONGEST_DAYS} days, not {days}")
    if problems:
        raise InputError(f"waiver of '{check}'", problems, "visionloop evaluate waive --help")
    now = datetime.now(timezone.utc)
    waiver = Waiver(
        check=check,
        slice=slice_name,
        reason=reason.strip(),
        author=author.strip(),
        package="" if every_package else package,
        made_at=_text(now),
        expires_at=_text(now + timedelta(days=days)),
    )
    _refuse_unknown_check(workspace.reports / "gate" / GATE_NAME, waiver)
    content = waiver.model_dump(mode="json")
    name = re.sub(r"[^a-z0-9]+", "-", f"{check} {slice_name}".lower()).strip("-")
    digest = sha256_of_bytes(canonical_json(content))[:8]
    path = workspace.root / FOLDER / f"{name}-{digest}.json"
    signature = sign_bytes(canonical_json(content), key=key)
    return write_json(path, {"content": content, "signature": signature})


def load_waivers(
    workspace: Workspace, *, trusted_keys: Sequence[Path]
) -> tuple[dict[str, Waiver], list[str]]:
    """The genuine waivers by file name, and what is wrong with the others."""
    genuine: dict[str, Waiver] = {}
    problems: list[str] = []
    for path in sorted((workspace.root / FOLDER).glob("*.json")):
        try:
            genuine[path.name] = _read(path, trusted_keys)
        except (PackageError, DataError) as error:
            problems.append(f"{path.name}: {error.problems[0]}")
    return genuine, problems


def apply_waivers(
    checks: Sequence[Check],
    waivers: dict[str, Waiver],
    problems: Sequence[str],
    *,
    package: str,
    now: datetime,
) -> tuple[list[Check], list[UsedWaiver]]:
    """Turn refusals that somebody answers for into ``waived``, and say what became of each waiver.

    A file in ``waivers/`` that is not genuine refuses the package by a check of its own:
    somebody tried to get around the gate.
    """
    judged = list(checks)
    used = []
    for file, waiver in waivers.items():
        status: Literal["used", "not needed", "expired", "of another package"] = "not needed"
        if waiver.package not in ("", package):
            status = "of another package"
        elif now >= datetime.fromisoformat(waiver.expires_at):
            status = "expired"
        else:
            for place, check in enumerate(judged):
                if check.refuses and waiver.fits(check):
                    judged[place] = _waived(check, waiver)
                    status = "used"
        used.append(
            UsedWaiver(
                file=file,
                check=waiver.check,
                slice=waiver.slice,
                reason=waiver.reason,
                author=waiver.author,
                expires_at=waiver.expires_at,
                status=status,
            )
        )
    if problems:
        judged.append(Check(name=FORGED, verdict="refuse", why="; ".join(problems)))
    return judged, used


def earliest_end(used: Sequence[UsedWaiver], otherwise: datetime) -> datetime:
    """When the first used waiver expires, if that is before ``otherwise``."""
    ends = [datetime.fromisoformat(one.expires_at) for one in used if one.status == "used"]
    return min([otherwise, *ends])


def _waived(check: Check, waiver: Waiver) -> Check:
    verdict: Verdict = "waived"
    why = f"{check.why}; waived by {waiver.author} until {waiver.expires_at[:10]}: {waiver.reason}"
    return check.model_copy(update={"verdict": verdict, "why": why})


def _read(path: Path, keys: Sequence[Path]) -> Waiver:
    content = read_json(path)
    if not isinstance(content, dict) or set(content) != {"content", "signature"}:
        raise PackageError(str(path), "is not a signed waiver")
    signed = canonical_json(content["content"])
    verify_bytes(signed, str(content["signature"]), keys=keys, subject=str(path))
    try:
        waiver = Waiver.model_validate(content["content"])
        datetime.fromisoformat(waiver.expires_at)
    except (ValidationError, ValueError) as error:
        raise PackageError(str(path), f"cannot be read: {error}") from None
    return waiver


def _refuse_unknown_check(path: Path, waiver: Waiver) -> None:
    """A misspelt name would be a waiver that never helps."""
    if not path.is_file():
        return
    checks = [Check.model_validate(one) for one in read_json(path)["checks"]]
    if waiver.check == FORGED or not any(waiver.fits(one) for one in checks):
        names = [one.name for one in checks if one.name != FORGED]
        raise InputError(
            f"waiver of '{waiver.check}'{f' on {waiver.slice}' if waiver.slice else ''}",
            "the last gate report holds no such check that can be waived",
            nearest_hint(waiver.check, names),
        )


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
