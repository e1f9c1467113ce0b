"""Ports, processes, environments, credentials: what can go wrong before the server answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from visionloop.core.errors import InputError, UnreachableError, VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling import server
from visionloop.labeling.client import connect
from visionloop.labeling.environment import ensure_label_studio, find_label_studio, find_uv
from visionloop.labeling.processes import free_port, is_running, start_time, stop_process
from visionloop.labeling.push import push
from visionloop.labeling.state import ServerAddress, credentials, only_one, save_address

# Stands in for a Label Studio that ends at once, and says a secret while doing so.
DYING = "#!/bin/sh\necho password=hunter2\necho cannot start\nexit 1\n"


def test_port_in_use_is_told_and_nothing_is_started(project) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="is in use") as caught:
            server.start(project.cells, port=taken.getsockname()[1])
    assert caught.value.exit_code == 2
    assert "labeling.port" in caught.value.next_step
    assert server.status(project.cells).address is None


def test_a_server_that_ends_while_starting_shows_the_end_of_its_log(project, monkeypatch) -> None:
    fake = project.cells.root / "label-studio"
    fake.write_text(DYING)
    fake.chmod(0o755)
    monkeypatch.setenv("VISIONLOOP_LABEL_STUDIO", str(fake))
    server.start(project.cells, port=0)
    with pytest.raises(VisionloopError, match="ended while starting") as caught:
        server.wait_ready(project.cells, seconds=20)
    assert "cannot start" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert server.status(project.cells).address is None


def test_unreachable_server_is_told_within_seconds(project) -> None:
    with pytest.raises(UnreachableError, match="was not started"):
        connect(project.cells)
    save_address(project.cells, ServerAddress(1, "0", 9, f"http://127.0.0.1:{free_port()}"))
    project.select(project.cells, project.ids[:5])
    begun = time.monotonic()
    with pytest.raises(UnreachableError) as caught:
        push(workspace=project.cells)
    assert time.monotonic() - begun < 15
    assert "visionloop up" in caught.value.next_step
    assert not (project.cells.studio_state / "pushed.json").exists()


def test_a_process_is_not_mistaken_for_a_later_one_of_the_same_id() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = start_time(process.pid)
    assert is_running(process.pid, started)
    assert not is_running(process.pid, "another time")
    stop_process(process.pid, "another time")
    assert process.poll() is None
    stop_process(process.pid, started)
    assert not is_running(process.pid, started)
    process.wait()


def test_stop_without_a_server(project) -> None:
    assert server.stop(project.cells) is False


def test_credentials_are_random_kept_and_closed_to_others(project, tmp_path) -> None:
    first = credentials(project.cells)
    assert credentials(project.cells) == first
    path = project.cells.studio_state / "credentials.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert first.password not in repr(first)
    assert credentials(Workspace(tmp_path / "other")).password != first.password


def test_lost_credentials_are_told(project) -> None:
    data = project.cells.studio_state / "server"
    data.mkdir(parents=True)
    (data / "label_studio.sqlite3").touch()
    with pytest.raises(VisionloopError, match="is missing"):
        credentials(project.cells)


def test_two_at_once_are_refused(project) -> None:
    with (
        only_one(project.cells, "push"),
        pytest.raises(VisionloopError, match="another 'push' is running"),
        only_one(project.cells, "push"),
    ):
        pass


def test_the_second_may_wait_for_the_first(project) -> None:
    first = only_one(project.cells, "pull")
    first.__enter__()
    timer = threading.Timer(0.5, lambda: first.__exit__(None, None, None))
    timer.start()
    begun = time.monotonic()
    with only_one(project.cells, "pull", wait=30):
        assert 0.4 < time.monotonic() - begun < 20
    timer.join()


def test_label_studio_and_uv_are_found_where_they_may_be(project, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("VISIONLOOP_LABEL_STUDIO", sys.executable)
    assert str(find_label_studio(project.cells)) == sys.executable
    monkeypatch.setenv("VISIONLOOP_LABEL_STUDIO", str(tmp_path / "no such file"))
    environment = project.cells.root / ".venv-label-studio"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "label-studio").write_text(DYING)
    (environment / "bin" / "label-studio").chmod(0o755)
    assert find_label_studio(project.cells) != environment / "bin" / "label-studio"  # half made
    (environment / ".installed").touch()
    assert find_label_studio(project.cells) == environment / "bin" / "label-studio"
    monkeypatch.setenv("VISIONLOOP_UV", sys.executable)
    assert str(find_uv(project.cells)) == os.path.abspath(sys.executable)


def test_no_label_studio_and_no_uv(project, monkeypatch) -> None:
    from visionloop.labeling import environment

    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("VISIONLOOP_UV", raising=False)
    monkeypatch.delenv("VISIONLOOP_LABEL_STUDIO", raising=False)
    monkeypatch.setattr(environment, "REPOSITORY", project.cells.root)
    with pytest.raises(InputError) as caught:
        ensure_label_studio(project.cells)
    assert len(caught.value.problems) == 3


@pytest.mark.slow
def test_the_environment_is_installed_from_the_lock(project, monkeypatch) -> None:
    """Half a minute with warm caches; an interrupted installation is gone on with."""
    from visionloop.labeling import environment

    if find_uv(project.cells) is None:
        pytest.skip("uv is not installed")
    monkeypatch.delenv("VISIONLOOP_LABEL_STUDIO", raising=False)
    locks = project.cells.root / "locks"
    locks.mkdir()
    lock = environment.REPOSITORY / "locks" / "label-studio.txt"
    (locks / "label-studio.txt").write_bytes(lock.read_bytes())
    monkeypatch.setattr(environment, "find_label_studio", lambda workspace: None)
    found = ensure_label_studio(project.cells)
    assert found.parents[2] == project.cells.root
    done = subprocess.run([str(found), "version"], capture_output=True, text=True)
    assert "1.23.2" in done.stdout
