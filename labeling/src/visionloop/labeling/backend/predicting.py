"""Drafts for the tasks of one request: an image that fails costs its own draft alone."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling.drafts import Drafter
from visionloop.labeling.tasks import build_prediction

__all__ = ["Drafting"]

REQUEST_SECONDS = 80.0
"""Label Studio waits 100 s."""

log = logging.getLogger(__name__)
Task = Mapping[str, Any]
Answer = dict[str, Any]


class Drafting:
    """Finds the image of a task in the workspace and lets a drafter look at it.

    Parameters
    ----------
    workspace : Workspace
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._samples: dict[str, Mapping[str, Any]] = {}
        self._names: dict[str, str] = {}
        self._stamp: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def draft(self, tasks: Sequence[Task], drafter: Drafter) -> list[Answer | None]:
        """A prediction for each task; None where there is none, with the reason in the log.

        None is for: control tasks, which are shown without a draft on purpose; second looks,
        reviews and adjudications, which bring their own or must be independent; images that
        are gone, damaged, or fail the model; tasks that the time did not suffice for.
        """
        until = time.monotonic() + REQUEST_SECONDS
        samples = self._read_samples()
        answers: list[Answer | None] = []
        for task in tasks:
            if time.monotonic() > until:
                log.warning("no draft for task %s: the request took too long", task.get("id"))
                answers.append(None)
                continue
            answers.append(self._draft_one(task, samples, drafter))
        return answers

    def _draft_one(
        self, task: Task, samples: Mapping[str, Mapping[str, Any]], drafter: Drafter
    ) -> Answer | None:
        try:
            data = task["data"]
            if data.get("control") == "yes" or (data.get("look") or "first") != "first":
                return None
            row = samples[self._sample_of(data)]
            draft = drafter.draft([self._image_of(row)])[0]
            return build_prediction(draft, int(row["width"]), int(row["height"]))
        except VisionloopError as error:
            reason = " ".join(str(error).split())
        except Exception as error:  # whatever a library raises on one image
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        log.warning("no draft for task %s: %s", task.get("id"), reason)
        return None

    def _sample_of(self, data: Mapping[str, Any]) -> str:
        """The sample that a task names by its id, or by its picture's address."""
        sample_id = str(data.get("sample_id") or "")
        if not sample_id:
            address = parse_qs(urlsplit(str(data.get("image", ""))).query)
            name = address.get("d", [""])[0].removeprefix("images/")
            sample_id = self._names.get(name, "")
        if sample_id not in self._samples:
            raise DataError("the task", "names no sample of data/raw")
        return sample_id

    def _image_of(self, row: Mapping[str, Any]) -> Path:
        """The sample's file; what lies outside the image folder is refused."""
        folder = self._workspace.images.resolve()
        path = (folder / str(row["file_name"])).resolve()
        if not path.is_relative_to(folder):
            raise DataError(f"sample {row['sample_id'][:12]}", "its file is not in data/raw/images")
        if not path.is_file():
            raise DataError(f"sample {row['sample_id'][:12]}", "its image is gone")
        return path

    def _read_samples(self) -> Mapping[str, Mapping[str, Any]]:
        """The samples table, read again when it changed."""
        from visionloop.data.raw import read_samples

        found = (self._workspace.raw / "samples.parquet").stat()
        stamp = (found.st_mtime_ns, found.st_size)
        with self._lock:
            if stamp != self._stamp:
                frame = read_samples(self._workspace)
                columns = ["sample_id", "file_name", "width", "height"]
                rows = frame[columns].to_dict("records")
                self._samples = {str(row["sample_id"]): row for row in rows}
                self._names = {str(row["file_name"]): str(row["sample_id"]) for row in rows}
                self._stamp = stamp
            return self._samples
