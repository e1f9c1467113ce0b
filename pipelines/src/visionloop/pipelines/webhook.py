"""MLflow's webhooks as a hint that an alias has moved: signed, checked, and never the truth.

MLflow signs ``<delivery id>.<timestamp>.<body>`` with HMAC-SHA256. A hint that is not signed, too
old or seen before is answered with 401 and wakes nobody. A lost hint costs the interval between
looks and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from visionloop.core.files import write_text
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["HintReceiver", "is_genuine"]

NAME = "visionloop-watch"
PATH = "/mlflow"
EVENTS = ("model_version_alias.created", "model_version_alias.deleted")
OLDEST_SECONDS = 300
LARGEST_BODY = 64 * 1024


def is_genuine(
    secret: str, *, delivery: str, timestamp: str, body: bytes, signature: str, now: float
) -> bool:
    """Whether MLflow sent this with our secret, within the last five minutes."""
    try:
        age = abs(now - float(timestamp))
    except ValueError:
        return False
    signed = f"{delivery}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).digest()
    wanted = "v1," + base64.b64encode(digest).decode()
    return age <= OLDEST_SECONDS and hmac.compare_digest(wanted.encode(), signature.encode())


class HintReceiver:
    """Wakes the watcher; without a port it only sleeps.

    Parameters
    ----------
    workspace : Workspace
        Its secret lies in ``.watch-webhook-secret`` (mode 0600), not where devices read.
    port : int or None
        On loopback; 0 takes a free one.
    """

    def __init__(self, workspace: Workspace, port: int | None) -> None:
        self._workspace = workspace
        self._hint = threading.Event()
        self._seen: dict[str, float] = {}
        self._lock = threading.Lock()
        self._is_registered = False
        self._server: ThreadingHTTPServer | None = None
        if port is not None:
            self.secret = _secret(workspace.root / ".watch-webhook-secret")
            self._server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))

    @property
    def url(self) -> str:
        """Where hints are taken, or empty."""
        return f"http://127.0.0.1:{self._server.server_port}{PATH}" if self._server else ""

    def __enter__(self) -> HintReceiver:
        if self._server is not None:
            threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def register(self) -> None:
        """Ask MLflow once to send its hints here; a server that will not is looked at all the same.

        Raises
        ------
        UnreachableError
            If MLflow does not answer.
        """
        if self._server is None or self._is_registered:
            return
        from mlflow.exceptions import MlflowException

        from visionloop.evaluation import registry

        client = registry.connect(self._workspace)
        with registry.reaching(self._workspace):
            try:
                _register(client, self.url, self.secret)
            except MlflowException as error:
                if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
                    raise
                say_step(f"MLflow takes no webhook ({error.error_code}); looking at intervals")
        self._is_registered = True

    def wait(self, seconds: float) -> None:
        """Until a hint comes, or the time is over."""
        self._hint.wait(seconds)
        self._hint.clear()

    def take(self, delivery: str, timestamp: str, body: bytes, signature: str) -> bool:
        """Wake the watcher if the hint is genuine and new."""
        now = time.time()
        if not is_genuine(
            self.secret,
            delivery=delivery,
            timestamp=timestamp,
            body=body,
            signature=signature,
            now=now,
        ):
            return False
        with self._lock:
            self._seen = {
                one: at for one, at in self._seen.items() if now - at <= 2 * OLDEST_SECONDS
            }
            if delivery in self._seen:
                return False
            self._seen[delivery] = now
        self._hint.set()
        return True


def _handler(receiver: HintReceiver) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_POST(self) -> None:
            size = self.headers.get("Content-Length", "")
            if self.path != PATH or not size.isdigit() or int(size) > LARGEST_BODY:
                self.send_error(400)
                return
            body = self.rfile.read(int(size))
            is_taken = receiver.take(
                self.headers.get("X-MLflow-Delivery-Id", ""),
                self.headers.get("X-MLflow-Timestamp", ""),
                body,
                self.headers.get("X-MLflow-Signature", ""),
            )
            self.send_response(204 if is_taken else 401)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Hints are no news."""

    return Handler


def _register(client: MlflowClient, url: str, secret: str) -> None:
    """One webhook of this name; an old one may point elsewhere or know another secret."""
    token = None
    while True:
        page = client.list_webhooks(page_token=token)
        for one in page:
            if one.name == NAME:
                client.delete_webhook(one.webhook_id)
        token = page.token
        if not token:
            break
    client.create_webhook(NAME, url, list(EVENTS), secret=secret)  # type: ignore[arg-type]


def _secret(path: Path) -> str:
    if not path.is_file():
        write_text(path, secrets.token_urlsafe(32), mode=0o600)
    return path.read_text(encoding="utf-8").strip()
