"""The spine: package, release, cameras, rules, events with picture and clip, outbox."""

from __future__ import annotations

import json
import os

import av
import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.record.records import read_frames

PRESS = {"press": [[0.0, 0.3], [0.75, 0.3], [0.75, 1.0], [0.0, 1.0]]}
ENTRY = {"name": "somebody", "kind": "zone_entry", "class_name": "vest", "zone": "press"}
HELMET = {
    "name": "no-helmet",
    "kind": "missing_ppe",
    "zone": "press",
    "priority": 0,
    "settings": {"person": "vest", "ppe": "helmet", "part": [-1.0, 0.5]},
}


def test_a_worker_without_helmet_in_the_zone_is_told_with_picture_and_clip(
    device, worker_frames, film
):
    root = device.workspace.root
    film.write(root / "bare.mp4", [film.take_helmet_off(image) for image in worker_frames])
    film.write(root / "worn.mp4", worker_frames)
    cameras = [
        {"name": name, "kind": "file", "path": f"{name}.mp4", "zones": PRESS, "rules": rules}
        for name, rules in (("bare", [ENTRY, HELMET]), ("worn", [ENTRY, HELMET]))
    ]
    device.write_config(cameras, evidence={"clip_before_s": 1.0, "clip_after_s": 0.2})
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=60)
    assert report.release == 1 and report.frames > 10
    events = read_events(report.db)
    assert {(event.payload["camera"], event.payload["rule"]) for event in events} == {
        ("bare", "somebody"),
        ("worn", "somebody"),
        ("bare", "no-helmet"),
    }
    assert report.events == len(events)
    (bare,) = [event for event in events if event.payload["rule"] == "no-helmet"]
    assert (bare.kind, bare.priority, bare.payload["zone"]) == ("missing_ppe", 0, "press")
    assert bare.payload["facts"] == {"missing": "helmet", "count": 1}
    assert [box["class_name"] for box in bare.payload["boxes"]] == ["vest"]
    picture = cv2.imread(str(device.workspace.edge / bare.payload["picture"]))
    assert picture.shape == (270 + 22, 480, 3)
    with av.open(str(device.workspace.edge / bare.payload["clip"])) as clip:
        shown = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
    assert len(shown) > 5 and shown[0].shape == (270, 480, 3)
    recorded = [frame.sample_id for frame in read_frames(report.db)]
    assert bare.payload["sample_id"] in recorded


def test_the_gif_itself_is_a_camera_and_its_clip_can_be_played(device, worker_frames):
    path = os.path.join(os.environ["VISIONLOOP_VIDEOS"], "worker-zone-detection.gif")
    device.write_config(
        [{"name": "gate", "kind": "file", "path": path, "zones": PRESS, "rules": [ENTRY, HELMET]}],
        evidence={"clip_after_s": 0.5},
    )
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=60)
    (event,) = (one for one in read_events(report.db) if "rule" in one.payload)
    assert event.payload["rule"] == "somebody"
    with av.open(str(device.workspace.edge / event.payload["clip"])) as clip:
        assert next(clip.decode(video=0)).width == 480


def test_the_region_is_all_that_the_model_sees_and_boxes_are_of_the_whole_frame(
    device, worker_frames, film
):
    root = device.workspace.root
    film.write(root / "worn.mp4", worker_frames)
    everywhere = {"name": "vest", "kind": "forbidden_class", "class_name": "vest"}
    camera = {"name": "c", "kind": "file", "path": "worn.mp4", "rules": [everywhere]}
    device.write_config([camera | {"region": [0.0, 0.2, 0.8, 1.0]}])
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=60)
    event = read_events(report.db)[0]
    x1, y1, x2, y2 = event.payload["boxes"][0]["xyxy"]
    image = read_events(report.db)[0].payload["picture"]
    picture = cv2.imread(str(device.workspace.edge / image))[22:]
    inside = picture[int(y1) + 12 : int(y2) - 12, int(x1) + 12 : int(x2) - 12].astype(int)
    assert (inside[..., 2] - inside[..., 0] > 60).mean() > 0.5  # orange is there
    (root / "edge" / "outbox.db").unlink()
    device.write_config([camera | {"region": [0.0, 0.0, 1.0, 0.2]}])
    assert run_agent(workspace=device.workspace, config=device.config).events == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"zones": {"press": [[0, 0], [1, 1]]}}, "needs at least 3 points"),
        ({"zones": {"press": [[0, 0], [1, 1], [2, 0]]}}, "no [x, y] in 0 to 1"),
        ({"zones": {}}, "camera 'c', rule 'no-helmet': there is no zone 'press'"),
        ({"rules": [HELMET, HELMET]}, "two rules of the same name"),
        ({"rules": [HELMET | {"settings": {"bare": "hat"}}]}, "the package has no class 'hat'"),
        ({"rules": [HELMET | {"settings": {"prson": "vest"}}]}, "settings.prson"),
        ({"thresholds": {"night": {"hat": 0.5}}}, "thresholds.night names unknown classes: hat"),
        ({"schedule": [{"begin": "25:00"}]}, "schedule"),
        ({"plane": "plane.json"}, "its plane"),
        ({"prioritty": 1}, "did you mean 'priority'"),
    ],
)
def test_a_wrong_camera_is_said_before_anything_starts(device, change, said):
    camera = {"name": "c", "kind": "file", "path": "x.mp4", "zones": PRESS, "rules": [HELMET]}
    device.write_config([camera | change])
    with pytest.raises(ConfigError) as caught:
        run_agent(workspace=device.workspace, config=device.config)
    assert said in str(caught.value)


def test_events_of_the_same_frame_and_rule_have_pictures_of_their_own(device, worker_frames, film):
    both = [np.hstack([image[:, :240], image[:, :240]]) for image in worker_frames[20:60]]
    film.write(device.workspace.root / "twins.mp4", both)
    rule = {"name": "in", "kind": "zone_entry", "class_name": "vest"}
    device.write_config([{"name": "c", "kind": "file", "path": "twins.mp4", "rules": [rule]}])
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=60)
    events = read_events(report.db)
    assert len(events) == 2
    pictures = {event.payload["picture"] for event in events}
    assert len(pictures) == 2
    assert all((device.workspace.edge / name).is_file() for name in pictures)
    tracks = {event.payload["facts"]["track"] for event in events}
    assert len(tracks) == 2, json.dumps([event.payload for event in events])
