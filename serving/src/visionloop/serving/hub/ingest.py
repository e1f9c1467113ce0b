"""The receiving end of the edge: one route that takes batches of events.

``POST /v1/events`` with ``Authorization: Bearer <token of the device>`` and a JSON body, gzipped
or plain::

    {"site": "...", "device": "...", "events": [{"event_id", "seq", "boot_id", "kind", "priority",
     "created_at", "created_monotonic", "clock_ok", "payload", "sha256"}, ...]}

The answer comes after the commit: ``{"stored": [ids], "refused": [{"event_id", "reason"}]}``. An
id that is there already counts as stored, so a device may send a batch again until it hears. The
device is the one that the token belongs to; the name in the body is only compared.

400 no JSON or a wrong shape (with the place) · 401 unknown token · 413 larger than the bounds ·
503 the database does not answer (with ``Retry-After``): the device keeps its events.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Engine, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from visionloop.core.failpoints import failpoint
from visionloop.core.files import canonical_json
from visionloop.serving.hub.database import hash_token, now
from visionloop.serving.hub.models import Device, Picture, StoredEvent
from visionloop.serving.hub.releases import add_release_routes

__all__ = ["PICTURE_KIND", "create_app"]

MAX_BODY_BYTES = 8_000_000
MAX_PLAIN_BYTES = 32_000_000
"""After decompression: a small body must not fill the memory."""
MAX_EVENTS = 1000
PICTURE_KIND = "picture"
"""An event of this kind carries the JPEG of another: ``{"event_id", "jpeg": base64}``."""
PLAIN = r"^[^\x00-\x1f]*$"

log = logging.getLogger(__name__)


class IncomingEvent(BaseModel):
    """One event, as a device sends it. Unknown keys of newer devices are let through."""

    model_config = ConfigDict(strict=True, extra="ignore")

    event_id: str = Field(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
    seq: int = Field(ge=0, lt=2**63)
    boot_id: str = Field(max_length=64, pattern=PLAIN)
    kind: str = Field(min_length=1, max_length=100, pattern=PLAIN)
    priority: int = Field(ge=0, le=9)
    created_at: str = Field(max_length=40, pattern=PLAIN)
    created_monotonic: float = Field(allow_inf_nan=False)
    clock_ok: bool = True
    payload: dict[str, Any]
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Batch(BaseModel):
    """The body of a request; its events are checked one by one."""

    model_config = ConfigDict(strict=True, extra="ignore")

    site: str = Field(max_length=200, pattern=PLAIN)
    device: str = Field(max_length=100)
    events: list[dict[str, Any]] = Field(max_length=MAX_EVENTS)


class _RequestError(Exception):
    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def create_app(engine: Engine, *, releases: Path | None = None) -> FastAPI:
    """The web application.

    Parameters
    ----------
    engine : Engine
        A database that :func:`open_database` opened.
    releases : Path or None
        Folder of releases that devices may fetch; None serves none.
    """
    app = FastAPI(title="visionloop hub", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/v1/events")
    async def receive(request: Request) -> Response:
        try:
            device = await run_in_threadpool(_find_device, engine, request)
            body = await _read_body(request)
            answer = await run_in_threadpool(_take, engine, device, body)
        except ClientDisconnect:  # a device that died in the middle of its batch
            return Response(status_code=400)
        except _RequestError as error:
            return JSONResponse({"detail": error.detail}, status_code=error.status)
        except SQLAlchemyError as error:
            return _no_database(error)
        return JSONResponse(answer)

    if releases is not None:
        add_release_routes(app, releases, lambda request: _refuse(engine, request))
    return app


def _refuse(engine: Engine, request: Request) -> Response | None:
    """None for a device that is known."""
    try:
        _find_device(engine, request)
    except _RequestError as error:
        return JSONResponse({"detail": error.detail}, status_code=error.status)
    except SQLAlchemyError as error:
        return _no_database(error)
    return None


def _no_database(error: SQLAlchemyError) -> Response:
    log.error("the database does not answer: %s", type(error).__name__)
    detail = {"detail": "the database does not answer"}
    return JSONResponse(detail, status_code=503, headers={"Retry-After": "5"})


def _find_device(engine: Engine, request: Request) -> Device:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise _RequestError(401, "no token")
    with Session(engine) as session:
        device = session.scalar(select(Device).where(Device.token_sha256 == hash_token(token)))
    if device is None or device.is_revoked:
        raise _RequestError(401, "unknown token")
    return device


async def _read_body(request: Request) -> bytes:
    """The body, decompressed; never more than the bounds in memory."""
    content = bytearray()
    async for block in request.stream():
        content += block
        if len(content) > MAX_BODY_BYTES:
            raise _RequestError(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
    coding = request.headers.get("Content-Encoding", "identity")
    if coding == "identity":
        return bytes(content)
    if coding != "gzip":
        raise _RequestError(415, "Content-Encoding must be gzip")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        plain = unpacker.decompress(bytes(content), MAX_PLAIN_BYTES)
    except zlib.error:
        raise _RequestError(400, "the body is no gzip") from None
    if unpacker.unconsumed_tail:
        raise _RequestError(413, f"the body unpacks to more than {MAX_PLAIN_BYTES} bytes")
    if not unpacker.eof:
        raise _RequestError(400, "the gzip body is cut off")
    return plain


def _take(engine: Engine, device: Device, body: bytes) -> dict[str, Any]:
    batch = _read_batch(body)
    if batch.device != device.name:
        raise _RequestError(403, f"the token is not that of device '{batch.device[:100]}'")
    events, refused = _check_events(batch.events)
    pictures = [event for event in events if event.kind == PICTURE_KIND]
    rows = [_picture_row(device, event, refused) for event in pictures]
    with Session(engine) as session, session.begin():
        received = now()
        common = {"device_id": device.id, "received_at": received}
        plain = [event for event in events if event.kind != PICTURE_KIND]
        _insert(session, StoredEvent, [{**common, **event.model_dump()} for event in plain])
        _insert(session, Picture, [row for row in rows if row is not None])
        seen = update(Device).where(Device.id == device.id)
        session.execute(seen.values(last_seen_at=received, site=batch.site))
        failpoint("hub.before_commit")
    failpoint("hub.after_commit")
    stored = [event.event_id for event in events if event.event_id not in refused]
    reasons = [{"event_id": name, "reason": reason} for name, reason in refused.items()]
    return {"stored": stored, "refused": reasons}


def _read_batch(body: bytes) -> Batch:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise _RequestError(400, "the body is no JSON") from None
    try:
        return Batch.model_validate(content)
    except ValidationError as error:
        if any(one["type"] == "too_long" and one["loc"] == ("events",) for one in error.errors()):
            raise _RequestError(413, f"more than {MAX_EVENTS} events") from None
        raise _RequestError(400, _first_problem(error)) from None


def _check_events(rows: Sequence[dict[str, Any]]) -> tuple[list[IncomingEvent], dict[str, str]]:
    """Events that are well formed, and the reasons of the others by their id."""
    events, refused = [], {}
    for number, row in enumerate(rows):
        try:
            event = IncomingEvent.model_validate(row)
        except ValidationError as error:
            name = row.get("event_id")
            if not isinstance(name, str):
                raise _RequestError(400, f"events.{number}.event_id: missing") from None
            refused[name[:100]] = _first_problem(error)
            continue
        if (reason := _payload_problem(event)) is not None:
            refused[event.event_id] = reason
        else:
            events.append(event)
    return events, refused


def _payload_problem(event: IncomingEvent) -> str | None:
    try:
        content = canonical_json(event.payload)
        json.dumps(event.payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return "payload: holds half a character"
    except (ValueError, RecursionError):
        return "payload: a number is not finite, or it is nested too deep"
    if b"\\u0000" in content:
        return "payload: holds a NUL character"  # PostgreSQL's JSON cannot
    if hashlib.sha256(content).hexdigest() != event.sha256:
        return "payload: its SHA-256 is another one"
    return None


def _picture_row(
    device: Device, event: IncomingEvent, refused: dict[str, str]
) -> dict[str, Any] | None:
    owner, text = event.payload.get("event_id"), event.payload.get("jpeg")
    try:
        content = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except binascii.Error:
        content = b""
    if not content.startswith(b"\xff\xd8") or not isinstance(owner, str) or len(owner) > 36:
        refused[event.event_id] = "payload: no JPEG of an event"
        return None
    digest = hashlib.sha256(content).hexdigest()
    return {"device_id": device.id, "event_id": owner, "content": content, "sha256": digest}


def _insert(session: Session, table: type[Any], rows: list[dict[str, Any]]) -> None:
    """Insert rows; those that are there already stay as they are."""
    if not rows:
        return
    dialect = session.get_bind().dialect.name
    insert = postgresql.insert if dialect == "postgresql" else sqlite.insert
    statement = insert(table).on_conflict_do_nothing(index_elements=["device_id", "event_id"])
    session.execute(statement, rows)


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "body"
    return f"{place}: {first['msg']}"
