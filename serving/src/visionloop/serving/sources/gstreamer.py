"""Cameras through a GStreamer pipeline: the way to a Jetson's hardware decoder.

The pipeline is what gst-launch takes, up to raw video, for example ``rtspsrc
location=rtsp://{user}:{password}@10.0.0.5/1 protocols=tcp latency=100 ! rtph264depay !
h264parse ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=I420``.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import numpy as np

from visionloop.core.errors import ConfigError
from visionloop.core.privacy import mask_secrets
from visionloop.serving.source_params import SourceParams
from visionloop.serving.sources.address import CameraAddress
from visionloop.serving.sources.backoff import CameraFaultError
from visionloop.serving.sources.live import OPEN_TIMEOUT_S, READ_TIMEOUT_S, LiveSource, Picture

__all__ = ["GstreamerSource", "PipelineText"]

PLAYER = Path(__file__).with_name("gstreamer_player.py")
PYTHON_ENV = "VISIONLOOP_GSTREAMER_PYTHON"
"""Names the Python that has GStreamer's bindings; /usr/bin/python3 where it is not set."""


class PipelineText(CameraAddress):
    """A pipeline in the place of an address; ``{user}`` and ``{password}`` are filled in."""

    def __init__(self, params: SourceParams, *, root: Path, subject: str) -> None:
        self._params, self._root, self._subject = params, root, subject
        self.shown = mask_secrets(params.path)
        if params.credentials is not None and "{password}" not in params.path:
            raise ConfigError(subject, "its pipeline has no {password}", "write it into it")
        self.credentials()

    def credentials(self) -> tuple[str, str]:
        """User and password; empty where the configuration names none."""
        return ("", "") if self._params.credentials is None else super().credentials()

    def full(self) -> str:
        """The pipeline with user and password, percent-encoded: for GStreamer, not for people."""
        user, password = (quote(part, safe="") for part in self.credentials())
        return self._params.path.replace("{user}", user).replace("{password}", password)


class GstreamerSource(LiveSource):
    """Watches what a pipeline gives; see :class:`~visionloop.serving.sources.live.LiveSource`.

    GStreamer runs in a process of its own, which is ended where it gives no picture in time.
    """

    def _make_address(self, params: SourceParams, root: Path) -> CameraAddress:
        return PipelineText(params, root=root, subject=self._subject)

    def _connect(self) -> Iterator[Picture]:
        import av

        python = os.environ.get(PYTHON_ENV, "/usr/bin/python3")
        try:
            player = subprocess.Popen(
                [python, str(PLAYER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise self._refusal(f"{python} cannot be started: {error.strerror}") from None
        assert player.stdin and player.stdout
        try:
            player.stdin.write(self._address.full().encode())
            player.stdin.close()
            reader = _TimedReader(player.stdout)
            with av.open(reader, format="yuv4mpegpipe", mode="r") as container:
                for picture in container.decode(video=0):
                    reader.limit_s = READ_TIMEOUT_S
                    if self.pace.is_due():
                        yield np.asarray(picture.to_ndarray(format="bgr24"), np.uint8), None
                    if self._watcher.should_stop():
                        return
        except (OSError, av.FFmpegError, IndexError) as error:
            raise self._explain(player, error) from None
        finally:
            player.kill()
            player.wait()
            player.stdout.close()

    def _explain(self, player: subprocess.Popen[bytes], error: Exception) -> CameraFaultError:
        if isinstance(error, TimeoutError):
            return self._fault(str(error))
        try:
            player.wait(1)
        except subprocess.TimeoutExpired:
            player.kill()
        said = player.stderr.read().decode(errors="replace") if player.stderr else ""
        lines = [line for line in said.splitlines() if line.strip()]
        reason = lines[-1][:200] if lines else "the pipeline ended"
        if player.returncode == 2 or "No module named" in reason:
            return self._refusal(f"GStreamer: {reason}", "correct the pipeline")
        return self._fault(f"GStreamer: {reason}")


class _TimedReader:
    """A pipe that is read with a time limit: a pipeline that hangs must not hold us."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._descriptor = pipe.fileno()
        self.limit_s = 2 * OPEN_TIMEOUT_S

    def read(self, size: int) -> bytes:
        """At most so many bytes; empty at the end.

        Raises
        ------
        TimeoutError
            If nothing came within the limit.
        """
        end = time.monotonic() + self.limit_s
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(f"no picture for {self.limit_s:.0f} s")
        return os.read(self._descriptor, size)
