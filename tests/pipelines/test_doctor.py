"""``visionloop doctor`` finds what is there and names the fix for what is not."""

from __future__ import annotations

import socket
from pathlib import Path

from visionloop.core.workspace import Workspace
from visionloop.pipelines import doctor


def by_subject(tmp_path: Path) -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.diagnose(Workspace(tmp_path))}


def test_this_machine_has_what_the_tests_need(tmp_path: Path) -> None:
    found = by_subject(tmp_path)
    assert found["Python"].verdict == "ok"
    assert found["git"].verdict == "ok"
    assert found["extra edge"].verdict == "ok"
    assert found["disk"].verdict in ("ok", "problem")


def test_a_port_in_use_is_said(tmp_path: Path, monkeypatch) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        monkeypatch.setattr(doctor, "PORTS", {"MLflow": port})
        finding = by_subject(tmp_path)[f"port {port}"]
    assert finding.verdict == "note"
    assert "in use" in finding.found
    assert finding.fix


def test_problems_name_their_fix(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("VISIONLOOP_MIRROR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("VISIONLOOP_SIGNING_KEY", str(tmp_path / "no-key.pem"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setitem(doctor.STAGE_LIBRARIES, "imagined", ("no-such-library",))
    found = by_subject(tmp_path)
    assert found["VISIONLOOP_MIRROR"].verdict == "problem"
    assert found["VISIONLOOP_SIGNING_KEY"].fix == "visionloop keys new"
    assert found["MLflow"].verdict == "problem"
    assert found["extra imagined"].fix == "pip install 'visionloop[imagined]'"
