"""The receiving end: tokens, idempotence, bounds, what is refused, on both databases."""

from __future__ import annotations

import base64
import gzip
import json

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from visionloop.core.errors import ConfigError, InputError, UnreachableError
from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.serving.hub import ingest
from visionloop.serving.hub.database import add_device, open_database, revoke_device
from visionloop.serving.hub.ingest import create_app
from visionloop.serving.hub.models import Base, Device, Picture, StoredEvent
from visionloop.serving.hub.serve import serve_hub

JPEG = b"\xff\xd8\xff\xe0 a picture"


@pytest.fixture
def hub(database):
    engine = open_database(database)
    client = TestClient(create_app(engine))
    client.engine, client.token = engine, add_device(engine, "d1")
    yield client
    engine.dispose()


def post(hub, events, *, token=None, device="d1", **headers):
    body = {"site": "plant", "device": device, "events": events}
    headers = {"Authorization": f"Bearer {token or hub.token}", **headers}
    return hub.post("/v1/events", content=json.dumps(body), headers=headers)


def count(hub, table=StoredEvent) -> int:
    with Session(hub.engine) as session:
        return session.scalar(select(func.count()).select_from(table))


def test_an_event_sent_twice_is_stored_once_and_both_times_acknowledged(hub, make_event):
    first, second = make_event(seq=1), make_event(seq=2)
    assert post(hub, [first, first]).json() == {
        "stored": [first["event_id"], first["event_id"]],
        "refused": [],
    }
    assert post(hub, [second, first]).json()["stored"] == [second["event_id"], first["event_id"]]
    assert count(hub) == 2
    with Session(hub.engine) as session:
        rows = session.scalars(select(StoredEvent).order_by(StoredEvent.seq)).all()
        assert [row.event_id for row in rows] == [first["event_id"], second["event_id"]]
        assert rows[0].payload == {"camera": "c1"}
        assert session.scalar(select(Device.site)) == "plant"


def test_two_devices_may_have_events_of_the_same_id(hub, make_event):
    other = add_device(hub.engine, "d2")
    event = make_event()
    assert post(hub, [event]).status_code == 200
    assert post(hub, [event], token=other, device="d2").status_code == 200
    assert count(hub) == 2


def test_only_a_known_device_under_its_own_name_is_heard(hub, make_event):
    other = add_device(hub.engine, "d2")
    assert hub.post("/v1/events", content="{}").status_code == 401
    assert post(hub, [make_event()], token="wrong").status_code == 401
    assert post(hub, [make_event()], token=other).status_code == 403
    revoke_device(hub.engine, "d2")
    assert post(hub, [make_event()], token=other, device="d2").status_code == 401
    assert count(hub) == 0
    with Session(hub.engine) as session:
        kept = session.scalars(select(Device.token_sha256)).all()
    assert hub.token not in kept
    with pytest.raises(InputError, match="is known already"):
        add_device(hub.engine, "d1")


def test_a_bad_event_is_refused_and_its_neighbours_are_stored(hub, make_event):
    bad = {
        "priority: Input should be": make_event(priority=17),
        "its SHA-256 is another one": make_event(sha256="0" * 64),
        "half a character": make_event(payload={"name": "\ud800"}),
        "a NUL character": make_event(payload={"name": "a\0b"}),
        "kind: String should match": make_event(kind="a\0b"),
        "no JPEG": make_event(kind="picture", payload={"event_id": "x", "jpeg": "bm8="}),
        "seq: Input should be a valid integer": make_event(seq="one"),
    }
    good = [make_event(seq=number) for number in range(2)]
    answer = post(hub, [good[0], *bad.values(), good[1]])
    assert answer.status_code == 200, answer.text
    assert answer.json()["stored"] == [event["event_id"] for event in good]
    reasons = {one["event_id"]: one["reason"] for one in answer.json()["refused"]}
    for expected, event in bad.items():
        assert expected in reasons[event["event_id"]]
    assert count(hub) == 2


NO_BATCHES = {
    b"": 400,
    b"\xff\xfe": 400,
    b"[" * 100_000: 400,
    b"[1, 2]": 400,
    b'{"site": "s", "device": "d1"}': 400,
    b'{"site": "s", "device": "d1", "events": [{}]}': 400,
    b'{"site": "s", "device": "d1", "events": [3]}': 400,
    b" " * (ingest.MAX_BODY_BYTES + 1): 413,
}


def test_what_is_no_batch_is_refused(hub):
    headers = {"Authorization": f"Bearer {hub.token}"}
    for body, status in NO_BATCHES.items():
        answer = hub.post("/v1/events", content=body, headers=headers)
        assert answer.status_code == status, body[:50]
        assert answer.json()["detail"]
    assert count(hub) == 0


def test_bounds_hold_after_decompression_and_for_the_number_of_events(hub, make_event):
    headers = {"Authorization": f"Bearer {hub.token}", "Content-Encoding": "gzip"}
    bomb = gzip.compress(b" " * (ingest.MAX_PLAIN_BYTES + 1))
    assert hub.post("/v1/events", content=bomb, headers=headers).status_code == 413
    whole = gzip.compress(b'{"site": "s", "device": "d1", "events": []}')
    assert hub.post("/v1/events", content=whole, headers=headers).status_code == 200
    assert hub.post("/v1/events", content=whole[:-9], headers=headers).status_code == 400
    assert hub.post("/v1/events", content=b"no gzip", headers=headers).status_code == 400
    many = [make_event()] * (ingest.MAX_EVENTS + 1)
    assert post(hub, many).status_code == 413


def test_the_picture_of_an_event_is_kept_beside_it(hub, make_event):
    event = make_event()
    payload = {"event_id": event["event_id"], "jpeg": base64.b64encode(JPEG).decode()}
    picture = make_event(
        kind="picture", payload=payload, sha256=sha256_of_bytes(canonical_json(payload))
    )
    for _ in range(2):
        answer = post(hub, [event, picture]).json()
        assert answer["stored"] == [event["event_id"], picture["event_id"]]
    with Session(hub.engine) as session:
        (kept,) = session.scalars(select(Picture)).all()
    assert (kept.event_id, kept.content) == (event["event_id"], JPEG)
    assert count(hub) == 1


def test_migrations_make_the_tables_of_the_models(database):
    engine = open_database(database)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, Base.metadata) == []
    open_database(database).dispose()
    engine.dispose()


def test_a_database_that_does_not_answer_costs_a_503_and_no_event(database, make_event, tmp_path):
    engine = open_database(database)
    client = TestClient(create_app(engine))
    client.engine, client.token = engine, add_device(engine, "d1")
    Base.metadata.tables["pictures"].drop(engine)
    Base.metadata.tables["events"].drop(engine)
    answer = post(client, [make_event()])
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    engine.dispose()


def test_wrong_databases_and_open_doors_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither SQLite nor PostgreSQL"):
        open_database("mysql://u:hidden-word@host/x")
    with pytest.raises(UnreachableError) as caught:
        open_database("postgresql://u:hidden-word@127.0.0.1:9/x")
    assert "hidden-word" not in str(caught.value)
    with pytest.raises(ConfigError, match="unencrypted"):
        serve_hub(database=f"sqlite:///{tmp_path}/h.db", host="0.0.0.0")
    with pytest.raises(ConfigError, match="both a certificate"):
        serve_hub(database=f"sqlite:///{tmp_path}/h.db", key=tmp_path / "key.pem")
