"""The gate's report: every check with value, limit, interval and verdict."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from visionloop.core.config import StrictModel

__all__ = ["GATE_NAME", "GATE_SIGNATURE", "Check", "GateReport", "UsedWaiver"]

GATE_NAME = "gate.json"
GATE_SIGNATURE = "gate.sig"

Verdict = Literal["pass", "refuse", "not enough data", "not trained for", "waived"]


class Check(StrictModel):
    """One question that the gate asked."""

    name: str
    question: str = Field(
        default="", description="what is asked, where the name says of which slice: slice, champion"
    )
    slice: str = Field(default="", description="column=value, where one slice is asked about")
    verdict: Verdict
    why: str = Field(description="one sentence for a person")
    value: float | None = None
    limit: float | None = None
    direction: Literal["at least", "at most", ""] = ""
    low: float | None = Field(default=None, description="lower end of the interval")
    high: float | None = Field(default=None, description="upper end of the interval")
    required: bool = Field(
        default=True, description="whether 'not enough data' refuses the package"
    )

    @property
    def refuses(self) -> bool:
        """Whether the package cannot pass because of this check."""
        return self.verdict == "refuse" or (self.required and self.verdict == "not enough data")

    @property
    def short(self) -> str:
        """A few characters for a tag: ``cell_type=poly .49 < .65``."""
        if self.value is None or self.limit is None:
            return f"{self.name}: {self.verdict}"
        is_below = self.direction == "at least"
        sign = ("<" if is_below else ">") if self.refuses else (">=" if is_below else "<=")
        return f"{self.name} {_brief(self.value)} {sign} {_brief(self.limit)}"


class UsedWaiver(StrictModel):
    """A waiver that was found beside the package, and what came of it."""

    file: str
    check: str
    slice: str
    reason: str
    author: str
    expires_at: str
    status: Literal["used", "not needed", "expired", "of another package"]


class GateReport(StrictModel):
    """The whole of ``gate.json``."""

    format_version: Literal[1] = 1
    verdict: Literal["passed", "refused"]
    reasons: list[str] = Field(description="why it was refused; empty when it passed")
    short_reason: str = Field(description="the first reason in a few characters")
    package_sha256: str = Field(description="of the package that was judged")
    package_name: str
    dataset_version: str
    dataset_fingerprint: str
    champion: str = Field(default="", description="MLflow version it was compared with, or empty")
    judged_at: str = Field(description="UTC, RFC 3339")
    expires_at: str = Field(
        default="", description="UTC, RFC 3339: nothing is released by the report from then on"
    )
    waivers: list[UsedWaiver] = Field(default_factory=list)
    checks: list[Check]
    targets: dict[str, Any] = Field(description="targets.yaml as it was judged by")


def _brief(value: float) -> str:
    """0.494 as .49, 31.2 as 31."""
    return f"{value:.2f}".lstrip("0") if 0 < abs(value) < 1 else f"{value:.3g}"
