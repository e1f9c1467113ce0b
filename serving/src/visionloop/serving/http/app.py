"""The routes of the HTTP server."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from visionloop.core.errors import DataError, PackageError
from visionloop.serving.http.answers import describe_answer, describe_model
from visionloop.serving.http.bodies import BodyError
from visionloop.serving.http.document import (
    BODY,
    DESCRIPTION,
    ERRORS,
    MAPS,
    MODEL,
    PREDICTED,
    add_request_schema,
)
from visionloop.serving.http.guard import Guard, refuse
from visionloop.serving.http.jobs import BusyError, NothingServedError
from visionloop.serving.http.maps import read_maps
from visionloop.serving.http.metrics import Metrics
from visionloop.serving.http.page import render_page
from visionloop.serving.http.pictures import RequestError, read_asked
from visionloop.serving.http.state import ServerState

__all__ = ["OPEN_PATHS", "make_app"]

log = logging.getLogger(__name__)

OPEN_PATHS = ("/healthz", "/readyz", "/", "/openapi.json")
"""Without a token: they tell no more than that a server is here, and how to ask it."""

LARGE_BODY = 1 << 18
"""Bytes from which a body is taken apart on a thread, so that others need not wait."""


def make_app(state: ServerState) -> FastAPI:
    """The application; the parts of ``state`` start and stop with it."""
    metrics = Metrics(state)
    state.observer.on_batch = metrics.on_batch
    state.observer.on_failure = metrics.on_failure

    def on_swap(_: object) -> None:
        metrics.on_swap()
        state.observer.note_success()  # what the old model did is not held against the new one

    state.releases.on_swap = on_swap

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        state.start()
        yield
        await asyncio.to_thread(state.stop)

    app = FastAPI(
        title="visionloop",
        version="1",
        description=DESCRIPTION,
        lifespan=live,
        docs_url=None,
        redoc_url=None,
    )
    _add_predict(app, state, metrics)
    _add_probes(app, state, metrics)
    add_request_schema(app)
    app.add_middleware(Guard, tokens=state.tokens, open_paths=OPEN_PATHS)
    return app


def _add_predict(app: FastAPI, state: ServerState, metrics: Metrics) -> None:
    @app.post(
        "/v1/predict",
        summary="Ask about one picture or several",
        responses={200: PREDICTED, **ERRORS},
        openapi_extra={"requestBody": BODY, "parameters": [MAPS]},
    )
    async def predict(request: Request) -> Response:
        came = time.monotonic()
        response = await _predict(request, state)
        metrics.on_answer(response.status_code, time.monotonic() - came)
        if state.is_draining:
            response.headers["Connection"] = "close"
        return response

    @app.get(
        "/v1/model",
        summary="What is served now",
        responses={200: MODEL, 401: ERRORS[401], 503: ERRORS[503]},
    )
    async def model() -> Response:
        served = state.releases.used
        if served is None:
            return _nothing_served(state)
        return JSONResponse(describe_model(served))


async def _predict(request: Request, state: ServerState) -> Response:
    """The busy are told before their pictures are received, and again before they are queued."""
    try:
        state.lanes.refuse_if_busy()
        with_maps = read_maps(request.query_params.get("maps", ""))
        if with_maps:
            _refuse_without_maps(state)
        body = await state.bodies.read(request)
        content_type = request.headers.get("content-type", "")
        if len(body) < LARGE_BODY:
            asked = read_asked(body, content_type, state.limits)
        else:
            asked = await asyncio.to_thread(read_asked, body, content_type, state.limits)
        answered = await state.lanes.submit(
            asked.pictures, minimum_confidence=asked.minimum_confidence
        )
    except BusyError as error:
        seconds = max(1, math.ceil(error.seconds))
        refused = refuse(429, [f"busy; ask again in {seconds} s, or ask another replica"])
        refused.headers["Retry-After"] = str(seconds)
        return refused
    except NothingServedError:
        return _nothing_served(state)
    except BodyError as error:
        refused = refuse(error.status, [str(error)])
        refused.headers["Connection"] = "close"  # the rest of the body is not wanted
        if error.status == 429:
            refused.headers["Retry-After"] = "1"
        return refused
    except RequestError as error:
        return refuse(error.status, error.problems)
    except DataError as error:
        return refuse(422, [f"{error.subject}: {problem}" for problem in error.problems])
    except Exception as error:
        if not isinstance(error, PackageError):  # those are in the log already
            log.exception("a request failed")
        # The reason may name folders of this machine.
        return refuse(500, ["the model gave no usable answer; the server's log says why"])
    if with_maps:  # pictures are compressed: others need not wait for that
        return JSONResponse(
            await asyncio.to_thread(describe_answer, answered, asked.pictures, with_maps=True)
        )
    return JSONResponse(describe_answer(answered, asked.pictures))


def _refuse_without_maps(state: ServerState) -> None:
    """Said before the pictures are received."""
    served = state.releases.used
    if served is not None and served.package.manifest.outputs.heatmap is None:
        task = served.package.manifest.vision_task
        raise RequestError(422, f"maps: the release is for {task} and gives no heat maps")


def _nothing_served(state: ServerState) -> Response:
    response = refuse(503, [state.not_ready or "no release serves yet"])
    response.headers["Retry-After"] = "1"
    return response


def _add_probes(app: FastAPI, state: ServerState, metrics: Metrics) -> None:
    @app.get("/healthz", summary="Whether the process works; else restart it")
    async def healthz() -> Response:
        problem = state.lanes.problem
        return PlainTextResponse(problem or "ok", status_code=503 if problem else 200)

    @app.get("/readyz", summary="Whether requests may be sent here; 503 while none should be")
    async def readyz(request: Request) -> Response:
        """Callers with a token are also told about a release that could not take over."""
        reason = state.not_ready
        content: dict[str, Any] = {"ready": not reason, "reason": reason}
        served = state.releases.used
        content["release"] = served.release.number if served is not None else None
        content["newest_release_serves"] = served is not None and not state.problem
        if state.tokens.accept(request.headers.get("authorization", "").encode("latin-1")):
            content["problem"] = state.problem
        return JSONResponse(content, status_code=503 if reason else 200)

    @app.get("/metrics", summary="Prometheus' text form", response_class=PlainTextResponse)
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type=metrics.content_type)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return HTMLResponse(render_page(app.openapi(), str(request.base_url).rstrip("/")))
