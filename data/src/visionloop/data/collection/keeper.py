"""Decides about each frame, and keeps what is worth it: file, journal, then table.

A kept frame is first a file named by its content, then one commit of the journal; only the
commit counts. Killed anywhere, the next run finds each kept sample once.
"""

from __future__ import annotations

import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from visionloop.core.entities import Frame
from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.workspace import Workspace
from visionloop.data.collection.cameras import Camera
from visionloop.data.collection.diversity import KeptPictures, Look
from visionloop.data.collection.exposure import read_exposure
from visionloop.data.collection.journal import Entry, Journal
from visionloop.data.collection.lens import judge_lens
from visionloop.data.collection.params import CollectionParams
from visionloop.data.collection.prepare import Image, Preparation
from visionloop.data.collection.schedule import day_of
from visionloop.data.collection.storage import Storage, is_full
from visionloop.data.datasets.imports import take_in
from visionloop.data.datasets.table import RawSample
from visionloop.data.raw import RawStore
from visionloop.data.splits.near_duplicates import hash_image

if TYPE_CHECKING:
    from visionloop.serving.predictor import Predictor

__all__ = ["Keeper", "Outcome"]

PHASE = "collected"

Outcome = Literal["kept", "similar", "known", "over_quota"]


class Keeper:
    """Keeps frames of all cameras; ``take`` may be called from a thread for each camera.

    Parameters
    ----------
    workspace : Workspace
    cameras : list of Camera
    params : CollectionParams
    classes : list of str
        Of the project, for ``annotations.json``.

    Raises
    ------
    ConfigError, DataError, PackageError
        See :class:`~visionloop.data.collection.prepare.Preparation`; also if
        ``artifacts/backbone`` cannot be trusted.
    """

    def __init__(
        self,
        workspace: Workspace,
        cameras: list[Camera],
        params: CollectionParams,
        classes: list[str],
    ) -> None:
        self._workspace, self._params, self._classes = workspace, params, classes
        self._preparations = {one.id: Preparation(one, workspace) for one in cameras}
        self._backbone = _load_backbone(workspace, cameras)
        self._package = self._backbone.package.sha256 if self._backbone else ""
        self.journal = Journal(workspace)
        self._storage = Storage(workspace.images, params.minimum_free_mb)
        self._known = RawStore.load(workspace).known
        self._kept = {one.id: self._remember(one.id) for one in cameras}
        self._waiting_since: float | None = None
        self._waiting = 0

    def quota_left(self, camera: Camera, moment: datetime) -> int | None:
        """How many samples the camera may still give on this day; None is any number."""
        if camera.quota is None:
            return None
        day = day_of(camera.schedule, moment)
        return max(0, camera.quota - self.journal.kept_on(camera.id, day))

    def take(self, frame: Frame, camera: Camera, collected_by: str) -> Outcome:
        """Keep a frame, or say why not.

        Parameters
        ----------
        frame : Frame
        camera : Camera
        collected_by : str
            ``schedule``, ``burst`` or ``once``.

        Raises
        ------
        NoSpaceError
            If the disk is full; nothing of the frame is left behind.
        DataError
            If the frame does not fit the camera's calibration.
        """
        moment = datetime.fromisoformat(frame.captured_at.replace("Z", "+00:00"))
        if self.quota_left(camera, moment) == 0:
            return "over_quota"
        image = self._preparations[camera.id].straighten(frame.image)
        look = self._look_at(image, camera)
        if look is None:
            return "similar"
        sample = self._make_sample(frame, image, camera, collected_by)
        if sample.sample_id in self._known or self.journal.holds(sample.sample_id):
            return "known"
        self._storage.check()
        is_new = self._store(sample, look, day_of(camera.schedule, moment))
        if is_new:
            self._kept[camera.id].add(look)
            self._storage.worked()
        return "kept" if is_new else "known"

    def merge_if_due(self, *, now: bool = False) -> int:
        """Write what waits in the journal into the table, if it is enough or old enough.

        Returns
        -------
        int
            Samples that are new in the table. A full disk is told and tried again later.
        """
        if not now and not self._is_merge_due():
            return 0
        self._waiting, self._waiting_since = 0, None  # before reading: what comes now waits anew
        rows = self.journal.waiting()
        if not rows:
            return 0
        try:
            return self._merge(rows)
        except (OSError, sqlite3.Error) as error:
            if not is_full(error):
                raise
            self._storage.failed(f"the table of samples waits: {error}")
            self._note_waiting(len(rows))
            return 0

    def close(self) -> None:
        """Write what waits and close the journal."""
        try:
            self.merge_if_due(now=True)
            for camera in self._kept:
                self.journal.forget_looks(camera, self._params.compared)
        except sqlite3.Error as error:
            if not is_full(error):
                raise
        finally:
            self.journal.close()

    def _remember(self, camera: str) -> KeptPictures:
        kept = KeptPictures(self._params.compared)
        for look in self.journal.looks(camera, self._package, self._params.compared):
            kept.add(look)
        return kept

    def _look_at(self, image: Image, camera: Camera) -> Look | None:
        """What the frame is compared by, or None if it is too similar to a kept one."""
        kept = self._kept[camera.id]
        look = Look(hash_image(image))
        if kept.resembles(look, camera.diversity):
            return None
        if self._backbone is None or camera.diversity.embedding_distance is None:
            return look
        look = Look(look.hash, self._backbone.embed([image])[0])
        return None if kept.resembles(look, camera.diversity) else look

    def _make_sample(
        self, frame: Frame, image: Image, camera: Camera, collected_by: str
    ) -> RawSample:
        from visionloop.serving.edge.record.pictures import encode_jpeg

        preparation = self._preparations[camera.id]
        final, done = preparation.redact(image)
        content = None if preparation.changes_pictures else frame.encoded
        if content is None:
            content = encode_jpeg(final, quality=self._params.jpeg_quality)
        columns = {
            **frame.attributes,
            **read_exposure(frame.encoded),
            "sequence": frame.sequence,
            "collected_by": collected_by,
            "lens_state": judge_lens(final, self._params.lens),
            **done,
        }
        return RawSample(
            content=content,
            suffix="png" if content.startswith(b"\x89PNG") else "jpg",
            camera=frame.camera,
            site=frame.site,
            captured_at=frame.captured_at,
            attributes=columns,
            phase=PHASE,
        )

    def _store(self, sample: RawSample, look: Look, day: str) -> bool:
        path = self._workspace.images / f"{sample.sample_id}.{sample.suffix}"
        was_there = path.exists()
        try:
            row, problem = take_in(sample, self._workspace.images)
            if problem:
                raise DataError(f"camera '{sample.camera}'", problem)
            failpoint("collect.image_written")
            is_new = self.journal.add(Entry(row, day, look, self._package))
        except (OSError, sqlite3.Error) as error:
            if not was_there:
                _remove(path)
            if is_full(error):
                raise self._storage.failed(str(error)) from None
            raise
        failpoint("collect.committed")
        self._note_waiting(1)
        return is_new

    def _note_waiting(self, count: int) -> None:
        self._waiting += count
        self._waiting_since = self._waiting_since or time.monotonic()

    def _is_merge_due(self) -> bool:
        if self._waiting_since is None:
            return False
        is_old = time.monotonic() - self._waiting_since >= self._params.save_seconds
        return is_old or self._waiting >= self._params.save_every

    def _merge(self, waiting: list[tuple[int, dict[str, Any]]]) -> int:
        store = RawStore.load(self._workspace)
        rows = [row for _, row in waiting if row["sample_id"] not in store.known]
        failpoint("collect.before_merge")
        if rows:
            store.save(rows, [], self._classes)
        failpoint("collect.before_mark")
        self.journal.mark_merged([number for number, _ in waiting])
        self._known = store.known | {row["sample_id"] for _, row in waiting}
        return len(rows)


def _load_backbone(workspace: Workspace, cameras: list[Camera]) -> Predictor | None:
    from visionloop.serving.package import load_package
    from visionloop.serving.predictor import Predictor

    is_wanted = any(camera.diversity.embedding_distance is not None for camera in cameras)
    if not is_wanted or not workspace.backbone.exists():
        return None
    return Predictor(load_package(workspace.backbone), threads=1)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # a disk that refuses even this: an image without a row counts nothing
        return
