"""Laying artifacts out as a project folder for one verb, and taking its results back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visionloop.core.errors import DataError, VisionloopError
from visionloop.core.files import canonical_json, write_text
from visionloop.core.workspace import Workspace

__all__ = ["code_fingerprint", "keep", "pack_config", "stage_workspace"]


SIGNED = ("data/contract.yaml", "data/exclusions.json")
"""Further files of a project that steer verbs; they are small and may be missing."""


def pack_config(workspace: Workspace) -> str:
    """Parameters, targets, contract and our code's fingerprint as one pipeline argument.

    Kubeflow's cache key is made of arguments and input paths, not of the code in the
    image: with the code's fingerprint among the arguments, changed code runs again.
    """
    return canonical_json(
        {
            "params": workspace.params.read_text(),
            "targets": workspace.targets.read_text(),
            "signed": {
                name: (workspace.root / name).read_text()
                for name in SIGNED
                if (workspace.root / name).is_file()
            },
            "code": code_fingerprint(),
        }
    ).decode()


def code_fingerprint() -> str:
    """SHA-256 over every module of the installed package."""
    import visionloop

    digest = hashlib.sha256()
    for folder in sorted(visionloop.__path__):
        for path in sorted(Path(folder).rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@contextmanager
def stage_workspace(config: str, files: dict[str, str]) -> Iterator[Workspace]:
    """A temporary project folder.

    Parameters
    ----------
    config : str
        From :func:`pack_config`.
    files : dict
        Place in the project folder -> path of an input artifact (file or folder);
        samples and reports are linked, because a verb writes only what it declares.

    Raises
    ------
    VisionloopError
        Whatever the verb raises, after its one-screen text was written beside the
        logs: Kubeflow itself names only the component that failed.
    """
    content = json.loads(config)
    with tempfile.TemporaryDirectory(prefix="visionloop-") as root:
        workspace = Workspace(Path(root))
        try:
            write_text(workspace.params, content["params"])
            write_text(workspace.targets, content["targets"])
            for name, text in content["signed"].items():
                write_text(workspace.root / name, text)
            for place, source in files.items():
                _lay_out(Path(source), workspace.root / place)
            yield workspace
        except VisionloopError as error:
            reason_file = os.environ.get("VISIONLOOP_REASON_FILE")
            if reason_file:
                write_text(Path(reason_file), str(error))
            raise


def _lay_out(source: Path, target: Path) -> None:
    """Link an artifact to its place; models are copied, since a signature refuses links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        raise DataError(target.name, f"input artifact {source} does not exist")
    if target.parent.name == "artifacts":
        shutil.copytree(source, target)
    else:
        target.symlink_to(source.resolve())


def keep(made: Path, output: str) -> None:
    """Copy what a verb made into an output artifact."""
    target = Path(output)
    target.parent.mkdir(parents=True, exist_ok=True)
    if made.is_dir():
        shutil.copytree(made, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(made, target)
