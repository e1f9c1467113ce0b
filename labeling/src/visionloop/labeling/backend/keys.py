"""The backend's keys and address, kept in ``studio/``."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass

from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace
from visionloop.labeling.processes import is_running
from visionloop.labeling.state import ServerAddress, state_folder

__all__ = [
    "SECRET_HEADER",
    "BackendKeys",
    "backend_keys",
    "forget_backend",
    "read_backend",
    "running_backend",
    "save_backend",
]

SECRET_HEADER = "X-Visionloop-Secret"
USER = "label-studio"


@dataclass(frozen=True)
class BackendKeys:
    """What Label Studio shows to the backend: a name and password, and a secret with hints."""

    user: str
    password: str
    secret: str

    def __repr__(self) -> str:
        return f"BackendKeys(user={self.user!r})"


def backend_keys(workspace: Workspace) -> BackendKeys:
    """The stored keys, made at random the first time (mode 0600)."""
    path = state_folder(workspace) / "backend-keys.json"
    if not path.exists():
        made = BackendKeys(USER, secrets.token_urlsafe(24), secrets.token_urlsafe(24))
        write_json(path, asdict(made), mode=0o600)
    return BackendKeys(**read_json(path))


def read_backend(workspace: Workspace) -> ServerAddress | None:
    """The backend started last, whether it still runs or not; None if none ever was."""
    path = workspace.studio_state / "backend.json"
    return ServerAddress(**read_json(path)) if path.exists() else None


def running_backend(workspace: Workspace) -> ServerAddress | None:
    """The backend that runs now, or None."""
    known = read_backend(workspace)
    return known if known is not None and is_running(known.pid, known.started) else None


def save_backend(workspace: Workspace, address: ServerAddress) -> None:
    """Remember a started backend."""
    write_json(state_folder(workspace) / "backend.json", asdict(address))


def forget_backend(workspace: Workspace) -> None:
    """Forget a stopped backend."""
    (workspace.studio_state / "backend.json").unlink(missing_ok=True)
