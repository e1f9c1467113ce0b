"""The command itself: it stops without losing a request, and replicas stand in for each other."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

EXAMPLE = Path(__file__).parents[3] / "deploy" / "nginx" / "visionloop.conf"


def send(url: str, headers, content: bytes) -> httpx.Response:
    headers = {**headers, "Content-Type": "image/png"}
    return httpx.post(
        f"{url}/v1/predict", content=content, headers=headers, timeout=30, trust_env=False
    )


def test_sigterm_not_ready_at_once_still_answering_then_gone(
    make_plant, slow_classifier, start_command, wait_until, bearer, kit, png
) -> None:
    plant = make_plant(drain_s=3.0, lanes=1)
    plant.release(slow_classifier(layers=60))
    server = start_command(plant.workspace)
    files = [("f", (f"{n}.png", png(kit.grey_image(99, seed=n)))) for n in range(16)]
    server.kill(signal.SIGTERM)
    began = time.monotonic()
    wait_until(lambda: server.status("/readyz") == 503, seconds=3)
    assert server.status("/healthz") == 200
    single = send(server.url, bearer, png(kit.grey_image(99)))
    assert single.status_code == 200
    assert single.headers["connection"] == "close"  # who keeps a connection must look elsewhere
    late: list[httpx.Response] = []

    def ask() -> None:
        # Sent while it drains, answered (more than half a second of work) when it has stopped
        # listening.
        time.sleep(max(0.0, 2.6 - (time.monotonic() - began)))
        options = {"headers": bearer, "timeout": 30, "trust_env": False}
        late.append(httpx.post(f"{server.url}/v1/predict", files=files, **options))

    thread = threading.Thread(target=ask)
    thread.start()
    assert server.process.wait(timeout=30) == 0
    thread.join()
    assert late[0].status_code == 200
    assert len(late[0].json()["predictions"]) == 16
    assert server.status("/healthz") == 0


def test_a_taken_port_and_a_short_token_end_with_one_screen(
    make_plant, start_command, tiny
) -> None:
    plant = make_plant()
    plant.release(tiny.classifier())
    server = start_command(plant.workspace)
    command = [sys.executable, "-m", "visionloop.serving", "http", "-w", str(plant.workspace.root)]

    def run(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, "--port", str(server.port)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )

    taken = run(VISIONLOOP_HTTP_TOKEN="another-token-of-the-tests")
    assert taken.returncode == 2
    assert "cannot listen" in taken.stderr and "Traceback" not in taken.stderr
    short = run(VISIONLOOP_HTTP_TOKEN="secret-word")
    assert short.returncode == 2
    assert "fewer than 16" in short.stderr and "secret-word" not in short.stderr


@pytest.fixture
def nginx(start_nginx):
    """Start nginx with our example, its three ports exchanged for these."""

    def start(port: int, replicas: list[int]) -> str:
        ports = {"8600": port, "8601": replicas[0], "8602": replicas[1]}
        text = EXAMPLE.read_text()
        start_nginx(re.sub(r"(?<=127\.0\.0\.1:)\d+", lambda m: str(ports[m[0]]), text))
        return f"http://127.0.0.1:{port}"

    return start


def test_a_killed_replica_behind_nginx_costs_no_request(
    make_plant, slow_classifier, start_command, nginx, wait_until, bearer, kit, png, free_port
) -> None:
    plant = make_plant(lanes=1, drain_s=0.5)
    plant.release(slow_classifier(layers=6))
    replicas = [start_command(plant.workspace), start_command(plant.workspace)]
    url = nginx(free_port(), [one.port for one in replicas])
    content = png(kit.grey_image(99))
    wait_until(lambda: _is_up(url, bearer))
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            statuses.append(send(url, bearer, content).status_code)
            time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: statuses.count(200) > 20)
    assert all(_answered(one, bearer) > 0 for one in replicas)  # both were asked
    replicas[0].kill(signal.SIGKILL)
    before = statuses.count(200)
    wait_until(lambda: statuses.count(200) > before + 20)
    # The other is stopped as an orchestrator stops it, when a new one stands in the first's place.
    third = start_command(plant.workspace, "--port", str(replicas[0].port))
    wait_until(lambda: _answered(third, bearer) > 0)
    replicas[1].kill(signal.SIGTERM)
    assert replicas[1].process.wait(timeout=30) == 0
    before = statuses.count(200)
    wait_until(lambda: statuses.count(200) > before + 20)
    is_over.set()
    for thread in threads:
        thread.join()
    # Busy is an answer: it is what a client is told to expect. Nothing else may be seen.
    assert set(statuses) <= {200, 429}, statuses


def _is_up(url: str, bearer) -> bool:
    try:
        found = httpx.get(f"{url}/readyz", headers=bearer, timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return found.status_code == 200


def _answered(server, bearer) -> float:
    text = httpx.get(f"{server.url}/metrics", headers=bearer, timeout=5, trust_env=False).text
    found = re.search(r'visionloop_http_requests_total\{status="200"\} (\S+)', text)
    return float(found[1]) if found else 0.0
