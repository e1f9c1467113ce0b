"""The status page as a web application (FastAPI, rendered here, no script needed).

Everything asks for the token: a browser once (``/login``, then a cookie), programs with
``Authorization: Bearer``. Only ``/alive`` answers without. Nothing can be changed here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from jinja2 import Environment, FileSystemLoader, select_autoescape
from prometheus_client import CollectorRegistry
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse

from visionloop.serving.edge.device_state import CameraFigures, DeviceState
from visionloop.serving.edge.metrics import CONTENT_TYPE, make_registry, render_metrics

__all__ = ["create_status_app"]

COOKIE = "visionloop_status"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
MAX_FORM_BYTES = 4096


def create_status_app(
    read_state: Callable[[], DeviceState],
    read_picture: Callable[[str], bytes | None],
    *,
    token: str,
    refresh_s: int = 5,
) -> FastAPI:
    """The application.

    Parameters
    ----------
    read_state : callable
        How the device does now.
    read_picture : callable of str
        The last picture of a camera with its boxes (JPEG), or None.
    token : str
        Whoever has it may look.
    refresh_s : int
        The page renews itself.
    """
    app = FastAPI(title="visionloop edge", docs_url=None, redoc_url=None, openapi_url=None)
    door, pages = _Door(token), _make_pages()

    def page(name: str, status: int = 200, **values: object) -> HTMLResponse:
        text = pages.get_template(name).render(**values)
        return HTMLResponse(text, status_code=status, headers=HEADERS)

    @app.get("/")
    def status(request: Request, show: str = "") -> Response:
        if not door.may_pass(request):
            return RedirectResponse("/login", status_code=303, headers=HEADERS)
        state = read_state()
        cameras = sorted(state.cameras.values(), key=lambda one: (not is_in_trouble(one), one.name))
        troubled = [one for one in cameras if is_in_trouble(one)]
        return page(
            "status.html.j2",
            state=state,
            cameras=troubled if show == "trouble" else cameras,
            troubled=troubled,
            show=show,
            refresh_s=refresh_s,
        )

    _add_login(app, door, page)
    _add_files(app, door, read_picture, make_registry(read_state))
    return app


class _Door:
    """Who may look: programs by the token, browsers by the cookie that they got for it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()
        self.cookie = hashlib.sha256(f"status page {token}".encode()).hexdigest()

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self._token)

    def may_pass(self, request: Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given):
            return True
        shown = request.cookies.get(COOKIE, "").encode()
        return hmac.compare_digest(shown, self.cookie.encode())


def _make_pages() -> Environment:
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"duration": say_duration, "size": say_size}
    return pages


def _add_login(app: FastAPI, door: _Door, page: Callable[..., HTMLResponse]) -> None:
    """The way in, and the one path that is open."""

    @app.get("/alive")
    def alive() -> PlainTextResponse:
        return PlainTextResponse("alive\n")

    @app.get("/login")
    def login() -> Response:
        return page("login.html.j2", has_failed=False)

    @app.post("/login")
    async def enter(request: Request) -> Response:
        body = await request.body() if _is_small(request) else b""
        given = parse_qs(body.decode(errors="replace")).get("token", [""])[0].strip()
        if not door.is_token(given):
            return page("login.html.j2", 401, has_failed=True)
        answer = RedirectResponse("/", status_code=303, headers=HEADERS)
        answer.set_cookie(
            COOKIE, door.cookie, httponly=True, samesite="strict", max_age=30 * 86_400
        )
        return answer


def _add_files(
    app: FastAPI,
    door: _Door,
    read_picture: Callable[[str], bytes | None],
    registry: CollectorRegistry,
) -> None:
    """What is no page: last pictures, and metrics."""

    @app.get("/pictures/{camera}")
    def picture(request: Request, camera: str) -> Response:
        if not door.may_pass(request):
            return PlainTextResponse("no token\n", status_code=401, headers=HEADERS)
        content = read_picture(camera)
        if content is None:
            return PlainTextResponse("no picture yet\n", status_code=404, headers=HEADERS)
        return Response(content, media_type="image/jpeg", headers=HEADERS)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        if not door.may_pass(request):
            return PlainTextResponse("no token\n", status_code=401, headers=HEADERS)
        return Response(render_metrics(registry), headers=HEADERS | {"Content-Type": CONTENT_TYPE})


def is_in_trouble(camera: CameraFigures) -> bool:
    """Whether somebody should look at it."""
    raised = [one for one in camera.conditions if one != "infrared"]
    return bool(raised) or camera.state in ("lost", "refused")


def say_duration(seconds: float | None) -> str:
    """For people: ``0.4 s``, ``3 min``, ``2 d``."""
    if seconds is None:
        return "never"
    if seconds < 10:
        return f"{seconds:.1f} s"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def say_size(count: float) -> str:
    """For people: ``12 kB``, ``3.4 MB``."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _is_small(request: Request) -> bool:
    try:
        return int(request.headers.get("Content-Length", "0")) <= MAX_FORM_BYTES
    except ValueError:
        return False
