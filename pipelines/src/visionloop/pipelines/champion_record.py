"""The last verified champion, on disk: MLflow forgets what an alias named before."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from visionloop.core.errors import DataError
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace

__all__ = ["ChampionRecord", "load_record", "save_record"]


@dataclass(frozen=True)
class ChampionRecord:
    """What was released last.

    Attributes
    ----------
    version : str
        MLflow version.
    package_sha256 : str
    release : int
    """

    version: str
    package_sha256: str
    release: int


def load_record(workspace: Workspace, model: str) -> ChampionRecord | None:
    """The record of a model; None where there is none or it cannot be read.

    A damaged record costs one more verification: the signed index still tells what is out.
    """
    path = _path(workspace, model)
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        return ChampionRecord(
            str(content["version"]), str(content["package_sha256"]), int(content["release"])
        )
    except (DataError, KeyError, TypeError, ValueError):
        return None


def save_record(workspace: Workspace, model: str, record: ChampionRecord) -> None:
    """Write the record durably."""
    write_json(_path(workspace, model), asdict(record))


def _path(workspace: Workspace, model: str) -> Path:
    return workspace.releases / f".champion-{model}.json"
