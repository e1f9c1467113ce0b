"""A Label Studio behind a proxy that fails, and a project of its own for each test."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from visionloop.core.config import load_project
from visionloop.core.workspace import Workspace
from visionloop.labeling import delivery
from visionloop.labeling.project import setup
from visionloop.labeling.state import read_address, save_address


@dataclass
class Faults:
    """Which requests fail, and how.

    Attributes
    ----------
    largest : int or None
        Bytes of a body beyond which the answer is 413.
    longest : int or None
        Characters of an export's address beyond which the answer is 414.
    on : str
        End of the path of the requests that the next four speak of.
    after : list of str or int
        For those to come, after they were carried out: a status to answer, "drop" to break
        the connection, "" to answer as usual.
    before : list of int
        For those to come, instead of carrying them out: a status to answer; 0 carries it out.
    then : callable or None
        Called after one whose connection is dropped.
    imports : list of int
        Tasks or drafts of each that was carried out.
    """

    largest: int | None = None
    longest: int | None = None
    on: str = "/import"
    after: list[str | int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    then: Callable[[], None] | None = None
    imports: list[int] = field(default_factory=list)


@pytest.fixture
def faulty():
    """``with faulty(workspace) as faults``: it talks to its Label Studio through a proxy."""
    return _through_proxy


@contextmanager
def _through_proxy(workspace: Workspace) -> Iterator[Faults]:
    real = read_address(workspace)
    faults = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Quiet."""

        def do_GET(self) -> None:
            self._handle()

        do_POST = do_PATCH = do_DELETE = do_GET

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_meant = self.path.partition("?")[0].endswith(faults.on)
            if faults.largest is not None and len(body) > faults.largest:
                return self._answer(413, b"<html>Request Entity Too Large</html>")
            is_export = self.path.partition("?")[0].endswith("/export")
            if is_export and faults.longest is not None and len(self.path) > faults.longest:
                return self._answer(414, b"<html>Request-URI Too Large</html>")
            if is_meant and faults.before and (status := faults.before.pop(0)):
                return self._answer(status, b"<html>Bad Gateway</html>")
            headers = {
                k: v for k, v in self.headers.items() if k in ("Authorization", "Content-Type")
            }
            answer = httpx.request(
                self.command, real.url + self.path, content=body, headers=headers, timeout=120
            )
            if is_meant and answer.status_code < 300:
                told = answer.json()
                faults.imports.append(
                    len(told) if isinstance(told, list) else told.get("task_count", len(told))
                )
                if faults.after and (what := faults.after.pop(0)):
                    if what == "drop":
                        self.close_connection = True
                        if faults.then is not None:
                            faults.then()
                        return self.connection.close()
                    return self._answer(int(what), b"<html>Gateway Time-out</html>")
            return self._answer(answer.status_code, answer.content)

        def _answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(content)

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    save_address(workspace, replace(real, url=f"http://127.0.0.1:{proxy.server_address[1]}"))
    try:
        yield faults
    finally:
        save_address(workspace, real)
        proxy.shutdown()
        proxy.server_close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch) -> None:
    monkeypatch.setattr(delivery, "LOOKS_AGAIN", (0.1, 0.2))


@pytest.fixture
def desk(studio, tmp_path):
    """A project of its own: the same Label Studio and images, its own samples table."""
    root = tmp_path
    (root / "data" / "raw").mkdir(parents=True)
    (root / "studio").mkdir()
    (root / "data" / "raw" / "images").symlink_to(studio.cells.images)
    for name in ("server.json", "credentials.json"):
        shutil.copy(studio.cells.studio_state / name, root / "studio" / name)
    workspace = Workspace(root)
    text = studio.cells.params.read_text()
    model = load_project(studio.cells.params).model
    workspace.params.write_text(text.replace(model, f"desk-{root.name}"))
    shutil.copytree(studio.cells.package, workspace.package)
    shutil.copy(studio.cells.raw / "samples.parquet", root / "data" / "raw")
    setup(workspace=workspace)
    return replace(studio, cells=workspace, boards=workspace)
