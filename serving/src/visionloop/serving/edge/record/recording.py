"""What becomes durable of a frame: its record, its events and their pictures, in one commit."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionloop.core.entities import Detections, Frame, Prediction
from visionloop.core.failpoints import failpoint
from visionloop.core.files import sha256_of_bytes, write_bytes
from visionloop.core.image_statistics import measure_image
from visionloop.serving.edge.delivery.guarded_outbox import GuardedOutbox
from visionloop.serving.edge.delivery.outbox import Outbox
from visionloop.serving.edge.record.gallery import small_jpeg
from visionloop.serving.edge.record.pictures import draw_observation, encode_jpeg
from visionloop.serving.edge.record.records import add_frame, drop_oldest_frames, next_sequence
from visionloop.serving.edge.rules.table import Observation, Rule

__all__ = ["Recorder", "is_drawn"]

Events = Sequence[tuple[Rule, Observation]]
PRUNE_EVERY = 1000
PICTURE_PRIORITY = 8


class Recorder:
    """Writes frames and events of all sources and cameras of a device.

    Parameters
    ----------
    folder : Path
        ``frames/``, ``events/`` and ``clips/`` are below it.
    outbox : GuardedOutbox
    sends_pictures : bool
        A small picture follows each event through the outbox; somebody must want it.
    """

    def __init__(
        self, folder: Path, outbox: GuardedOutbox, *, sends_pictures: bool = False
    ) -> None:
        self.folder, self._outbox = folder, outbox
        self.sends_pictures = sends_pictures
        self._since_pruned = 0

    def take(
        self,
        frame: Frame,
        prediction: Prediction,
        events: Events,
        *,
        source: str,
        package: str,
        classes: Sequence[str],
        keep_share: float,
        has_clip: bool = False,
        facts: dict[str, Any] | None = None,
    ) -> tuple[int, bool]:
        """Record a frame and its events; returns the number of events and whether it was kept.

        A frame that is there already (after a kill) changes nothing.

        Parameters
        ----------
        frame : Frame
        prediction : Prediction
        events : sequence of (Rule, Observation)
        source : str
            Under which its frames are counted.
        package : str
            SHA-256 of the package that answered.
        classes : sequence of str
        keep_share : float
            Share of the frames that is kept as files.
        has_clip : bool
            Whether events name a clip, ``clips/<the picture's name>.mp4``, that follows.
        facts : dict or None
            Added to the payload of each event.
        """
        is_kept = is_drawn(source, frame.sequence, keep_share)
        content = frame.encoded
        if content is None and is_kept:
            content = encode_jpeg(frame.image, quality=95)
        sample_id = sha256_of_bytes(content if content is not None else frame.image.tobytes())
        image = self._keep(sample_id, content) if is_kept and content is not None else None
        names = _names(frame, source, events)
        pictures = [
            self._draw(name, frame, found, classes)
            for name, (_, found) in zip(names, events, strict=True)
        ]

        def write(connection: sqlite3.Connection, outbox: Outbox) -> bool:
            is_new = add_frame(
                connection,
                frame,
                prediction,
                source=source,
                sample_id=sample_id,
                package=package,
                statistics=measure_image(frame.image).as_row(),
                image=image,
            )
            if is_new:
                for name, (rule, found), jpeg in zip(names, events, pictures, strict=True):
                    payload = _payload(frame, sample_id, package, rule, found, classes)
                    payload |= {"picture": f"events/{name}.jpg", **(facts or {})}
                    if has_clip:
                        payload["clip"] = f"clips/{name}.mp4"
                    _append(outbox, rule, frame.captured_at, payload, jpeg)
            failpoint("agent.before_commit")
            return is_new

        is_new = self._outbox.commit(write)
        failpoint("agent.after_commit")
        return (len(events), is_kept) if is_new else (0, False)

    def prune(self, max_records: int) -> None:
        """Now and then, drop the oldest records beyond so many, and the files kept for them."""
        self._since_pruned += 1
        if self._since_pruned < PRUNE_EVERY:
            return
        self._since_pruned = 0
        gone = self._outbox.commit(
            lambda connection, _: drop_oldest_frames(connection, max_records)
        )
        for name in gone:
            with suppress(OSError):  # read-only
                (self.folder / name).unlink(missing_ok=True)

    def next_sequence(self, source: str) -> int:
        """The number with which the frames of a source go on."""
        return self._outbox.read(lambda connection: next_sequence(connection, source))

    def clip_paths(self, frame: Frame, source: str, events: Events) -> list[Path]:
        """Where the clips of a frame's events belong."""
        return [self.folder / "clips" / f"{name}.mp4" for name in _names(frame, source, events)]

    def _draw(self, name: str, frame: Frame, found: Observation, classes: Sequence[str]) -> bytes:
        """Keep the picture of an event; returns the small one that is sent, or nothing."""
        drawn = draw_observation(frame.image, found, classes)
        with suppress(OSError):  # a full disk takes the picture, not the event
            write_bytes(self.folder / "events" / f"{name}.jpg", encode_jpeg(drawn))
        return small_jpeg(drawn) if self.sends_pictures else b""

    def _keep(self, sample_id: str, content: bytes) -> str | None:
        suffix = ".png" if content.startswith(b"\x89PNG") else ".jpg"
        name = f"frames/{sample_id}{suffix}"
        if not (self.folder / name).is_file():
            try:
                write_bytes(self.folder / name, content)
            except OSError:  # a full disk
                return None
        return name


def _append(
    outbox: Outbox, rule: Rule, created_at: str, payload: dict[str, Any], jpeg: bytes
) -> None:
    """An event, and its small picture as another one that may leave later."""
    event_id = outbox.append(
        kind=rule.params.kind,
        priority=rule.params.priority,
        created_at=created_at,
        payload=payload,
    )
    if jpeg:
        picture = {"event_id": event_id, "jpeg": base64.b64encode(jpeg).decode()}
        outbox.append(
            kind="picture", priority=PICTURE_PRIORITY, created_at=created_at, payload=picture
        )


def is_drawn(source: str, sequence: int, share: float) -> bool:
    """Draw a share of the frames, the same ones whenever this source is played again."""
    digest = sha256_of_bytes(f"{source}:{sequence}".encode())
    return int(digest[:8], 16) < share * 2**32


def _names(frame: Frame, source: str, events: Events) -> list[str]:
    """File names of events, without suffix. They follow from the frame: a repeat replaces."""
    names: list[str] = []
    for rule, _ in events:
        name = f"{source}-{frame.sequence:08d}-{rule.params.name}"
        count = sum(one == name or one.startswith(f"{name}.") for one in names)
        names.append(f"{name}.{count + 1}" if count else name)
    return names


def _payload(
    frame: Frame,
    sample_id: str,
    package: str,
    rule: Rule,
    found: Observation,
    classes: Sequence[str],
) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "rule": rule.params.name,
        "camera": frame.camera,
        "site": frame.site,
        "sequence": frame.sequence,
        "captured_at": frame.captured_at,
        "sample_id": sample_id,
        "package": package,
        "class_name": found.class_name,
        "confidence": found.confidence,
        "boxes": None if found.detections is None else _box_rows(found.detections, classes),
        "attributes": frame.attributes,
    }
    if found.facts:
        payload["facts"] = found.facts
    if rule.params.zone:
        payload["zone"] = rule.params.zone
    return payload


def _box_rows(boxes: Detections, classes: Sequence[str]) -> list[dict[str, Any]]:
    rows = zip(boxes.xyxy.tolist(), boxes.class_id.tolist(), boxes.confidence.tolist(), strict=True)
    return [
        {"xyxy": xyxy, "class_name": classes[class_id], "confidence": confidence}
        for xyxy, class_id, confidence in rows
    ]
