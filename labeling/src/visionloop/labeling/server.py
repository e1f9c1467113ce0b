"""Label Studio as a server of its own: started in the background, stopped by id.

A first start takes 36 to 46 s (it makes its database), a later one about 10 s, so
:func:`start` returns at once and :func:`wait_ready` waits when the server is needed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from visionloop.core.errors import InputError, VisionloopError
from visionloop.core.privacy import QUIET_ENVIRONMENT, mask_secrets
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.labeling.environment import ensure_label_studio
from visionloop.labeling.params import load_params
from visionloop.labeling.processes import (
    free_port,
    is_port_free,
    is_running,
    start_time,
    stop_process,
)
from visionloop.labeling.state import (
    Credentials,
    ServerAddress,
    credentials,
    forget_address,
    only_one,
    read_address,
    save_address,
)

__all__ = [
    "ServerStatus",
    "address",
    "login_hint",
    "running_server",
    "start",
    "status",
    "stop",
    "wait_ready",
]

START_SECONDS = 300.0
WEBHOOK_SECONDS = "0.2"
"""Label Studio waits for the receiver of a webhook while the annotator waits; ours answers in
milliseconds, and a hint that is lost is made good by the next pull."""

PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
"""Variables the server gets from our environment; nothing else, so no key and no
setting of another Label Studio reaches it."""


@dataclass(frozen=True)
class ServerStatus:
    """Whether this workspace's Label Studio runs and answers."""

    address: ServerAddress | None
    runs: bool
    ready: bool

    @property
    def url(self) -> str:
        """Where to open it; empty if it does not run."""
        return self.address.url if self.address and self.runs else ""


def start(workspace: Workspace, *, port: int | None = None) -> ServerAddress:
    """Start Label Studio in the background, or find it running.

    Installs it first where it is missing. Returns without waiting: call
    :func:`wait_ready` before using it.

    Parameters
    ----------
    workspace : Workspace
    port : int or None
        None takes ``labeling.port`` of ``params.yaml``; 0 takes any free port.

    Raises
    ------
    InputError
        If the port is in use, or Label Studio is not installed and cannot be.
    """
    with only_one(workspace, "start"):
        before = status(workspace)
        if before.address is not None and before.runs:
            return before.address
        wanted = load_params(workspace)[1].port if port is None else port
        if wanted and not is_port_free(wanted):
            raise InputError(
                f"port {wanted}",
                "is in use, so Label Studio cannot listen there",
                "stop what listens there, or set labeling.port in params.yaml (0 takes any)",
            )
        executable = ensure_label_studio(workspace)
        chosen = wanted or free_port()
        started = _spawn(workspace, executable, chosen, credentials(workspace))
        save_address(workspace, started)
        return started


def wait_ready(workspace: Workspace, *, seconds: float = START_SECONDS) -> ServerAddress:
    """Wait until the started server answers and its token is there; shows progress.

    Raises
    ------
    VisionloopError
        If none was started, it ended, or it does not answer in time; with the end of
        its log.
    """
    from visionloop.labeling.client import ensure_token

    begun = time.monotonic()
    told = 0.0
    while True:
        now = status(workspace)
        waited = time.monotonic() - begun
        if now.address is None:
            raise VisionloopError("Label Studio", "was not started here", "visionloop up starts it")
        if now.ready:
            ensure_token(workspace, now.address.url)
            return now.address
        if not now.runs or waited > seconds:
            stop(workspace)
            why = "ended while starting" if not now.runs else f"did not answer within {seconds} s"
            raise VisionloopError("Label Studio", [why, *_log_end(workspace)], _log_hint(workspace))
        if waited - told >= 10:
            told = waited
            say_step(f"Label Studio is starting: {waited:.0f} s (a first start takes about 40)")
        time.sleep(0.2)


def stop(workspace: Workspace) -> bool:
    """Stop this workspace's server; False if none ran."""
    known = read_address(workspace)
    if known is None:
        return False
    ran = is_running(known.pid, known.started)
    stop_process(known.pid, known.started)
    _reap(known.pid)
    forget_address(workspace)
    return ran


def status(workspace: Workspace) -> ServerStatus:
    """Whether the server runs (its process) and is ready (it answers)."""
    known = read_address(workspace)
    if known is None:
        return ServerStatus(None, False, False)
    _reap(known.pid)
    runs = is_running(known.pid, known.started)
    return ServerStatus(known, runs, runs and _answers(known.url))


def address(workspace: Workspace) -> str:
    """The URL of the running server; empty if none runs."""
    return status(workspace).url


def login_hint(workspace: Workspace) -> str:
    """How a person logs in; the password itself is not shown."""
    where = workspace.studio_state / "credentials.json"
    return f"log in as {credentials(workspace).email}, password in {where}"


@contextmanager
def running_server(workspace: Workspace, *, port: int | None = None) -> Iterator[ServerAddress]:
    """A ready server inside the block; one that ran before stays running afterwards."""
    ran_before = status(workspace).runs
    start(workspace, port=port)
    try:
        yield wait_ready(workspace)
    finally:
        if not ran_before:
            stop(workspace)


def _spawn(
    workspace: Workspace, executable: Path, port: int, account: Credentials
) -> ServerAddress:
    data = workspace.studio_state / "server"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    workspace.images.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{port}"
    command = [str(executable), "start", "--no-browser", "--internal-host", "127.0.0.1"]
    command += ["--host", url, "--port", str(port)]
    log = os.open(_log(workspace), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        process = subprocess.Popen(
            command,
            cwd=data,
            env=_environment(workspace, account),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
    finally:
        os.close(log)
    say_step(f"starting Label Studio at {url}")
    return ServerAddress(process.pid, start_time(process.pid), port, url)


def _environment(workspace: Workspace, account: Credentials) -> dict[str, str]:
    """The password goes by environment: a command line can be read by every user."""
    one_host = load_params(workspace)[1].one_host
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        **passed,
        **QUIET_ENVIRONMENT,
        "LABEL_STUDIO_BASE_DATA_DIR": str(workspace.studio_state / "server"),
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(workspace.raw.resolve()),
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_USERNAME": account.email,
        "LABEL_STUDIO_PASSWORD": account.password,
        # Only a backend on this very host has a reason to be called at a local address.
        "ML_BLOCK_LOCAL_IP": "false" if one_host else "true",
        "SSRF_PROTECTION_ENABLED": "false" if one_host else "true",
        "WEBHOOK_TIMEOUT": WEBHOOK_SECONDS,
    }


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/health", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _reap(pid: int) -> None:
    """A child of ours that ended would stay a zombie."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _log(workspace: Workspace) -> Path:
    return workspace.studio_state / "server.log"


def _log_end(workspace: Workspace) -> list[str]:
    if not _log(workspace).exists():
        return []
    lines = _log(workspace).read_text(errors="replace").strip().splitlines()
    return [mask_secrets(line) for line in lines[-6:]]


def _log_hint(workspace: Workspace) -> str:
    return f"read {_log(workspace)}, then start it again"
