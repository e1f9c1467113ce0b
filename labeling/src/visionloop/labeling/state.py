"""What labeling keeps in ``studio/``: credentials, the server's address, locks."""

from __future__ import annotations

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from visionloop.core.errors import VisionloopError
from visionloop.core.files import read_json, write_json
from visionloop.core.workspace import Workspace

__all__ = [
    "PATIENCE_SECONDS",
    "Credentials",
    "ServerAddress",
    "credentials",
    "forget_address",
    "only_one",
    "read_address",
    "save_address",
    "save_token",
    "state_folder",
]

EMAIL = "annotator@visionloop.local"

PATIENCE_SECONDS = 300.0
"""So long a pull or push waits for another one."""


@dataclass(frozen=True)
class Credentials:
    """The account that ``visionloop up`` makes; the token is empty until the first start."""

    email: str
    password: str
    token: str = ""

    def __repr__(self) -> str:
        return f"Credentials(email={self.email!r})"


@dataclass(frozen=True)
class ServerAddress:
    """A Label Studio server that was started here.

    Attributes
    ----------
    pid : int
    started : str
        When the kernel started that process: tells it from a later one of the same id.
    port : int
    url : str
    """

    pid: int
    started: str
    port: int
    url: str


def credentials(workspace: Workspace) -> Credentials:
    """The stored account, made with a random password the first time (mode 0600).

    Raises
    ------
    VisionloopError
        If Label Studio's data are there but their credentials are gone.
    """
    path = state_folder(workspace) / "credentials.json"
    if path.exists():
        return Credentials(**read_json(path))
    if (workspace.studio_state / "server" / "label_studio.sqlite3").exists():
        raise VisionloopError(
            str(path),
            "is missing, and Label Studio's data beside it know another password",
            "put the file back, or move the folder 'studio' away to begin anew",
        )
    made = Credentials(EMAIL, secrets.token_urlsafe(18))
    write_json(path, asdict(made), mode=0o600)
    return made


def save_token(workspace: Workspace, token: str) -> Credentials:
    """Keep the personal access token beside the password (mode 0600)."""
    kept = replace(credentials(workspace), token=token)
    write_json(state_folder(workspace) / "credentials.json", asdict(kept), mode=0o600)
    return kept


def read_address(workspace: Workspace) -> ServerAddress | None:
    """The server started last, whether it still runs or not; None if none ever was."""
    path = workspace.studio_state / "server.json"
    return ServerAddress(**read_json(path)) if path.exists() else None


def save_address(workspace: Workspace, address: ServerAddress) -> None:
    """Remember a started server."""
    write_json(state_folder(workspace) / "server.json", asdict(address))


def forget_address(workspace: Workspace) -> None:
    """Forget a stopped server."""
    (workspace.studio_state / "server.json").unlink(missing_ok=True)


@contextmanager
def only_one(workspace: Workspace, what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Refuse to run twice at once in one workspace.

    Parameters
    ----------
    workspace : Workspace
    what : str
    wait : float
        Seconds to wait for another process to end before refusing: the ML backend pulls and
        pushes when it likes.

    Raises
    ------
    VisionloopError
        If another process is inside the same block.
    """
    path = state_folder(workspace) / f"{what}.lock"
    until = time.monotonic() + wait
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= until:
                    raise VisionloopError(
                        str(workspace.studio_state),
                        f"another '{what}' is running here",
                        "wait for its end",
                    ) from None
                time.sleep(0.2)
        yield


def state_folder(workspace: Workspace) -> Path:
    """The state folder, made if needed; closed to other users."""
    folder = workspace.studio_state
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    return folder
