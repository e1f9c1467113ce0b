"""From an archive of pictures to an event at the hub: hard hats, all of it real.

``hardhat.zip`` comes in through ``visionloop data import``; a detector is fine-tuned on it with
the project's own verbs, packed and released. The agent, a process of its own, watches two real
videos and reports to a hub, another process.

The worker of ``worker-zone-detection.gif`` wears his helmet from the first frame to the last, so
this video can only show the other side: that he enters the zone is an event, and nobody without
a helmet is seen. (Painting his helmet in the colour of hair does not change that: the detector
goes by the shape.) The event "no helmet in the zone" comes from
``one-by-one-person-detection.mp4``, whose people are bareheaded.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import yaml
from sqlalchemy import select
from sqlalchemy.orm import Session

from visionloop.core.files import sha256_of_bytes
from visionloop.core.workspace import Workspace
from visionloop.data.raw import RawStore
from visionloop.pipelines.demo.run import set_param
from visionloop.pipelines.init import init
from visionloop.serving.edge.delivery.outbox import Outbox, read_events
from visionloop.serving.edge.record.store import DATABASE_NAME, open_store
from visionloop.serving.hub.database import open_database
from visionloop.serving.hub.models import Picture, StoredEvent
from visionloop.serving.releases.store import publish
from visionloop.serving.signing import sign_folder

HELMET, BARE = "Safety Helmet", "No Safety Helmet"
ZONE = [[0.0, 0.1], [1.0, 0.1], [1.0, 1.0], [0.0, 1.0]]
VIDEOS = {"worker": "worker-zone-detection.gif", "hall": "one-by-one-person-detection.mp4"}
NUMBERS = {
    "project.model": "hardhat",
    "data.split.val_fraction": 0.1,
    "training.image_size": 416,
    "training.image_passes": 900,
    "training.batch_size": 8,
    "training.learning_rate": 0.002,
    "training.allow_scratch": False,
    # Boards have no upper side; people do.
    "training.augment": {"strength": "strong", "upside_down": False, "quarter_turns": False},
    "training.export": {"min_confidence": 0.25, "max_iou": 0.6},
}
"""What a person changes in the recipe of circuit boards to find heads."""


def visionloop(place: Workspace, *words: str, **environment: str) -> str:
    """Run ``visionloop …`` in the project folder; what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "visionloop.pipelines", *words],
        cwd=place.root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def train_from(archive: Path, place: Workspace) -> None:
    """Import, split, freeze, train, export."""
    for name, value in NUMBERS.items():
        set_param(place.params, name, value)
    visionloop(place, "data", "import", str(archive), "--classes", "from-source")
    annotations = RawStore.load(place).annotations
    assert len({row.sample_id for row in annotations}) == 181
    found = [row.class_name for row in annotations]
    assert (found.count(HELMET), found.count(BARE)) == (538, 130)
    for words in (("data", "split"), ("data", "freeze", "--replace"), ("train", "train")):
        visionloop(place, *words)
    assert "parity" in visionloop(place, "train", "export")


def release(place: Workspace, key: Path) -> None:
    """Publish the package with a signed report of a gate that let it pass."""
    gate = place.root / "gate"
    gate.mkdir()
    (gate / "gate.json").write_text('{"verdict": "passed"}')
    sign_folder(gate, key=key, signature_name="gate.sig")
    publish(releases=place.releases, model="hardhat", package=place.package, gate_report=gate)


def write_edge_config(place: Workspace, videos: Path, hub_url: str) -> Path:
    """Two cameras, two rules, and the hub that wants the events."""
    content = {
        "model": "hardhat",
        "device": "d1",
        "threads": 1,
        "status": {"enabled": False},
        "rules": [
            {"name": "helmet", "kind": "zone_entry", "class_name": HELMET, "zone": "floor"},
            {
                "name": "no-helmet",
                "kind": "missing_ppe",
                "zone": "floor",
                "priority": 0,
                "settings": {"bare": BARE, "seconds": 0.5},
            },
        ],
        "cameras": [
            {"name": name, "kind": "file", "path": str(videos / file), "zones": {"floor": ZONE}}
            for name, file in VIDEOS.items()
        ],
        "sinks": [
            {"name": "hub", "kind": "receiver", "address": hub_url, "token_env": "HUB_TOKEN"}
        ],
    }
    config = place.root / "edge.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def at_hub(database: str) -> tuple[list[StoredEvent], dict[str, Picture]]:
    """What the hub holds: events in the device's order, pictures by event."""
    engine = open_database(database)
    with Session(engine) as session:
        events = list(session.scalars(select(StoredEvent).order_by(StoredEvent.seq)))
        pictures = {one.event_id: one for one in session.scalars(select(Picture))}
    engine.dispose()
    return events, pictures


@pytest.mark.slow
def test_no_helmet_in_the_zone_is_an_event_with_a_picture_at_the_hub(
    tmp_path, signed, mirror, make_hub
) -> None:
    videos = Path(os.environ.get("VISIONLOOP_VIDEOS", "nowhere"))
    if not videos.is_dir():
        pytest.skip("VISIONLOOP_VIDEOS names no folder of videos")
    place = init(folder=tmp_path / "site", recipe="pcb")
    train_from(mirror / "hardhat.zip", place)
    release(place, signed[0])

    database = f"sqlite:///{tmp_path / 'hub.db'}"
    hub = make_hub(database)
    config = write_edge_config(place, videos, hub.url)
    # Both videos are over long before; what is left of the time is for the sender.
    words = ["serve", "edge", "--config", str(config), "--max-seconds", "75"]
    said = visionloop(place, *words, HUB_TOKEN=hub.token)
    assert hub.token not in said

    events, pictures = at_hub(database)
    told = {(one.payload["camera"], one.payload["rule"]) for one in events if "rule" in one.payload}
    assert ("hall", "no-helmet") in told
    assert ("worker", "helmet") in told
    assert ("worker", "no-helmet") not in told
    check_evidence(place, events, pictures)
    check_outbox(place, events)


def check_evidence(
    place: Workspace, events: list[StoredEvent], pictures: dict[str, Picture]
) -> None:
    """The event shows a bare head; its picture is at the hub, larger one and clip on the device."""
    event = next(one for one in events if one.payload.get("rule") == "no-helmet")
    assert (event.kind, event.priority) == ("missing_ppe", 0)
    assert event.payload["boxes"][0]["class_name"] == BARE
    sent = pictures[event.event_id]
    assert sha256_of_bytes(sent.content) == sent.sha256
    small = cv2.imdecode(np.frombuffer(sent.content, np.uint8), cv2.IMREAD_COLOR)
    full = cv2.imread(str(place.edge / event.payload["picture"]))
    assert full.shape == (432 + 22, 768, 3)
    # The same picture: a thumbnail of the one on the device.
    again = cv2.resize(full, small.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert 100 < small.shape[1] < full.shape[1]
    assert np.abs(again.astype(float) - small).mean() < 8 < small.std()
    with av.open(str(place.edge / event.payload["clip"])) as clip:
        assert sum(1 for _ in clip.decode(video=0)) > 20


def check_outbox(place: Workspace, events: list[StoredEvent]) -> None:
    """Everything that the device made is at the hub, in its order, and nothing waits."""
    made = read_events(place.edge / DATABASE_NAME)
    # Pictures travel the same way, as events of their own; the hub files them apart.
    assert [one.event_id for one in events] == [
        one.event_id for one in made if one.kind != "picture"
    ]
    connection = open_store(place.edge / DATABASE_NAME)
    assert Outbox(connection).pending() == []
    connection.close()
