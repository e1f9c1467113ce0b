"""The edge agent on real frames: events, records, restarts, kills, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid

import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError, DataError, InputError, PackageError
from visionloop.core.files import sha256_of_bytes, sha256_of_file
from visionloop.serving.edge.agent import run_agent
from visionloop.serving.edge.delivery.event_ids import new_event_id
from visionloop.serving.edge.delivery.outbox import Outbox, read_events
from visionloop.serving.edge.record.records import read_frames
from visionloop.serving.edge.record.store import open_store
from visionloop.serving.images import read_image
from visionloop.serving.releases.index import locked
from visionloop.serving.releases.store import publish

MONO = "{name: mono, camera: cam-1, kind: folder, path: line/mono, attributes: {cell_type: mono}}"
POLY = "{name: poly, camera: cam-1, kind: folder, path: line/poly, attributes: {cell_type: poly}}"
BRIGHT = "[{name: too-bright, kind: class_confidence, class_name: bright, priority: 0}]"
BOXES = "[{name: defect, kind: detection_present, minimum_confidence: 0.4}]"


@pytest.fixture
def line(make_workspace, make_line, tiny, gate_report):
    """A workspace with a release, a dark line and a bright line."""
    workspace = make_workspace(f"[{MONO}, {POLY}]", BRIGHT)
    make_line([20, 30, 40, 50], workspace.root / "line" / "mono")
    make_line([200, 60, 230], workspace.root / "line" / "poly")
    package = tiny.classifier()
    publish(releases=workspace.releases, model="tiny", package=package, gate_report=gate_report)
    return workspace


def test_frames_events_and_files(line):
    report = run_agent(workspace=line)
    assert (report.frames, report.events, report.kept, report.release) == (7, 2, 7, 1)
    frames = read_frames(report.db)
    assert [f.sequence for f in frames] == [0, 1, 2, 3, 0, 1, 2]
    assert [f.attributes["cell_type"] for f in frames] == ["mono"] * 4 + ["poly"] * 3
    assert {f.camera for f in frames} == {"cam-1"}
    originals = sorted((line.root / "line").rglob("*.png"))
    assert [f.sample_id for f in frames] == [sha256_of_file(path) for path in originals]
    for frame, original in zip(frames, originals, strict=True):
        assert frame.image.read_bytes() == original.read_bytes()
        assert frame.probabilities.sum() == pytest.approx(1)
        assert frame.embedding.shape == (3,)
        assert frame.detections is None
        assert set(frame.statistics) == {"luminance", "contrast", "blur", "noise"}
    assert frames[4].statistics["luminance"] == pytest.approx(200, abs=2)
    assert len(read_frames(report.db, cameras=["other"])) == 0


def test_events_are_complete_and_carry_a_picture(line):
    report = run_agent(workspace=line)
    events = read_events(report.db)
    frames = read_frames(report.db)
    assert [event.payload["sequence"] for event in events] == [0, 2]
    assert [event.seq for event in events] == [1, 2]
    for event in events:
        assert (event.kind, event.priority, event.acknowledged) == ("class_confidence", 0, False)
        assert event.payload["class_name"] == "bright"
        assert event.payload["confidence"] > 0.5
        assert event.payload["package"] == frames[0].package
        assert event.payload["attributes"] == {"cell_type": "poly"}
        assert event.payload["sample_id"] in {frame.sample_id for frame in frames}
        picture = cv2.imread(str(line.edge / event.payload["picture"]))
        assert picture.shape == (62, 60, 3)
        text = json.dumps(event.payload, sort_keys=True, separators=(",", ":")).encode()
        assert event.sha256 == sha256_of_bytes(text)


def test_boxes_are_recorded_and_drawn(make_workspace, make_line, tiny, gate_report):
    workspace = make_workspace(f"[{MONO}]", BOXES, task="detection")
    make_line([20, 240], workspace.root / "line" / "mono")
    package = tiny.detector()
    publish(releases=workspace.releases, model="tiny", package=package, gate_report=gate_report)
    report = run_agent(workspace=workspace)
    (event,) = read_events(report.db)
    assert [box["class_name"] for box in event.payload["boxes"]] == ["open", "short"]
    first, second = read_frames(report.db)
    assert len(first.detections) == 0
    assert len(second.detections) == 2
    assert second.probabilities is None
    assert second.embedding is None
    picture = cv2.imread(str(workspace.edge / event.payload["picture"]))
    original = read_image(second.image)
    x1, _, x2, _ = second.detections.xyxy[0].round().astype(int)
    changed = np.abs(picture[22:].astype(int) - original).max(axis=2) > 60
    assert changed[:, x1 : x2 + 1].any()


def test_a_second_run_adds_nothing_and_new_files_are_played(line, make_line):
    first = run_agent(workspace=line)
    again = run_agent(workspace=line)
    assert (again.frames, again.events) == (0, 0)
    make_line([200, 60, 230, 250], line.root / "line" / "poly")
    more = run_agent(workspace=line)
    assert (more.frames, more.events) == (1, 1)
    assert len(read_frames(first.db)) == 8


def test_a_newer_release_serves_at_the_next_start(line, tiny, gate_report, make_line):
    run_agent(workspace=line, max_frames=2)
    package = tiny.classifier("better", gain=3.0)
    publish(releases=line.releases, model="tiny", package=package, gate_report=gate_report)
    report = run_agent(workspace=line)
    assert report.release == 2
    assert len({frame.package for frame in read_frames(report.db)}) == 2


def test_the_share_that_is_kept_is_the_same_every_time(line, make_line):
    make_line(range(0, 200, 5), line.root / "line" / "mono")
    text = line.params.read_text().replace("keep_share: 1.0", "keep_share: 0.4")
    line.params.write_text(text)
    report = run_agent(workspace=line)
    kept = [f.sample_id for f in read_frames(report.db) if f.image is not None]
    assert report.kept == len(kept) == len(list((line.edge / "frames").iterdir()))
    assert 8 <= len(kept) <= 27
    (line.edge / "outbox.db").unlink()
    again = run_agent(workspace=line)
    assert [f.sample_id for f in read_frames(again.db) if f.image is not None] == kept


@pytest.mark.parametrize(
    "point",
    [
        "agent.before_commit:kill:1",
        "agent.before_commit:kill:6",
        "agent.after_commit:kill:3",
        "files.before_rename:kill:5",
    ],
)
def test_a_kill_loses_nothing_and_doubles_nothing(line, point):
    """Ledger: after a kill anywhere and a restart, each frame and event is there once."""
    command = [sys.executable, "-m", "visionloop.serving", "edge", "-w", str(line.root)]
    killed = subprocess.run(
        command, env={**os.environ, "VISIONLOOP_FAILPOINT": point}, capture_output=True, check=False
    )
    assert killed.returncode == -9
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    frames = read_frames(line.edge / "outbox.db")
    assert [(f.source, f.sequence) for f in frames] == [
        *(("mono", n) for n in range(4)),
        *(("poly", n) for n in range(3)),
    ]
    assert all(f.image.is_file() for f in frames)
    events = read_events(line.edge / "outbox.db")
    assert [event.payload["sequence"] for event in events] == [0, 2]
    assert all((line.edge / event.payload["picture"]).is_file() for event in events)


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(line):
    command = [sys.executable, "-m", "visionloop.serving", "edge", "-w", str(line.root)]
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "agent.before_commit:interrupt:3"}
    stopped = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert stopped.returncode == 130
    assert "Traceback" not in stopped.stderr
    assert len(read_frames(line.edge / "outbox.db")) == 2
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "5 frames" in done.stdout
    assert "next: visionloop monitor summarise" in done.stdout


def test_acknowledged_events_leave_the_queue_urgent_first(tmp_path):
    connection = open_store(tmp_path / "outbox.db")
    outbox = Outbox(connection)
    with connection:
        ids = [
            outbox.append(kind="k", priority=p, created_at="2026-01-01T00:00:00Z", payload={"n": n})
            for n, p in enumerate([5, 0, 5])
        ]
    assert [event.payload["n"] for event in outbox.pending()] == [1, 0, 2]
    assert outbox.acknowledge([ids[1], ids[1], "unknown"]) == 1
    assert [event.payload["n"] for event in outbox.pending(limit=1)] == [0]
    assert [event.acknowledged for event in read_events(tmp_path / "outbox.db")] == [0, 1, 0]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_event_ids_are_version_7_and_ordered_by_time(monkeypatch):
    clock = iter(range(1_000_000_000_000_000_000, 2_000_000_000_000_000_000, 10**15))
    monkeypatch.setattr("time.time_ns", lambda: next(clock))
    ids = [new_event_id() for _ in range(50)]
    assert all(uuid.UUID(i).version == 7 and uuid.UUID(i).variant == uuid.RFC_4122 for i in ids)
    assert ids == sorted(ids)


def test_damaged_files_are_skipped_and_told(line, capsys):
    folder = line.root / "line" / "mono"
    (folder / "0001.png").write_bytes((folder / "0001.png").read_bytes()[:200])
    (folder / "0002.png").write_bytes(b"")
    report = run_agent(workspace=line)
    assert report.frames == 5
    told = capsys.readouterr().err
    assert "0001.png: is truncated" in told
    assert "0002.png: is empty" in told
    assert run_agent(workspace=line).frames == 0


def test_configuration_errors(line, tmp_path):
    text = line.params.read_text()

    def refusal(old, new):
        line.params.write_text(text.replace(old, new))
        with pytest.raises((ConfigError, DataError)) as caught:
            run_agent(workspace=line)
        return str(caught.value)

    assert "the package has no class 'brigt'" in refusal("class_name: bright", "class_name: brigt")
    assert "did you mean 'class_confidence'" in refusal("class_confidence", "class_confidenc")
    assert "did you mean 'folder'" in refusal("kind: folder", "kind: foldr")
    assert "there is no folder" in refusal("line/mono", "line/mno")
    assert "did you mean 'keep_share'" in refusal("keep_share", "keep_shar")
    assert "same name" in refusal("name: poly", "name: mono")
    assert "there are no sources" in refusal(f"[{MONO}, {POLY}]", "[]")
    assert not (line.edge / "outbox.db").exists() or not read_frames(line.edge / "outbox.db")


def test_a_separate_configuration_file(line, tmp_path):
    config = tmp_path / "edge.yaml"
    config.write_text(f"model: tiny\nsources: [{POLY}]\nrules: {BRIGHT}\n")
    assert run_agent(workspace=line, config=config).frames == 3


def test_without_a_verified_release_nothing_runs(line):
    package = line.releases / "tiny" / "1" / "package" / "model.onnx"
    content = bytearray(package.read_bytes())
    content[80] ^= 1
    package.write_bytes(content)
    with pytest.raises(PackageError, match="changed after signing"):
        run_agent(workspace=line)
    assert read_frames(line.edge / "outbox.db") == []


def test_tensorrt_falls_back_and_says_so(line, capsys):
    text = line.params.read_text().replace("keep_share", "backend: tensorrt\n    keep_share")
    line.params.write_text(text)
    assert run_agent(workspace=line).frames == 7
    assert "ONNX Runtime serves while the tensorrt engine is prepared" in capsys.readouterr().err


def test_one_agent_at_a_time(line):
    with (
        locked(line.edge / "agent.lock", wait=False),
        pytest.raises(InputError, match="another process"),
    ):
        run_agent(workspace=line)


def test_readers_refuse_what_is_no_database(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_frames(tmp_path / "missing.db")
    (tmp_path / "text.db").write_text("this is not a database, " * 100)
    for action in (read_frames, read_events, open_store):
        with pytest.raises(DataError, match=r"database|cannot be used"):
            action(tmp_path / "text.db")


def test_a_copied_database_can_be_read_where_nothing_can_be_written(line, tmp_path):
    report = run_agent(workspace=line)
    copied = tmp_path / "copied"
    copied.mkdir()
    (copied / "outbox.db").write_bytes(report.db.read_bytes())
    (copied / "outbox.db").chmod(0o444)
    copied.chmod(0o555)
    try:
        assert len(read_frames(copied / "outbox.db")) == 7
    finally:
        copied.chmod(0o755)


def test_the_edge_imports_no_training_library():
    program = (
        "import sys\n"
        "import visionloop.serving.edge.agent, visionloop.serving.edge.record.pictures\n"
        "import visionloop.serving.backends.onnxruntime_backend, onnxruntime, cv2\n"
        "import visionloop.serving.backends.tensorrt_backend, visionloop.serving.tuning.latency\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'pyarrow', 'sklearn', 'scipy', 'onnx', 'PIL',\n"
        "         'timm', 'ultralytics', 'dvc', 'fastapi', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
