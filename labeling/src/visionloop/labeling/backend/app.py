"""The backend's routes: Label Studio's four, and those of the page of jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from visionloop.core.config import load_project
from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.automatic import train_if_wanted
from visionloop.labeling.backend.current import CurrentDrafter
from visionloop.labeling.backend.guard import Guard
from visionloop.labeling.backend.hints import Puller
from visionloop.labeling.backend.jobs import JobQueue
from visionloop.labeling.backend.keys import SECRET_HEADER, backend_keys
from visionloop.labeling.backend.notice import Notice
from visionloop.labeling.backend.pages import render_jobs
from visionloop.labeling.backend.predicting import Drafting
from visionloop.labeling.backend.supervisor import Supervisor
from visionloop.labeling.params import load_params
from visionloop.labeling.state import credentials

__all__ = ["MOST_TASKS", "Backend", "make_app"]

MOST_TASKS = 1000
"""In one request; Label Studio's data manager sends what a person ticked."""

AT_ONCE = 2
"""Requests that predict at the same time; others wait, and a model uses all cores anyway."""

TOLD = (
    *("id", "kind", "state", "asked_by", "created_at", "started_at", "ended_at"),
    *("step", "steps", "command", "fraction", "reason", "attempts"),
)
"""Of a job, to programs."""

HOSTS = ("127.0.0.1", "localhost")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Backend:
    """The parts that work beside the routes, each on a thread of its own."""

    workspace: Workspace
    queue: JobQueue
    current: CurrentDrafter
    supervisor: Supervisor
    puller: Puller
    notice: Notice

    @classmethod
    def of(cls, workspace: Workspace, url: str) -> Backend:
        """The parts for a workspace, not started."""
        queue = JobQueue(workspace)
        notice = Notice(workspace, f"{url}/")
        return cls(
            workspace=workspace,
            queue=queue,
            current=CurrentDrafter(
                workspace, lambda: queue.add("drafts", asked_by="a new release")
            ),
            supervisor=Supervisor(workspace, queue, notice.show),
            puller=Puller(
                workspace,
                minutes=load_params(workspace)[1].pull_minutes,
                on_pulled=lambda: train_if_wanted(workspace, queue),
            ),
            notice=notice,
        )

    def start(self) -> None:
        """Start every part."""
        for part in (self.notice, self.supervisor, self.current, self.puller):
            part.start()

    def stop(self) -> None:
        """Stop every part; what was queued stays queued."""
        for part in (self.puller, self.current, self.supervisor, self.notice):
            part.stop()


def make_app(backend: Backend, *, hosts: Iterable[str] = HOSTS) -> FastAPI:
    """The application; its parts start and stop with it.

    Parameters
    ----------
    backend : Backend
    hosts : iterable of str
        Names under which it may be addressed.
    """

    @asynccontextmanager
    async def live(_: FastAPI) -> AsyncIterator[None]:
        backend.start()
        yield
        await asyncio.to_thread(backend.stop)

    app = FastAPI(title="visionloop ML backend", lifespan=live, docs_url=None, openapi_url=None)
    _add_protocol(app, backend)
    _add_pages(app, backend)
    keys, account = backend_keys(backend.workspace), credentials(backend.workspace)
    app.add_middleware(
        Guard,
        accounts=[(keys.user, keys.password), (account.email, account.password)],
        secret_header=SECRET_HEADER,
        secret=keys.secret,
        secret_path="/webhook",
        hosts=hosts,
    )
    return app


def _add_protocol(app: FastAPI, backend: Backend) -> None:
    drafting = Drafting(backend.workspace)
    turn = asyncio.Semaphore(AT_ONCE)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "UP", "model_version": backend.current.version}

    @app.post("/setup")
    async def setup() -> dict[str, Any]:
        # The body carries a key of Label Studio's, which we do not need: it is not read.
        return {"model_version": backend.current.version}

    @app.post("/predict")
    async def predict(request: Request) -> dict[str, Any]:
        body = await _json(request)
        tasks = body.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise HTTPException(422, "'tasks' must be a list of tasks")
        if len(tasks) > MOST_TASKS:
            raise HTTPException(413, f"more than {MOST_TASKS} tasks in one request")
        drafter = await asyncio.to_thread(backend.current.get)
        if drafter is None:
            return {"results": [[] for _ in tasks]}
        async with turn:
            answers = await asyncio.to_thread(drafting.draft, tasks, drafter)
        # An empty list makes no prediction, so a later push still gives the task its draft.
        return {"results": [[] if answer is None else answer for answer in answers]}

    @app.post("/webhook")
    async def webhook(request: Request) -> dict[str, Any]:
        if request.state.by_secret:
            backend.puller.hint()
            return {}
        body = await _json(request)
        if body.get("action") != "START_TRAINING":
            backend.puller.hint()
            return {}
        job = await asyncio.to_thread(backend.queue.add, "training", asked_by="Label Studio")
        backend.supervisor.wake()
        return {"job": str(job.id), "model_version": backend.current.version}


def _add_pages(app: FastAPI, backend: Backend) -> None:
    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        return render_jobs(
            backend.queue.list(),
            model=load_project(backend.workspace.params).model,
            version=backend.current.version,
            problems=[text for text in (backend.current.problem, backend.puller.problem) if text],
        )

    @app.get("/jobs")
    def jobs() -> list[dict[str, Any]]:
        return [
            {name: getattr(job, name) for name in TOLD} | {"progress": round(job.progress, 4)}
            for job in backend.queue.list()
        ]

    @app.post("/jobs")
    def train_now(request: Request) -> RedirectResponse:
        _refuse_other_sites(request)
        backend.queue.add("training", asked_by="the page of jobs")
        backend.supervisor.wake()
        return RedirectResponse("/", status_code=303)

    @app.post("/jobs/{number}/cancel")
    def cancel(number: int, request: Request) -> RedirectResponse:
        _refuse_other_sites(request)
        try:
            backend.queue.cancel(number)
        except KeyError:
            raise HTTPException(404, f"there is no job {number}") from None
        backend.supervisor.wake()
        return RedirectResponse("/", status_code=303)

    def _refuse_other_sites(request: Request) -> None:
        """A browser that is signed in here would sign a form of any other page, too."""
        origin, host = request.headers.get("origin"), request.headers.get("host", "")
        if origin is not None and origin.partition("://")[2] != host:
            raise HTTPException(403, "asked by a page of another site")


async def _json(request: Any) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise HTTPException(422, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(422, "the body must be an object")
    return body
