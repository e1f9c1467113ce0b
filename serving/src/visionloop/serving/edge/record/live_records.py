"""Frames of cameras and their events on their way into the record, with picture and clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from visionloop.core.entities import Frame
from visionloop.core.progress import say_step
from visionloop.serving.edge.cameras.messages import ClipDone, Look
from visionloop.serving.edge.ladder import Ladder
from visionloop.serving.edge.live_counts import LiveCounts
from visionloop.serving.edge.record.recording import Recorder, is_drawn
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.edge.station import Seen
from visionloop.serving.edge_params import CameraParams

__all__ = ["LiveRecords"]


class LiveRecords:
    """Records what cameras showed.

    Parameters
    ----------
    recorder : Recorder
    settings : SettingsFile
    ladder : Ladder
        Says whether there are clips.
    counts : LiveCounts
        Counted up here: events, kept, clips.
    """

    def __init__(
        self, recorder: Recorder, settings: SettingsFile, ladder: Ladder, counts: LiveCounts
    ) -> None:
        self._recorder, self._settings = recorder, settings
        self._ladder, self._counts = ladder, counts
        self.sequences: dict[str, int] = {}

    def record(
        self,
        look: Look,
        camera: CameraParams,
        seen: Seen,
        *,
        package: str,
        classes: Sequence[str],
        order_clip: Callable[[str, Path, float], object],
    ) -> None:
        """A frame with its events; one without events only where it is drawn by lot.

        Parameters
        ----------
        look : Look
        camera : CameraParams
        seen : Seen
        package : str
            SHA-256 of the package that answered.
        classes : sequence of str
        order_clip : function (camera, path, monotonic)
            Asks the camera's process for a clip.
        """
        sequence = self._next_sequence(look.name)
        if not seen.events and not is_drawn(look.name, sequence, camera.keep_share):
            return
        params = self._settings.params
        frame = _frame(look, camera, params.site, sequence)
        has_clip = params.evidence.clips and bool(seen.events) and self._ladder.allows("clips")
        count, is_kept = self._recorder.take(
            frame,
            seen.prediction,
            seen.events,
            source=look.name,
            package=package,
            classes=classes,
            keep_share=camera.keep_share,
            has_clip=has_clip,
            facts={"light": seen.light},
        )
        self._counts.events += count
        self._counts.kept += is_kept
        if has_clip:
            for path in self._recorder.clip_paths(frame, look.name, seen.events):
                order_clip(look.name, path, look.monotonic)
        self._recorder.prune(params.max_records)

    def note_clip(self, done: ClipDone) -> None:
        """A clip was written, or not."""
        if done.problem:
            self._counts.clip_faults += 1
            say_step(f"edge: no clip {done.path.name}: {done.problem}")
        else:
            self._counts.clips += 1

    def _next_sequence(self, name: str) -> int:
        if name not in self.sequences:
            self.sequences[name] = self._recorder.next_sequence(name)
        sequence = self.sequences[name]
        self.sequences[name] += 1
        return sequence


def _frame(look: Look, camera: CameraParams, site: str, sequence: int) -> Frame:
    return Frame(
        image=look.image,
        camera=camera.camera or camera.name,
        site=site,
        sequence=sequence,
        captured_at=look.captured_at,
        monotonic=look.monotonic,
        attributes=dict(camera.attributes),
        encoded=look.encoded,
    )
