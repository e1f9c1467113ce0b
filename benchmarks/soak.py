"""The agent for half an hour: does it grow, and does trouble stay where it began?

``visionloop serve edge`` as a process of its own watches the real videos of VISIONLOOP_VIDEOS,
looped, each camera from another place: some as files, at least 8 over RTSP from Debian's
gst-rtsp-server. Two of these come from a second server to which something happens every minute and
a half: killed and back after five seconds, or frozen (SIGSTOP) for 20 seconds and then killed.
Everything is read from the agent's own ``/metrics``, once a second; memory is the proportional set
size of the agent and its decoding processes.

    python benchmarks/soak.py [--minutes 30] [--warm-up 5] [--rtsp 8] [--files 4]
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import yaml
from prometheus_client.parser import text_string_to_metric_families
from report import RESULTS, make_row, save_results
from stream_detector import MODEL, make_release

from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step

SYSTEM_PYTHON = "/usr/bin/python3"
VIDEOS = (
    "Retail02_short.mp4",
    "bottle-detection.mp4",
    "car-detection.mp4",
    "one-by-one-person-detection.mp4",
)
FPS, GOP, SECONDS = 12, 24, 24
KEEP = RESULTS / "soak"
UNHAPPY = 2
"""Cameras behind the server to which things happen."""
EVERY_S, GONE_S, FROZEN_S = 90.0, 5.0, 20.0


@dataclass
class Sample:
    """One look at the metrics and at the memory."""

    second: float
    memory_mb: float
    up: dict[str, bool]
    packets: dict[str, float]


@dataclass
class Fault:
    """One thing that happened, in seconds since the start."""

    kind: str
    began: float
    ended: float = float("inf")


@dataclass
class Run:
    """What a run gave."""

    samples: list[Sample] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    queues: dict[str, tuple[float, float]] = field(default_factory=dict)
    level: int = 0


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
    rows = rows_of(run, given)
    memory = [(round(one.second), round(one.memory_mb, 2)) for one in run.samples[::10]]
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


class RtspServer:
    """``soak_server.py`` on a port that stays the same."""

    def __init__(self, films: list[Path]) -> None:
        self.port = free_port()
        script = str(Path(__file__).parent / "soak_server.py")
        self._command = [SYSTEM_PYTHON, script, str(self.port), *map(str, films)]
        self.start()

    def start(self) -> None:
        """Start it, again after a kill."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise SystemExit("gst-rtsp-server does not start (see tests/debian.txt)")

    def send(self, what: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(what)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


@contextmanager
def rtsp_server(films: list[Path]) -> Iterator[RtspServer]:
    """A server that is left alone."""
    server = RtspServer(films)
    try:
        yield server
    finally:
        server.kill()


def rtsp_camera(server: RtspServer, number: int, name: str = "rtsp") -> dict[str, Any]:
    """A camera of the configuration."""
    url = f"rtsp://127.0.0.1:{server.port}/{number}"
    return {"name": f"{name}-{number}", "kind": "rtsp", "path": url}


def make_films(place: Path, count: int, seconds: float) -> list[Path]:
    """Films that last long enough: a video again and again, each from another key frame."""
    KEEP.mkdir(parents=True, exist_ok=True)
    bases = [encode(name) for name in VIDEOS]
    return [
        repeat(bases[n % len(bases)], place / f"film-{n}.mp4", 3 * n, seconds) for n in range(count)
    ]


def encode(name: str) -> Path:
    """A video as a camera sends it: 640 x 360, H.264, a key frame every two seconds. Kept."""
    kept = KEEP / f"{Path(name).stem}-{FPS}-{GOP}-{SECONDS}.mp4"
    if kept.is_file():
        return kept
    path = kept.with_name(f"new-{kept.name}")
    source = Path(os.environ["VISIONLOOP_VIDEOS"]) / name
    options = {"g": str(GOP), "keyint_min": str(GOP), "sc_threshold": "0", "bf": "0"}
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "threads": "1", **options}
        )
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        stream.bit_rate = 400_000
        step = max(1.0, float(reader.streams.video[0].average_rate or FPS) / FPS)
        number = 0
        for place_in, frame in enumerate(reader.decode(video=0)):
            if place_in < number * step:
                continue
            picture = frame.reformat(640, 360, format="yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            writer.mux(stream.encode(picture))
            number += 1
            if number >= FPS * SECONDS:
                break
        writer.mux(stream.encode(None))
    return path.replace(kept)


def repeat(base: Path, path: Path, first_key: int, seconds: float) -> Path:
    """The packets of a film over and over, without encoding them again."""
    with av.open(str(base)) as reader:
        template = reader.streams.video[0]
        packets = [packet for packet in reader.demux(template) if packet.dts is not None]
        keys = [n for n, packet in enumerate(packets) if packet.is_keyframe]
        start = keys[first_key % len(keys)]
        order = [*packets[start:], *packets[:start]]
        step = round(1 / FPS / template.time_base)
        with av.open(str(path), "w") as writer:
            stream = writer.add_stream_from_template(template)
            for number in range(int(seconds * FPS)):
                packet = order[number % len(order)]
                packet.pts = packet.dts = number * step
                packet.stream = stream
                packet.time_base = template.time_base
                writer.mux(packet)
    return path


def write_config(place: Path, cameras: list[dict[str, Any]], port: int) -> Path:
    """``edge.yaml`` of the run."""
    rule = {"name": "person", "kind": "zone_entry", "class_name": "person", "cooldown_s": 5.0}
    content = {
        "model": MODEL,
        "threads": 1,
        "cameras": cameras,
        "rules": [{**rule, "minimum_confidence": 0.4}],
        "gate": {"active_fps": 1.0},
        "evidence": {"clip_before_s": 2.0, "clip_after_s": 1.0, "ring_megabytes": 1.0},
        "status": {"port": port},
        "sinks": [{"name": "log", "kind": "file", "address": "events.jsonl", "max_mb": 1.0}],
    }
    config = place / "edge.yaml"
    config.write_text(yaml.safe_dump(content, sort_keys=False))
    return config


def soak(place: Path, config: Path, port: int, unhappy: RtspServer, given: Any) -> Run:
    """Let it run, let things happen, look once a second."""
    log = (place / "agent.log").open("w")
    command = [sys.executable, "-m", "visionloop.serving", "edge", "--config", str(config)]
    seconds = 60 * given.minutes
    agent = subprocess.Popen(
        [*command, "-w", str(place), "--max-seconds", str(seconds + 60)], stdout=log, stderr=log
    )
    run = Run()
    try:
        client = connect(place, port, agent)
        start, next_fault, kinds = time.monotonic(), 60 * given.warm_up, ["killed", "frozen"]
        say_step(f"soaking for {given.minutes:g} minutes")
        while (second := time.monotonic() - start) < seconds:
            if agent.poll() is not None:
                raise SystemExit((place / "agent.log").read_text()[-2000:])
            look(run, client, agent.pid, second)
            if second >= next_fault and second < seconds - EVERY_S:
                kind = kinds[len(run.faults) % 2]
                cause_trouble(run, kind, unhappy, client, agent.pid, start)
                next_fault = second + EVERY_S
            time.sleep(max(0.0, 1 - (time.monotonic() - start - second)))
    finally:
        agent.send_signal(signal.SIGTERM)
        try:
            agent.wait(30)
        except subprocess.TimeoutExpired:
            agent.kill()
        log.close()
    shutil.copy(place / "agent.log", KEEP / "agent.log")
    return run


def cause_trouble(
    run: Run, kind: str, server: RtspServer, client: httpx.Client, pid: int, start: float
) -> None:
    """Kill or freeze the second server, and bring it back."""
    fault = Fault(kind, time.monotonic() - start)
    run.faults.append(fault)
    server.send(signal.SIGKILL if kind == "killed" else signal.SIGSTOP)
    wait = GONE_S if kind == "killed" else FROZEN_S
    while (second := time.monotonic() - start) < fault.began + wait:
        look(run, client, pid, second)
        time.sleep(0.5)
    server.kill()
    server.start()
    fault.ended = time.monotonic() - start


def connect(place: Path, port: int, agent: subprocess.Popen[bytes]) -> httpx.Client:
    """A client of the status page, once all that is there."""
    token = place / "edge" / "status.token"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and agent.poll() is None:
        if token.is_file():
            headers = {"Authorization": f"Bearer {token.read_text().strip()}"}
            client = httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False
            )
            try:
                if "visionloop_camera_up{" in client.get("/metrics", timeout=30).text:
                    return client
            except httpx.HTTPError:
                client.close()
        time.sleep(0.2)
    raise SystemExit((place / "agent.log").read_text()[-2000:])


def look(run: Run, client: httpx.Client, pid: int, second: float) -> None:
    """One sample."""
    values: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(client.get("/metrics", timeout=30).text):
        for one in family.samples:
            label = one.labels.get("camera") or one.labels.get("queue") or ""
            values.setdefault(one.name, {})[label] = one.value
    run.samples.append(
        Sample(
            second,
            memory_mb(pid),
            {name: bool(value) for name, value in values.get("visionloop_camera_up", {}).items()},
            values.get("visionloop_camera_packets_total", {}),
        )
    )
    run.level = max(run.level, int(values["visionloop_degradation_level"][""]))
    for name, bound in values.get("visionloop_queue_bound", {}).items():
        most = max(values["visionloop_queue_length"][name], run.queues.get(name, (0, 0))[0])
        run.queues[name] = (most, bound)


def memory_mb(pid: int) -> float:
    """Proportional set size of a process and its children."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children")
    for one in [str(pid), *children.read_text().split()]:
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(row.split()[1]) for row in text.splitlines() if row.startswith("Pss:"))
    return total / 1024


def rows_of(run: Run, given: Any) -> list[dict[str, Any]]:
    """The table."""
    warm = [one for one in run.samples if one.second >= 60 * given.warm_up]
    seconds = np.array([one.second for one in warm])
    memory = np.array([one.memory_mb for one in warm])
    slope = float(np.polyfit(seconds, memory, 1)[0]) * 60
    tenth = max(1, len(memory) // 10)
    growth = float(np.median(memory[-tenth:]) - np.median(memory[:tenth]))
    minutes = (seconds[-1] - seconds[0]) / 60
    rows = [
        make_row(f"memory grown in {minutes:.0f} min after {given.warm_up:g} min, MB", growth,
                 target=5.0, higher_is_better=False),
        make_row("its trend, MB a minute", slope),
        make_row("memory at the end, MB", float(memory[-1])),
        make_row("queues with a bound and a metric", float(len(run.queues))),
        make_row("queues that were longer than their bound",
                 float(sum(most > bound for most, bound in run.queues.values())), target=0.0,
                 higher_is_better=False),
        make_row("deepest level of the ladder", float(run.level)),
    ]  # fmt: skip
    return rows + fault_rows(run)


def fault_rows(run: Run) -> list[dict[str, Any]]:
    """How soon trouble is seen, how soon it is over, and what the neighbours notice."""
    seen, back, shares = [], [], []
    for fault in run.faults:
        during = [one for one in run.samples if one.second >= fault.began]
        for name in (f"unhappy-{n}" for n in range(1, UNHAPPY + 1)):
            gone = (one.second - fault.began for one in during if not one.up.get(name, True))
            seen.append(next(gone, float("inf")))
            after = [one for one in during if one.second >= fault.ended]
            first = after[0].packets.get(name, 0.0) if after else 0.0
            came = (
                one.second - fault.ended
                for one in after
                if one.up.get(name) and one.packets.get(name, 0.0) != first
            )
            back.append(next(came, float("inf")))
        shares.append(neighbours_share(run, fault))
    rows = []
    for kind in ("killed", "frozen"):
        owners = [fault.kind for fault in run.faults for _ in range(UNHAPPY)]
        found = [one for one, owner in zip(seen, owners, strict=True) if owner == kind]
        if found:
            claim = f"{kind}: seen after, s, at worst of {len(found)}"
            rows.append(make_row(claim, max(found), target=6.0, higher_is_better=False))
    if back:
        claim = f"first frame after the return, s, p95 of {len(back)}"
        value = float(np.quantile(back, 0.95, method="higher"))
        rows.append(make_row(claim, value, target=10.0, higher_is_better=False))
        claim = "frame rate of the neighbours meanwhile, by that before, at worst"
        rows.append(make_row(claim, min(shares), target=0.95))
    return rows


def follow(run: Run, fault: Fault) -> dict[str, list[tuple[float, bool, float]]]:
    """What was seen of the second server's cameras: second, up, packets; to 60 s after it."""
    inside = [one for one in run.samples if fault.began - 3 <= one.second <= fault.ended + 60]
    return {
        name: [(round(one.second, 1), one.up[name], one.packets[name]) for one in inside]
        for name in (f"unhappy-{n}" for n in range(1, UNHAPPY + 1))
    }


def neighbours_share(run: Run, fault: Fault) -> float:
    """Packets a second of all other cameras from the fault to 10 s after it, by those before."""

    def rate(first: float, last: float) -> float:
        inside = [one for one in run.samples if first <= one.second <= last]
        a, b = inside[0], inside[-1]
        names = [name for name in a.packets if not name.startswith("unhappy")]
        grown = sum(b.packets[name] - a.packets[name] for name in names)
        return float(grown / (b.second - a.second))

    return rate(fault.began, fault.ended + 10) / rate(fault.began - 30, fault.began)


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
