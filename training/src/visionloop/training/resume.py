"""The resume point: what an interrupted training goes on from.

Every epoch writes its files first and ``state.json`` last, so a process that is killed
at any moment leaves the state of a whole epoch. A resume point belongs to one set of
inputs (parameters, dataset fingerprint, weights): other inputs start anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.failpoints import failpoint
from visionloop.core.files import read_json, write_bytes, write_json
from visionloop.core.workspace import Workspace

__all__ = ["EpochRow", "ResumePoint", "open_resume_point", "read_resume_point"]

EpochRow = dict[str, float]
"""``epoch`` (1 is the first) and the metrics of that epoch."""

STATE_NAME = "state.json"


@dataclass(eq=False)
class ResumePoint:
    """State of a training between two epochs.

    Attributes
    ----------
    folder : Path
    key : str
        Fingerprint of the inputs.
    run_id : str
        MLflow run that the training belongs to, empty if it has none yet.
    history : list of EpochRow
        One row a finished epoch.
    files : dict of str to str
        Role ("last", "best") to file name.
    """

    folder: Path
    key: str
    run_id: str = ""
    history: list[EpochRow] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """Number of finished epochs."""
        return len(self.history)

    def path(self, role: str) -> Path:
        """The file of a role, as of the last finished epoch.

        Raises
        ------
        KeyError
            If no epoch has written it.
        """
        return self.folder / self.files[role]

    def save_epoch(self, row: EpochRow, files: dict[str, bytes]) -> None:
        """Make one more epoch durable; roles that are not given keep their file.

        Parameters
        ----------
        row : EpochRow
        files : dict of str to bytes
            Content by role.
        """
        history = [*self.history, row]
        names = dict(self.files)
        for role, content in files.items():
            names[role] = f"{role}-{len(history):05d}.bin"
            write_bytes(self.folder / names[role], content)
        self.history, self.files = history, names
        self._write()
        for path in self.folder.glob("*.bin"):
            if path.name not in names.values():
                path.unlink()
        failpoint("training.epoch")

    def remember_run(self, run_id: str) -> None:
        """Record the MLflow run before the first epoch."""
        self.run_id = run_id
        self._write()

    def clear(self) -> None:
        """Remove everything: the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self) -> None:
        content = {
            "key": self.key,
            "run_id": self.run_id,
            "history": self.history,
            "files": self.files,
        }
        write_json(self.folder / STATE_NAME, content)


def open_resume_point(workspace: Workspace, key: str) -> ResumePoint:
    """The resume point of these inputs, or an empty one.

    It lies in ``artifacts/training_state``, outside the folders that DVC empties before
    a stage runs.
    """
    folder = workspace.own / "artifacts" / "training_state"
    point = read_resume_point(folder, key)
    if not point.run_id and not point.history:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return point


def read_resume_point(folder: Path, key: str) -> ResumePoint:
    """The resume point of these inputs in a folder, or an empty one; nothing is changed."""
    try:
        state = read_json(folder / STATE_NAME)
        point = ResumePoint(folder, key, state["run_id"], state["history"], state["files"])
        if state["key"] == key and all((folder / name).is_file() for name in point.files.values()):
            return point
    except (DataError, KeyError, TypeError):
        pass  # nothing here, or not ours: begin anew
    return ResumePoint(folder, key)
