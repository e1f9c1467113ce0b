"""``cameras.yaml``: what is refused, and that no password is shown by a refusal."""

from __future__ import annotations

import pytest
import yaml

from visionloop.core.errors import ConfigError
from visionloop.data.collection.cameras import load_cameras

SECRET = "hunter2"
GOOD = {
    "id": "line-1",
    "source": {"kind": "rtsp", "path": "rtsp://10.0.0.5/stream"},
    "schedule": {"every_s": 30},
}


@pytest.fixture
def load(tmp_path):
    """Load a file with one camera, its keys changed: ``load(quota=3)``; or a text."""

    def read(text: str = "", **changes):
        camera = {**GOOD, **changes}
        path = tmp_path / "cameras.yaml"
        path.write_text(text or yaml.safe_dump({"cameras": [camera]}, sort_keys=False))
        return load_cameras(path)

    return read


def test_a_short_file_is_enough(load):
    (camera,) = load().cameras
    assert camera.is_live and camera.quota is None and camera.schedule.frames == 1
    assert camera.diversity.hash_bits == 4 and not camera.calibration.undistort


def test_the_example_can_be_read(monkeypatch):
    from pathlib import Path

    example = Path(__file__).parents[3] / "examples" / "cameras.yaml"
    cameras = load_cameras(example).cameras
    assert {camera.source.kind for camera in cameras} == {"rtsp", "http", "folder", "file"}


def test_every_wrong_key_is_named_with_line_and_suggestion(load):
    with pytest.raises(ConfigError) as caught:
        load(quotta=3, schedule={"every_s": 30, "time_zone": "Europe/Berlim"}, burst={"frame": 3})
    said = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean 'quota'" in said and "no time zone 'Europe/Berlim'" in said
    assert "did you mean 'frames'" in said and "cameras.yaml:" in said


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": {"kind": "rtsp", "path": f"rtsp://u:{SECRET}@10.0.0.5/1"}}, "no place"),
        ({"source": {"kind": "http", "path": f"http://10.0.0.5/s?pwd={SECRET}"}}, "no place"),
        ({"source": {"kind": "rtsp", "path": f"rtsp://u:{SECRET}@[1/1"}}, "cannot be read"),
        ({"credentials": {"user": "u", "password": SECRET}}, "did you mean 'password_"),
        ({"credentials": {"user": "u", "password_env": f"{SECRET}!"}}, "name of an environment"),
        ({"credentials": {"user": "u", "password_env": "A", "password_file": "b"}}, "either"),
        ({"source": {"kind": "rtsp", "path": "10.0.0.5"}}, "rtsp://"),
        ({"source": {"kind": "ftp", "path": "x"}}, "'rtsp', 'http', 'folder' or 'file'"),
        ({"schedule": {}}, "either cron or every_s"),
        ({"schedule": {"cron": "61 * * * *"}}, "cannot be followed"),
        ({"schedule": {"cron": "* * *"}}, "3 fields"),
        ({"schedule": {"every_s": 1, "windows": [{"from": "6", "to": "25:00"}]}}, "time of day"),
        ({"attributes": {"camera": "x"}}, "fills itself"),
        ({"id": "../x"}, "pattern"),
    ],
    ids=str,
)
def test_what_is_refused_shows_no_password(load, changes, said):
    with pytest.raises(ConfigError) as caught:
        load(**changes)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_two_cameras_with_one_id_and_broken_yaml(load):
    with pytest.raises(ConfigError, match="two cameras have the id 'line-1'"):
        load(yaml.safe_dump({"cameras": [GOOD, GOOD]}))
    with pytest.raises(ConfigError) as caught:
        load(f"cameras:\n  - path: 'rtsp://u:{SECRET}@h/1\n    id: [")
    assert "not valid YAML" in str(caught.value) and SECRET not in repr(caught.value)


def test_the_password_may_stand_in_the_query_by_its_place(load):
    source = {"kind": "http", "path": "http://10.0.0.5/s?user={user}&pwd={password}"}
    (camera,) = load(source=source, credentials={"user": "u", "password_env": "CAM"}).cameras
    assert camera.source.path.endswith("{password}")


def test_a_missing_camera_is_answered_with_the_nearest(load):
    with pytest.raises(ConfigError, match="did you mean 'line-1'"):
        load().find("lin-1")
