"""Releases over HTTPS: the hub hands the folder of releases to devices, to be read only.

``GET /v1/releases/index.json`` and ``GET /v1/releases/<model>/<n>/<path>``, with the device's
token; a ``Range`` is honoured, so a device goes on where its connection broke. Nothing here vouches
for the files: devices verify signatures. Any web server that serves the folder does the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse, JSONResponse

from visionloop.serving.releases.files import FILES_NAME, is_release_path
from visionloop.serving.releases.index import INDEX_NAME

__all__ = ["add_release_routes", "find_file"]

RELEASE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}/[0-9]{1,9}/(?P<path>.+)$", re.ASCII)


def add_release_routes(app: FastAPI, releases: Path, admit: Callable[[Request], Any]) -> None:
    """Serve the folder below ``/v1/releases``.

    Parameters
    ----------
    app : FastAPI
    releases : Path
    admit : function (Request)
        Answers a Response for who may not read, else None; called in a thread.
    """

    @app.get("/v1/releases/{path:path}")
    async def read(path: str, request: Request) -> Response:
        refusal = await run_in_threadpool(admit, request)
        if refusal is not None:
            return refusal  # type: ignore[no-any-return]
        found = await run_in_threadpool(find_file, releases, path)
        if found is None:
            return JSONResponse({"detail": "there is no such file"}, status_code=404)
        headers = {"Cache-Control": "no-cache"}
        return FileResponse(found, media_type="application/octet-stream", headers=headers)


def find_file(releases: Path, path: str) -> Path | None:
    """The file that a path below ``/v1/releases/`` names; None for all that is no release."""
    if path != INDEX_NAME:
        matched = RELEASE.match(path)
        if matched is None:
            return None
        inner = matched["path"]
        if inner != FILES_NAME and not is_release_path(inner):
            return None
    root = releases.resolve()
    found = releases / path
    # Links are no part of a release, and must not lead out of it.
    if not found.is_file() or found.resolve() != root / path:
        return None
    return found
