"""What the agent and a decoding process say to each other, over one pipe."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visionloop.serving.edge.health.params import HealthParams
from visionloop.serving.edge_params import CameraParams, EvidenceParams, GateParams

__all__ = [
    "CameraState",
    "CameraStatus",
    "ClipDone",
    "ClipOrder",
    "Credit",
    "Follow",
    "Look",
    "Pace",
    "Status",
    "Stop",
    "Unwatch",
    "Watch",
]

CameraState = Literal["connecting", "idle", "active", "lost", "refused", "ended"]
"""lost: no pictures, tried again. refused: somebody must change something. ended: a file or
folder that was played to its end."""


@dataclass(frozen=True)
class Watch:
    """Agent: read this camera; or go on with other parameters.

    ``environment`` holds the variable with the camera's password, if it names one: processes
    are forked from one that was started earlier and may not know it. It is never shown.
    """

    camera: CameraParams
    gate: GateParams
    evidence: EvidenceParams
    site: str
    root: Path
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    health: HealthParams = field(default_factory=HealthParams)


@dataclass(frozen=True)
class Unwatch:
    """Agent: read this camera no more."""

    name: str


@dataclass(frozen=True)
class Credit:
    """Agent: so many more frames may be sent. Without credit none is: the newest waits."""

    frames: int


@dataclass(frozen=True)
class Follow:
    """Agent: something is there; look at every key frame until ``until`` (monotonic)."""

    name: str
    until: float


@dataclass(frozen=True)
class Pace:
    """Agent: analyse at this share of the active rate, in (0, 1]."""

    share: float


@dataclass(frozen=True)
class ClipOrder:
    """Agent: write the seconds around a moment (monotonic clock) into a file."""

    name: str
    path: Path
    moment: float


@dataclass(frozen=True)
class Stop:
    """Agent: end."""


@dataclass(frozen=True, eq=False)
class Look:
    """Process: a frame to analyse.

    Attributes
    ----------
    name : str
        The camera.
    image : uint8 array (H, W, 3), BGR
    captured_at : str
        UTC, RFC 3339.
    monotonic : float
        When it was decoded.
    reason : str
        ``motion``, ``full`` (a look whatever the gate says), ``follow`` or ``every``.
    encoded : bytes or None
        The file it came in, where there is one.
    """

    name: str
    image: NDArray[np.uint8]
    captured_at: str
    monotonic: float
    reason: str
    encoded: bytes | None = None


@dataclass(frozen=True)
class CameraStatus:
    """How a camera is doing; counts grow since its process began to read it.

    Attributes
    ----------
    state : CameraState
    beat : float
        Monotonic clock at its thread's last sign of life.
    last_frame : float
        Monotonic clock at its last decoded frame, 0 before the first.
    last_quiet : float
        Monotonic clock at the last frame on which the gate found nothing, 0 before the first.
    packets, decoded, offered, replaced, damaged, faults : int
        Received; decoded; given to the agent; replaced by a newer one before it was sent;
        not decodable; connections that broke.
    falls : int
        Connections that broke after they had given pictures, and processes that it ended.
    reason : str
        Of the last fault, without password.
    clip_bytes : int
        Memory that holds the seconds before.
    health : dict or None
        Conditions of its picture that are raised, with reasons; None before it was looked at.
    """

    state: CameraState = "connecting"
    beat: float = 0.0
    last_frame: float = 0.0
    last_quiet: float = 0.0
    packets: int = 0
    decoded: int = 0
    offered: int = 0
    replaced: int = 0
    damaged: int = 0
    faults: int = 0
    falls: int = 0
    reason: str = ""
    clip_bytes: int = 0
    health: dict[str, str] | None = None


@dataclass(frozen=True)
class Status:
    """Process: all its cameras, once a second; its sign of life."""

    cameras: dict[str, CameraStatus] = field(default_factory=dict)


@dataclass(frozen=True)
class ClipDone:
    """Process: a clip was written, or why not."""

    name: str
    path: Path
    problem: str = ""
