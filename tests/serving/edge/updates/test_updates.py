"""A new release takes over: verified, beside the old one, and back again if it is bad.

O1: killed at every step the device has the old release or the new one, never none.
O2: bad signatures and old indexes are refused. O3: what fails or is slow is rolled back.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from visionloop.core.errors import DataError, PackageError
from visionloop.core.files import read_json, write_bytes
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.updates.model_state import ModelState
from visionloop.serving.edge.updates.release_source import ReleaseFolder
from visionloop.serving.edge.updates.shadow import Shadow
from visionloop.serving.edge.updates.takeover import Updates
from visionloop.serving.edge_params import EdgeParams, UpdateParams
from visionloop.serving.engines.record import ENGINE_MANIFEST, ENGINE_SIGNATURE
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.golden import GOLDEN_NAME, check_golden, write_golden
from visionloop.serving.signing import sign_folder

FAST = UpdateParams(
    look_s=0.05, shadow_frames=2, shadow_s=0.5, probation_s=0.5, max_faults=2, max_slowdown=1e3
)
BRIGHT = np.full((272, 480, 3), 200, np.uint8)


class Box:
    """Updates of a device without cameras, and what it reported."""

    def __init__(self, device, params: UpdateParams = FAST) -> None:
        self.told: list[tuple[str, dict]] = []
        self.device = device
        device.workspace.edge.mkdir(exist_ok=True)
        self.updates = Updates(
            folder=device.workspace.edge,
            releases=ReleaseFolder(device.workspace.releases),
            model="ppe",
            params=EdgeParams(threads=1, updates=params),
            report=lambda what, facts: self.told.append((what, facts)),
        )
        self.model = self.updates.open()

    def work(
        self, seconds: float = 8.0, until=lambda: False, fits=lambda model: None, shadow=True
    ) -> None:
        """Answer frames as the agent does; without ``shadow`` none comes while it lasts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            model = self.updates.step(fits)
            if model is not None:
                self.model = model
            try:
                answers = self.model.predictor.predict([BRIGHT])
                if self.updates.shadow is not None and shadow:
                    self.updates.shadow.look([BRIGHT], answers, 0.01)
            except PackageError:
                self.updates.note_fault()
            time.sleep(0.02)

    def words(self) -> list[str]:
        return [what for what, _ in self.told]


def test_a_new_release_takes_over_and_is_good_after_probation(device):
    box = Box(device)
    assert box.model.number == 1
    assert device.publish("second", gain=1.1) == 2
    box.work(until=lambda: "switched" in box.words())
    assert box.model.number == 2 and box.updates.state.phase == "probation"
    copies = device.workspace.edge / "models"
    assert {one.name for one in copies.iterdir()} == {"1", "2"}
    box.work(until=lambda: "good" in box.words())
    assert box.words() == ["switched", "good"]
    assert box.told[0][1]["before"] == 1 and box.told[0][1]["agreement"] == 1.0
    state = read_json(device.workspace.edge / "model.json")
    assert ModelState.model_validate(state).current == 2
    assert Box(device).model.number == 2


def test_it_goes_on_without_the_releases_folder(device):
    Box(device)
    shutil.rmtree(device.workspace.releases)
    box = Box(device)
    assert box.model.number == 1
    box.work(seconds=0.5)
    assert box.words() == []


def test_o2_a_changed_package_is_rejected_and_the_old_one_serves(device, capsys):
    box = Box(device)
    device.publish("second")
    model = device.workspace.releases / "ppe" / "2" / "package" / "model.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    box.work(seconds=1.0)
    assert box.model.number == 1 and box.updates.state.current == 1
    assert "changed after signing" in capsys.readouterr().err
    assert box.words() == ["index refused"]


def test_o2_an_old_index_is_refused(device, capsys):
    index = device.workspace.releases / "index.json"
    old = index.read_bytes()
    device.publish("second", gain=1.1)
    box = Box(device)
    assert box.model.number == 2
    write_bytes(index, old)
    box.work(seconds=2.0)
    assert box.model.number == 2
    assert "is older" in capsys.readouterr().err
    assert box.words() == ["index refused"]  # told once, though it was looked at often
    assert "is older" in box.told[0][1]["reason"]


def test_o3_what_fails_in_the_shadow_is_never_switched_to(device):
    box = Box(device)
    device.publish("broken", gain=float("nan"))
    box.work(until=lambda: bool(box.told))
    assert box.words() == ["rejected"] and "fails in the shadow" in box.told[0][1]["reason"]
    assert box.model.number == 1
    box.work(seconds=0.5)
    assert box.words() == ["rejected"]  # not tried again
    device.publish("third", gain=1.2)
    box.work(until=lambda: "good" in box.words())
    assert box.model.number == 3


def test_o3_what_fails_in_probation_is_rolled_back_within_seconds(device):
    hasty = FAST.model_copy(update={"shadow_frames": 0, "probation_s": 30.0})
    box = Box(device, hasty)
    device.publish("broken", gain=float("nan"))
    box.work(until=lambda: "switched" in box.words(), shadow=False)
    began = time.monotonic()
    box.work(until=lambda: "rolled back" in box.words())
    assert time.monotonic() - began < 5
    assert box.model.number == 1 and box.updates.state.current == 1
    assert box.told[-1][1] == {"number": 2, "to": 1, "reason": "failed 2 times in probation"}
    assert Box(device).model.number == 1


def test_o3_an_agent_that_ends_again_and_again_with_it_rolls_back(device):
    hasty = FAST.model_copy(update={"shadow_frames": 0, "probation_s": 600.0})
    box = Box(device, hasty)
    device.publish("second", gain=1.1)
    box.work(until=lambda: "switched" in box.words())
    assert [Box(device, hasty).model.number for _ in range(4)] == [2, 2, 1, 1]


def test_o3_what_is_slow_or_disagrees_is_rejected(device):
    old = load_package(device.workspace.releases / "ppe" / "1" / "package")
    model = type("Loaded", (), {"predictor": Predictor(old, threads=1), "number": 2})()
    yellow = np.full((272, 480, 3), (40, 200, 220), np.uint8)
    answers = model.predictor.predict([yellow])
    assert len(answers[0].answer)
    params = EdgeParams(updates=FAST.model_copy(update={"max_slowdown": 2.0}))
    slow = Shadow(model, params)
    for _ in range(2):
        slow.look([yellow], answers, seconds=1e-6)
    assert "times as slow" in slow.verdict()
    strict = EdgeParams(updates=FAST.model_copy(update={"minimum_agreement": 0.9}))
    other = Shadow(model, strict)
    for _ in range(2):
        other.look([yellow], model.predictor.predict([BRIGHT]), seconds=1.0)
    assert "agrees with the old one on 0% only" in other.verdict()
    same = Shadow(model, strict)
    assert same.verdict() is None
    for _ in range(2):
        same.look([yellow], answers, seconds=1.0)
    assert same.verdict() == ""


def test_what_does_not_fit_the_cameras_is_rejected(device):
    box = Box(device)
    device.publish("second", gain=1.1)

    def fits(model) -> None:
        raise PackageError("camera 'gate'", "the package has no class 'helmet'")

    box.work(until=lambda: bool(box.told), fits=fits)
    assert "does not fit the cameras" in box.told[0][1]["reason"]
    assert box.model.number == 1


def golden_engine(device, folder, package, wrong: bool = False):
    """An engine folder as `serve build` makes it: no engine, golden images."""
    image = np.full((100, 160, 3), 90, np.uint8)
    image[20:80, 40:100] = (30, 190, 210)
    folder.mkdir()
    cv2.imwrite(str(folder / "a.png"), image)
    loaded = load_package(package)
    write_golden(folder / GOLDEN_NAME, Predictor(loaded, threads=1), [folder / "a.png"])
    (folder / "a.png").unlink()
    if wrong:
        path = folder / GOLDEN_NAME / "answers.json"
        content = json.loads(path.read_text())
        content["answers"][0]["xyxy"] = (np.array(content["answers"][0]["xyxy"]) + 60).tolist()
        path.write_text(json.dumps(content))
    manifest = {"package_sha256": loaded.sha256, "built": False, "reason": "test"}
    (folder / ENGINE_MANIFEST).write_text(json.dumps(manifest))
    sign_folder(folder, key=device.key, signature_name=ENGINE_SIGNATURE)
    return folder


@pytest.mark.parametrize("wrong", [False, True])
def test_golden_images_that_are_answered_otherwise_stop_the_release(device, tmp_path, wrong):
    box = Box(device)
    device.publish("draft", gain=1.1)  # makes the package that the engine names
    package = device.workspace.root / "draft"
    shutil.rmtree(device.workspace.releases / "ppe" / "2")
    index = device.workspace.releases / "index.json"
    index.unlink()
    shutil.rmtree(device.workspace.releases / "ppe" / "1")
    (device.workspace.edge / "seen.json").unlink()
    device.publish("again")
    engines = golden_engine(device, tmp_path / "engine", package, wrong)
    device.publish("draft", gain=1.1, engines=engines)
    box.work(until=lambda: bool(box.told))
    if wrong:
        assert box.words() == ["rejected"] and "golden images" in box.told[0][1]["reason"]
    else:
        assert box.words()[0] == "switched"


def test_the_golden_check_compares_every_kind_of_answer(tiny, tmp_path):
    image = tmp_path / "a.png"
    cv2.imwrite(str(image), np.full((40, 60, 3), 40, np.uint8))
    for package in (tiny.classifier(), tiny.detector()):
        predictor = Predictor(load_package(package), threads=1)
        folder = tmp_path / f"golden-{package.name}"
        write_golden(folder, predictor, [image])
        assert check_golden(folder, predictor).max_difference < 1e-5
    other = Predictor(load_package(tiny.classifier("other", gain=0.3)), threads=1)
    with pytest.raises(PackageError, match="answered otherwise"):
        check_golden(tmp_path / "golden-classifier", other)


PROGRAM = """
import sys, time, pathlib
from visionloop.serving.edge.updates.takeover import Updates
from visionloop.serving.edge.updates.release_source import ReleaseFolder
from visionloop.serving.edge.updates.shadow import Shadow
from visionloop.serving.edge_params import EdgeParams, UpdateParams
root = pathlib.Path(sys.argv[1])
params = UpdateParams(look_s=0.05, shadow_frames=0, probation_s=float(sys.argv[2]), max_faults=1)
updates = Updates(folder=root / "edge", releases=ReleaseFolder(root / "releases"), model="ppe",
                  params=EdgeParams(threads=1, updates=params), report=lambda *_: None)
model = updates.open()
print(model.number, flush=True)
end = time.monotonic() + 6
while time.monotonic() < end and not (root / "stop").exists():
    new = updates.step(lambda model: None)
    if new is not None and "fault" in sys.argv:
        updates.note_fault()
    if updates.state.phase == "good" and updates.state.current == 2:
        break
    if updates.state.rejected:
        break
    time.sleep(0.01)
updates.close()
print(updates.state.current, flush=True)
"""


@pytest.mark.parametrize(
    ("point", "fault"),
    [
        ("files.before_folder_rename:kill:1", False),
        ("updates.copied:kill:1", False),
        ("files.before_rename:kill:1", False),
        ("files.before_rename:kill:2", False),
        ("files.before_rename:kill:3", False),
        ("updates.before_switch:kill:1", False),
        ("updates.after_switch:kill:1", False),
        ("updates.after_good:kill:1", False),
        ("updates.rolled_back:kill:1", True),
    ],
)
def test_o1_killed_at_any_step_it_is_either_old_or_new(device, point, fault):
    root = device.workspace.root
    command = [sys.executable, "-c", PROGRAM, str(root), "0.2", *(["fault"] if fault else [])]
    assert Box(device).model.number == 1
    device.publish("second", gain=1.1)
    killed = subprocess.run(
        command,
        env={**os.environ, "VISIONLOOP_FAILPOINT": point},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert killed.returncode == -9, killed.stdout + killed.stderr
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 0, again.stderr
    began, ended = again.stdout.split()
    assert began in ("1", "2")
    assert ended == ("1" if fault else "2")
    left = [one.name for one in (root / "edge" / "models").iterdir() if one.name[0] != "."]
    assert ended in left


def test_the_running_agent_changes_its_model_without_a_gap(device, worker_frames, film):
    """The agent watches; a release is published meanwhile; frames go on, and the outbox says
    what happened."""
    film.write(device.workspace.root / "worn.mp4", worker_frames)
    rule = {"name": "vest", "kind": "detection_present", "class_name": "vest", "cooldown_s": 0.4}
    camera = {"name": "c", "kind": "file", "path": "worn.mp4", "loop": True, "rules": [rule]}
    device.write_config(
        [camera],
        updates={"look_s": 0.5, "shadow_frames": 5, "probation_s": 1.0, "max_slowdown": 1000.0},
        gate={"enabled": False},
        evidence={"clips": False},
    )
    agent = subprocess.Popen(
        [sys.executable, "-m", "visionloop.serving", "edge", "-w", str(device.workspace.root),
         "--config", str(device.config), "--max-seconds", "60"],
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    database = device.workspace.edge / "outbox.db"
    try:
        wait_for(lambda: bool(events_of(database)))
        device.publish("second", gain=1.1)
        kinds = ["switched", "good"]
        wait_for(lambda: [e.payload["what"] for e in updates_of(database)] == kinds)
        wait_for(lambda: len(packages_of(database)) == 2)
    finally:
        agent.terminate()
        said = agent.communicate(timeout=30)[1]
    assert agent.returncode == 0, said
    moments = [e.created_monotonic for e in read_events(database) if e.kind == "detection_present"]
    switched = updates_of(database)[0].created_monotonic
    around = [m for m in moments if abs(m - switched) < 5]
    assert np.diff(around).max() < 4


def events_of(database):
    """Events so far; none while the agent is still making its database."""
    try:
        return read_events(database)
    except DataError:
        return []


def packages_of(database):
    return {event.payload.get("package") for event in events_of(database)} - {None}


def updates_of(database):
    return [event for event in events_of(database) if event.kind == "model_update"]


def wait_for(what, limit_s: float = 45.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_m7_answers_that_are_no_numbers_make_no_event(device, worker_frames, film):
    """The only release fails on every frame: nothing is told, nothing crashes, it is counted."""
    shutil.rmtree(device.workspace.releases)
    device.publish("broken", gain=float("nan"))
    film.write(device.workspace.root / "worn.mp4", worker_frames[:30])
    rule = {"name": "vest", "kind": "detection_present", "class_name": ""}
    device.write_config([{"name": "c", "kind": "file", "path": "worn.mp4", "rules": [rule]}])
    report = run_agent(workspace=device.workspace, config=device.config, max_seconds=30)
    assert (report.frames, report.events) == (0, 0)
