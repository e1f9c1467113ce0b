"""The verb ``http``: serve predictions until told to stop, and stop without losing any."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from visionloop.core.errors import InputError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    import uvicorn

    from visionloop.serving.http.state import ServerState

__all__ = ["GRACEFUL_SECONDS", "run_server"]

BACKLOG = 512
SWITCH_SECONDS = 0.0005
"""How long a lane may keep the interpreter from the event loop; Python's own is ten times that."""

GRACEFUL_SECONDS = 30
"""For what was begun before the server stopped listening."""

IDLE_SECONDS = 75
"""Longer than load balancers keep idle connections: they must be the ones to close."""


def run_server(
    *,
    workspace: Workspace,
    config: Path | None = None,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    On SIGTERM ``/readyz`` answers 503 at once while requests are still answered for
    ``drain_s``; then nothing new is accepted, what was begun is finished, and it ends.

    Parameters
    ----------
    workspace : Workspace
    config : Path or None
        A YAML file with the keys of ``serving.http``; None takes ``params.yaml``.
    host, port
        None takes those of the parameters; port 0 any free one.

    Raises
    ------
    ConfigError
        If the configuration is wrong.
    InputError
        If the port is in use, or there is no usable token.
    """
    from visionloop.serving.http.state import make_state, read_params
    from visionloop.serving.http.tokens import TOKEN_VARIABLE, load_tokens

    params, model, vision_task = read_params(workspace, config)
    address, wanted = host or params.host, params.port if port is None else port
    tokens, path = load_tokens(workspace.root / params.state)
    with _listen(address, wanted) as listener:
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
        state = make_state(workspace, params, model=model, vision_task=vision_task, tokens=tokens)
        url = f"http://{address}:{listener.getsockname()[1]}"
        say_step(f"http: '{model}' at {url} (token: {path or TOKEN_VARIABLE})")
        _make_server(state).run(sockets=[listener])


def _make_server(state: ServerState) -> uvicorn.Server:
    """Uvicorn with our application; on SIGTERM load balancers are told before it stops."""
    import uvicorn
    from prometheus_client import disable_created_metrics

    from visionloop.serving.http.app import make_app

    class Server(uvicorn.Server):
        stop_at = float("inf")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig != signal.SIGTERM or state.is_draining:
                super().handle_exit(sig, frame)
                return
            state.is_draining = True
            self.stop_at = time.monotonic() + state.params.drain_s
            logging.getLogger(__name__).info("stopping; not ready from now on")

        async def on_tick(self, counter: int) -> bool:
            return await super().on_tick(counter) or time.monotonic() >= self.stop_at

    sys.setswitchinterval(SWITCH_SECONDS)
    disable_created_metrics()  # type: ignore[no-untyped-call]
    settings = uvicorn.Config(
        make_app(state),
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    return Server(settings)


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"{host}:{port}",
            f"the HTTP server cannot listen there: {error.strerror}",
            "stop what listens there, or take --port (0 takes any free one)",
        ) from None
    return listener
