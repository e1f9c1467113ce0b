"""The agent for half an hour: does it grow, and does trouble stay where it began?

``visionloop serve edge`` as a process of its own watches the real videos of VISIONLOOP_VIDEOS,
looped, each camera from another place: some as files, at least 8 over RTSP from Debian's
gst-rtsp-server. Two of these come from a second server to which something happens every minute and
a half (``soak_faults.py``), in turn: killed and back after five seconds; frozen (SIGSTOP) for 20
seconds and then killed; killed and started every two seconds for 20 seconds (flapping). Everything
is read from the agent's own ``/metrics``, twice a second; memory is the proportional set size of
the agent and its decoding processes.

    python benchmarks/soak.py [--minutes 30] [--warm-up 5] [--rtsp 8] [--files 4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families
from report import save_results
from soak_faults import UNHAPPY, fault_rows, follow
from soak_films import KEEP, make_films
from soak_place import (
    RtspServer,
    connect,
    free_port,
    memory_mb,
    rtsp_camera,
    rtsp_server,
    write_config,
)
from soak_report import Fault, Run, Sample, rows_of
from stream_detector import make_release

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step

LOOK_S, EVERY_S, GONE_S, FROZEN_S, FLAPPING_S, FLAP_S = 0.5, 90.0, 5.0, 20.0, 20.0, 2.0


def main() -> None:
    """Measure, print the table, write ``results/soak.json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=5, help="minutes that are not judged")
    parser.add_argument("--rtsp", type=int, default=8)
    parser.add_argument("--files", type=int, default=4)
    given = parser.parse_args()
    if "VISIONLOOP_VIDEOS" not in os.environ:
        raise SystemExit("VISIONLOOP_VIDEOS must name the folder of videos")
    set_quiet_environment()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        films = make_films(place, given.rtsp + given.files, 60 * given.minutes + 180)
        make_release(place / "releases")
        with rtsp_server(films[: given.rtsp - UNHAPPY]) as calm:
            unhappy = RtspServer(films[given.rtsp - UNHAPPY : given.rtsp])
            try:
                cameras = [rtsp_camera(calm, n) for n in range(1, given.rtsp - UNHAPPY + 1)]
                cameras += [rtsp_camera(unhappy, n, "unhappy") for n in range(1, UNHAPPY + 1)]
                cameras += [
                    {"name": f"file-{n}", "kind": "file", "path": str(path), "loop": True}
                    for n, path in enumerate(films[given.rtsp :], 1)
                ]
                port = free_port()
                run = soak(place, write_config(place, cameras, port), port, unhappy, given)
            finally:
                unhappy.kill()
    rows = [*rows_of(run, given), *fault_rows(run)]
    memory = [(round(one.second), round(one.memory_mb, 2)) for one in run.samples[::20]]
    happened = [
        {
            "kind": fault.kind,
            "began": round(fault.began, 1),
            "ended": round(fault.ended, 1),
            "cameras": follow(run, fault),
        }
        for fault in run.faults
    ]
    save_results(
        "soak",
        rows,
        minutes=given.minutes,
        memory_mb=memory,
        queues=run.queues,
        deepest_level=run.level,
        faults=happened,
    )


def soak(place: Path, config: Path, port: int, unhappy: RtspServer, given: Any) -> Run:
    """Let it run, let things happen, look twice a second."""
    log = (place / "agent.log").open("w")
    command = [sys.executable, "-m", "visionloop.serving", "edge", "--config", str(config)]
    seconds = 60 * given.minutes
    agent = subprocess.Popen(
        [*command, "-w", str(place), "--max-seconds", str(seconds + 60)], stdout=log, stderr=log
    )
    run = Run()
    try:
        client = connect(place, port, agent)
        start, next_fault, kinds = time.monotonic(), 60 * given.warm_up, list(TROUBLE)
        say_step(f"soaking for {given.minutes:g} minutes")
        while (second := time.monotonic() - start) < seconds:
            if agent.poll() is not None:
                raise SystemExit((place / "agent.log").read_text()[-2000:])
            look(run, client, agent.pid, second)
            if second >= next_fault and second < seconds - EVERY_S:
                kind = kinds[len(run.faults) % len(kinds)]
                fault = Fault(kind, time.monotonic() - start)
                run.faults.append(fault)
                TROUBLE[kind](unhappy, partial(look_on, run, client, agent.pid, start))
                fault.ended = time.monotonic() - start
                next_fault = second + EVERY_S
            time.sleep(max(0.0, LOOK_S - (time.monotonic() - start - second)))
    finally:
        agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(30)
        except subprocess.TimeoutExpired:
            agent.kill()
        log.close()
    shutil.copy(place / "agent.log", KEEP / "agent.log")
    return run


def kill(server: RtspServer, watch: Callable[[float], None]) -> None:
    """Away at once, and back."""
    server.kill()
    watch(GONE_S)
    server.start()


def freeze(server: RtspServer, watch: Callable[[float], None]) -> None:
    """Connections stay open and nothing comes; then a new server."""
    server.send(signal.SIGSTOP)
    watch(FROZEN_S)
    server.kill()
    server.start()


def flap(server: RtspServer, watch: Callable[[float], None]) -> None:
    """Away and back, again and again."""
    end = time.monotonic() + FLAPPING_S
    while True:
        server.kill()
        watch(FLAP_S)
        server.start()
        if time.monotonic() >= end - FLAP_S:
            return
        watch(FLAP_S)


TROUBLE = {"killed": kill, "frozen": freeze, "flapping": flap}


def look_on(run: Run, client: httpx.Client, pid: int, start: float, wait_s: float) -> None:
    """Look twice a second for so long."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        look(run, client, pid, time.monotonic() - start)
        time.sleep(max(0.0, min(LOOK_S, end - time.monotonic())))


def look(run: Run, client: httpx.Client, pid: int, second: float) -> None:
    """One sample."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(client.get("/metrics", timeout=30).text):
        for one in family.samples:
            label = one.labels.get("camera") or one.labels.get("queue") or ""
            rows = values.setdefault(one.name, {})
            if one.name == "visionloop_camera_minutes_total":  # bad ones are told by cause
                is_bad = one.labels["state"] == "bad"
                rows[label] = rows.get(label, 0.0) + is_bad * one.value
            else:
                rows[label] = one.value
    run.samples.append(
        Sample(
            second,
            memory_mb(pid),
            {name: bool(value) for name, value in values.get("visionloop_camera_up", {}).items()},
            values.get("visionloop_camera_packets_total", {}),
            values.get("visionloop_camera_frame_age_seconds", {}),
            values.get("visionloop_camera_minutes_total", {}),
        )
    )
    run.level = max(run.level, int(values["visionloop_degradation_level"][""]))
    for name, bound in values.get("visionloop_queue_bound", {}).items():
        most = max(values["visionloop_queue_length"][name], run.queues.get(name, (0, 0))[0])
        run.queues[name] = (most, bound)


if __name__ == "__main__":
    main()
