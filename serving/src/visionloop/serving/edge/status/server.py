"""Serves the status page from a thread of the agent.

server = StatusServer(StatusParams(), folder, read_state, read_picture)
server.start(); server.address; server.stop()
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from visionloop.core.errors import ConfigError
from visionloop.core.files import write_text
from visionloop.core.progress import say_step
from visionloop.serving.edge.device_state import DeviceState
from visionloop.serving.edge.status.params import StatusParams

if TYPE_CHECKING:
    import uvicorn

__all__ = ["StatusServer"]

TOKEN_NAME = "status.token"
START_S = 10.0


class StatusServer:
    """The page and ``/metrics`` of one device.

    Parameters
    ----------
    params : StatusParams
    folder : Path
        Of the agent; a token that nobody gave is kept there (only its owner may read it).
    read_state, read_picture : callable
        As for :func:`visionloop.serving.edge.status.app.create_status_app`.

    Raises
    ------
    ConfigError
        If the token's variable is not set.
    """

    def __init__(
        self,
        params: StatusParams,
        folder: Path,
        read_state: Callable[[], DeviceState],
        read_picture: Callable[[str], bytes | None],
    ) -> None:
        self._params, self._folder = params, folder
        self._read_state, self._read_picture = read_state, read_picture
        self._token = self._find_token()
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._is_over = threading.Event()

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{self._params.host}:{self._params.port}/"

    def start(self) -> None:
        """Begin to serve; a port that is taken is said and costs only the page.

        All that only the page needs is imported in its thread: cameras do not wait for it.
        """
        self._thread = threading.Thread(target=self._serve, name="status page", daemon=True)
        self._thread.start()
        if self._params.host not in ("127.0.0.1", "::1", "localhost"):
            say_step("edge: the status page is open to the network, without encryption")
        say_step(f"edge: status page at {self.address}, {self._where()}")

    def stop(self) -> None:
        """End."""
        self._is_over.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(START_S)

    def _serve(self) -> None:
        import uvicorn

        from visionloop.serving.edge.status.app import create_status_app

        app = create_status_app(
            self._read_state,
            self._read_picture,
            token=self._token,
            refresh_s=self._params.refresh_s,
        )
        config = uvicorn.Config(
            app,
            host=self._params.host,
            port=self._params.port,
            log_level="error",
            access_log=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        if self._is_over.is_set():
            return
        try:
            self._server.run()
        except SystemExit:  # uvicorn's way to say that it cannot listen there
            say_step(f"edge: no status page: {self.address} cannot be listened on")

    def _find_token(self) -> str:
        if self._params.token_env:
            token = os.environ.get(self._params.token_env, "")
            if not token:
                raise ConfigError(
                    "status page", f"the environment variable {self._params.token_env} is not set"
                )
            return token
        path = self._folder / TOKEN_NAME
        try:
            if token := path.read_text(encoding="utf-8").strip():
                return token
        except OSError:
            pass
        token = secrets.token_urlsafe(24)
        try:
            write_text(path, token + "\n", mode=0o600)
        except OSError:
            say_step("edge: the token of the status page cannot be kept; it changes at each start")
        return token

    def _where(self) -> str:
        if self._params.token_env:
            return f"token in {self._params.token_env}"
        return f"token in {self._folder.name}/{TOKEN_NAME}"
