"""Many cameras in few processes: what harms one must not harm the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from visionloop.serving.edge.cameras.fleet import Fleet
from visionloop.serving.edge.cameras.mailbox import Mailbox, Offer
from visionloop.serving.edge.cameras.messages import Watch
from visionloop.serving.edge_params import CameraParams, EvidenceParams, GateParams

SLACK = 3
EVERY = GateParams(enabled=False, active_fps=5)


class Desk:
    """A fleet whose frames are taken as an agent takes them; remembers what came, and when."""

    def __init__(self, root: Path, per_process: int = 8, gate: GateParams = EVERY) -> None:
        self.root, self.gate = root, gate
        self.seen: dict[str, list[float]] = {}
        self.images: dict[str, np.ndarray] = {}
        self.clips: list = []
        self.fleet = Fleet(per_process, self.clips.append)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def watch(self, *cameras: CameraParams, **evidence) -> None:
        params = EvidenceParams(**evidence)
        self.fleet.set_watches(
            {one.name: Watch(one, one.gate or self.gate, params, "s", self.root) for one in cameras}
        )

    def _work(self) -> None:
        while not self._ended.is_set():
            self.fleet.tend()
            for look in self.fleet.take(4, 0.05):
                self.seen.setdefault(look.name, []).append(time.monotonic())
                self.images[look.name] = look.image

    def wait(self, what, limit_s: float) -> float:
        end = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < end, f"not within {limit_s} s: {self.fleet.status}"
            time.sleep(0.02)
        return time.monotonic()

    def wait_for_frame(self, *names: str, limit_s: float = 5 * SLACK) -> float:
        counts = {name: len(self.seen.get(name, [])) for name in names}
        return self.wait(
            lambda: all(len(self.seen.get(name, [])) > n for name, n in counts.items()), limit_s
        )

    def rate(self, name: str, begin: float, end: float) -> float:
        return sum(begin <= moment <= end for moment in self.seen[name]) / (end - begin)

    def longest_gap(self, name: str, begin: float, end: float) -> float:
        moments = [begin, *(m for m in self.seen[name] if begin <= m <= end), end]
        return float(np.diff(moments).max())

    def process_of(self, name: str) -> int:
        return next(pid for pid, names in self.fleet.processes.items() if name in names)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)
        self.fleet.close()


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory, film) -> Path:
    """Ten seconds of moving noise, 320 x 180, ten frames a second."""
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(0, 255, (9, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8)
    frames = [np.roll(base, 3 * n, axis=1) for n in range(100)]
    return film.write(tmp_path_factory.mktemp("film") / "clip.mp4", frames, fps=10, gop=20)


def playing(name: str, path: Path, **fields) -> CameraParams:
    return CameraParams(name=name, kind="file", path=str(path), loop=True, **fields)


def rtsp(name: str, server, camera: int = 1) -> CameraParams:
    return CameraParams(name=name, kind="rtsp", path=f"rtsp://127.0.0.1:{server.port}/{camera}")


def test_a_process_that_crashes_harms_its_neighbours_once_and_others_never(desk, clip):
    """A decoder that crashes takes its group with it; from then on it is alone."""
    names = [f"c{n}" for n in range(6)]
    desk.fleet._per_process = 3
    desk.watch(*[playing(name, clip) for name in names])
    desk.wait_for_frame(*names)
    victims = desk.fleet.processes[desk.process_of("c0")]
    others = sorted(set(names) - set(victims))
    assert len(victims) == 3 and len(others) == 3
    crashed = time.monotonic()
    os.kill(desk.process_of("c0"), signal.SIGSEGV)
    back = desk.wait_for_frame(*victims, limit_s=4 * SLACK)
    assert back - crashed < 4 * SLACK
    assert len({desk.process_of(name) for name in victims}) == 3
    time.sleep(1.0)
    again = time.monotonic()
    os.kill(desk.process_of("c0"), signal.SIGSEGV)
    end = desk.wait_for_frame("c0", limit_s=4 * SLACK)
    for name in others:
        assert desk.longest_gap(name, crashed, end) < 2.0
    for name in victims[1:]:
        assert desk.longest_gap(name, again, end) < 2.0
    assert desk.fleet.restarts == 2


def test_c2_a_process_that_was_stopped_is_replaced(desk, clip):
    desk.watch(playing("a", clip), playing("b", clip))
    desk.wait_for_frame("a", "b")
    pid = desk.process_of("a")
    stopped = time.monotonic()
    os.kill(pid, signal.SIGSTOP)
    desk.wait(lambda: pid not in desk.fleet.processes, 6 * SLACK)
    assert desk.fleet.restarts == 1
    assert desk.wait_for_frame("a", "b") - stopped < 10 * SLACK


def test_a_process_that_is_only_late_is_left_alone(desk, clip, monkeypatch):
    """It uses the processor and says nothing: on a machine with too much to do, starting it
    again would make more work."""
    from visionloop.serving.edge.cameras import member

    used = iter(range(10**9))
    monkeypatch.setattr(member, "_cpu_s", lambda pid: float(next(used)))
    desk.watch(playing("a", clip), playing("b", clip))
    desk.wait_for_frame("a", "b")
    pid = desk.process_of("a")
    os.kill(pid, signal.SIGSTOP)
    time.sleep(8)
    assert desk.fleet.restarts == 0
    os.kill(pid, signal.SIGCONT)
    desk.wait_for_frame("a", "b")
    assert desk.process_of("a") == pid


def test_c1_c2_a_dead_and_a_frozen_camera_cost_their_neighbours_nothing(desk, rtsp_server, clip):
    """All in one process: a server is killed, another one frozen; the third camera and a file
    go on at their rate."""
    dead, frozen, fine = rtsp_server(1), rtsp_server(1), rtsp_server(1)
    desk.watch(rtsp("dead", dead), rtsp("frozen", frozen), rtsp("fine", fine), playing("f", clip))
    desk.wait_for_frame("dead", "frozen", "fine", "f")
    begin = time.monotonic()
    time.sleep(3)
    before = {name: desk.rate(name, begin, time.monotonic()) for name in ("fine", "f")}
    broken = time.monotonic()
    dead.send(signal.SIGKILL)
    frozen.send(signal.SIGSTOP)
    seen = desk.wait(lambda: desk.fleet.status["frozen"].state == "lost", 6 * SLACK)
    desk.wait(lambda: desk.fleet.status["dead"].state in ("lost", "refused"), 1 * SLACK)
    assert seen - broken < 6 * SLACK
    time.sleep(max(0.0, 4 - (time.monotonic() - broken)))
    end = time.monotonic()
    for name, rate in before.items():
        assert desk.rate(name, broken, end) > 0.6 * rate
        assert desk.longest_gap(name, broken, end) < 2.0
    dead.start()
    frozen.send(signal.SIGCONT)
    desk.wait_for_frame("dead", "frozen", limit_s=10 * SLACK)
    assert desk.fleet.restarts == 0


def test_garbage_and_hanging_sources_do_no_harm(desk, clip, tmp_path):
    import socket

    (tmp_path / "garbage.mp4").write_bytes(os.urandom(200_000))
    damaged = bytearray(clip.read_bytes())
    for place in np.random.default_rng(0).integers(5000, len(damaged) - 5000, 60):
        damaged[place] ^= 0xFF
    (tmp_path / "damaged.mp4").write_bytes(damaged)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silence = f"rtsp://127.0.0.1:{silent.getsockname()[1]}/1"
        desk.watch(
            playing("garbage", tmp_path / "garbage.mp4"),
            playing("damaged", tmp_path / "damaged.mp4"),
            CameraParams(name="silent", kind="rtsp", path=silence),
            playing("fine", clip),
        )
        begin = desk.wait_for_frame("fine")
        desk.wait(lambda: desk.fleet.status["silent"].state == "lost", 6 * SLACK)
        desk.wait(lambda: desk.fleet.status["damaged"].damaged > 0, 12 * SLACK)
        end = time.monotonic()
    assert desk.longest_gap("fine", begin, end) < 2.0
    assert "cannot be read" in desk.fleet.status["garbage"].reason
    assert desk.fleet.status["garbage"].state == "refused"
    assert desk.fleet.restarts == 0


def test_c8_damaged_pictures_are_counted_and_never_offered(tmp_path, film):
    """Bits are flipped in a stream: every picture that comes through is one of the originals.

    A picture after a damaged one is made from it, and the decoder does not mark it.
    """
    rng = np.random.default_rng(0)
    base = np.kron(rng.integers(40, 215, (18, 32, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    frames = [np.roll(base, 2 * n, axis=1) for n in range(150)]
    path = film.write(tmp_path / "whole.mp4", frames, fps=30, gop=30, kilobits=1500)
    content = bytearray(path.read_bytes())
    for place in np.linspace(20_000, len(content) - 20_000, 4).astype(int):
        content[place] ^= 0xFF
    path.write_bytes(content)
    desk = Desk(tmp_path, gate=GateParams(enabled=False, active_fps=30))
    shown: list[np.ndarray] = []
    try:
        take = desk.fleet.take
        desk.fleet.take = lambda *given: _note(take(*given), shown)
        desk.watch(CameraParams(name="a", kind="file", path="whole.mp4"))
        desk.wait(lambda: desk.fleet.has_ended(), 10 * SLACK)
        assert desk.fleet.status["a"].damaged >= 2
    finally:
        desk.close()
    assert len(shown) >= 5
    originals = np.stack([image[::4, ::4, 1] for image in frames]).astype(int)
    for image in shown:
        differs = np.abs(originals - image[::4, ::4, 1].astype(int)) > 45
        assert differs.mean(axis=(1, 2)).min() < 0.02


def _note(looks, shown):
    shown += [look.image for look in looks]
    return looks


def test_c7_a_storm_of_frames_is_analysed_at_the_rate_and_no_faster(desk, clip):
    desk.watch(playing("storm", clip, rate=200.0), playing("fine", clip))
    begin = desk.wait_for_frame("storm", "fine")
    time.sleep(4)
    end = time.monotonic()
    assert desk.rate("storm", begin, end) <= 6.5
    assert desk.longest_gap("fine", begin, end) < 2.0
    row = desk.fleet.status["storm"]
    assert row.packets > 3 * desk.fleet.status["fine"].packets


def test_c6_another_size_of_picture_goes_on(tmp_path, film):
    """The file is replaced by one of another size while it is played in a loop."""
    small = [np.full((120, 160, 3), 3 * n, np.uint8) for n in range(20)]
    film.write(tmp_path / "c.mp4", small, fps=10, gop=5)
    desk = Desk(tmp_path)
    try:
        desk.watch(CameraParams(name="a", kind="file", path="c.mp4", loop=True))
        desk.wait_for_frame("a")
        assert desk.images["a"].shape == (120, 160, 3)
        large = [np.full((240, 320, 3), 3 * n, np.uint8) for n in range(20)]
        film.write(tmp_path / "new.mp4", large, fps=10, gop=5)
        os.replace(tmp_path / "new.mp4", tmp_path / "c.mp4")
        desk.wait(lambda: desk.images["a"].shape == (240, 320, 3), 8 * SLACK)
        assert desk.fleet.restarts == 0
    finally:
        desk.close()


def test_c5_no_password_stands_in_what_is_said(desk, rtsp_server, monkeypatch, capfd):
    server = rtsp_server(1, "--user", "viewer", "--password", "s3cr3t/p@ss")
    monkeypatch.setenv("CAM_PASSWORD", "wrong-s3cr3t")
    camera = CameraParams(
        name="gate",
        kind="rtsp",
        path=f"rtsp://127.0.0.1:{server.port}/1",
        credentials={"user": "viewer", "password_env": "CAM_PASSWORD"},
    )
    desk.watch(camera)
    desk.wait(lambda: desk.fleet.status["gate"].state == "refused", 10 * SLACK)
    row = desk.fleet.status["gate"]
    assert "refuses this user or password" in row.reason
    shown = repr(row) + "".join(capfd.readouterr())
    assert "s3cr3t" not in shown
    faults = row.faults
    time.sleep(4)
    assert desk.fleet.status["gate"].faults == faults  # at most one attempt in ten seconds


def test_cameras_are_added_changed_and_removed_while_others_go_on(desk, clip):
    desk.watch(playing("a", clip), playing("b", clip))
    begin = desk.wait_for_frame("a", "b")
    first = desk.process_of("a")
    desk.watch(playing("a", clip), playing("c", clip))
    desk.wait_for_frame("c")
    assert set(desk.fleet.status) == {"a", "c"}
    count = len(desk.seen["b"])
    desk.watch(playing("a", clip), playing("c", clip, rate=2.0, gate=GateParams(enabled=False)))
    desk.wait_for_frame("a", "c")
    time.sleep(1)
    assert len(desk.seen["b"]) <= count + 3
    assert desk.process_of("a") == first
    assert desk.longest_gap("a", begin, time.monotonic()) < 2.0
    desk.watch()
    assert desk.fleet.processes == {}


def test_when_the_agent_dies_its_processes_end(tmp_path, clip):
    import subprocess
    import sys

    program = (
        "import sys, time, pathlib\n"
        "from visionloop.serving.edge.cameras.fleet import Fleet\n"
        "from visionloop.serving.edge.cameras.messages import Watch\n"
        "from visionloop.serving.edge_params import CameraParams, EvidenceParams, GateParams\n"
        "fleet = Fleet(4, print)\n"
        f"camera = CameraParams(name='a', kind='file', path={str(clip)!r}, loop=True)\n"
        "watch = Watch(camera, GateParams(), EvidenceParams(), 's', pathlib.Path('.'))\n"
        "fleet.set_watches({'a': watch})\n"
        "fleet.tend()\n"
        "while not fleet.take(1, 1): pass\n"
        "print(*fleet.processes, flush=True)\n"
        "time.sleep(60)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    pid = int(agent.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    agent.kill()
    agent.wait()
    end = time.monotonic() + 5 * SLACK
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < end, "the process lives on without its agent"
        time.sleep(0.1)


def test_key_frames_alone_are_decoded_while_nothing_moves(tmp_path, film):
    still = np.full((180, 320, 3), 90, np.uint8)
    moving = [still.copy() for _ in range(60)]
    for n, image in enumerate(moving):
        image[60:120, 4 * n : 4 * n + 60] = 220
    film.write(tmp_path / "still.mp4", [still] * 60, fps=10, gop=10)
    film.write(tmp_path / "moving.mp4", moving, fps=10, gop=10)
    desk = Desk(tmp_path, gate=GateParams(quiet_s=1.0))
    try:
        desk.watch(
            CameraParams(name="still", kind="file", path="still.mp4"),
            CameraParams(name="moving", kind="file", path="moving.mp4"),
        )
        desk.wait(lambda: desk.fleet.has_ended(), 12 * SLACK)
        time.sleep(1.5)  # the last status
        idle, active = desk.fleet.status["still"], desk.fleet.status["moving"]
        assert idle.packets >= 60 and active.packets >= 60
        assert idle.decoded <= 30  # until it knew that key frames come often, then one in ten
        assert active.decoded >= 40
        assert len(desk.seen["still"]) <= 2
        assert len(desk.seen["moving"]) >= 12
    finally:
        desk.close()


def test_c10_a_clock_that_jumps_does_not_stop_a_source(desk, tmp_path, clip):
    """Times of the packets jump ahead by ten hours."""
    import av

    path = tmp_path / "jump.mkv"
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            if number >= 50:
                jump = int(36_000 / packet.time_base)
                packet.pts, packet.dts = packet.pts + jump, packet.dts + jump
            packet.stream = stream
            output.mux(packet)
    begin = time.monotonic()
    desk.watch(CameraParams(name="a", kind="file", path="jump.mkv", rate=20.0))
    desk.wait(lambda: desk.fleet.has_ended(), 12 * SLACK)
    assert 4 < time.monotonic() - begin < 12 * SLACK
    assert len(desk.seen["a"]) >= 12


def write_part(path: Path, clip: Path, start_s: float, seconds: int = 3) -> bytes:
    """The first seconds of a video as MPEG-TS whose clock begins at a moment."""
    import av

    with av.open(str(clip)) as source, av.open(str(path), "w", format="mpegts") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        base = source.streams.video[0].time_base
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None or number >= 10 * seconds:
                break
            packet.pts += int(start_s / base)
            packet.dts += int(start_s / base)
            packet.stream = stream
            output.mux(packet)
    return path.read_bytes()


@pytest.mark.parametrize("starts", [(36_000.0, 0.0), (2**33 / 90_000 - 1.5,)], ids=["back", "wrap"])
def test_c10_a_clock_that_goes_back_or_wraps_does_not_stop_a_source(desk, tmp_path, clip, starts):
    """Ten hours back; and the 33 bits of MPEG-TS that begin anew in the middle."""
    parts = [write_part(tmp_path / f"{n}.ts", clip, start) for n, start in enumerate(starts)]
    (tmp_path / "jump.ts").write_bytes(b"".join(parts))
    begin = time.monotonic()
    desk.watch(CameraParams(name="a", kind="file", path="jump.ts"))
    desk.wait(lambda: desk.fleet.has_ended(), 12 * SLACK)
    seconds = 3 * len(starts)
    assert seconds - 1 < time.monotonic() - begin < 2 * seconds + 5 * SLACK
    assert len(desk.seen["a"]) >= 3 * seconds
    assert desk.seen["a"] == sorted(desk.seen["a"])
    gaps = np.diff(desk.seen["a"])
    assert gaps.max() < 2.0


def test_a_clip_holds_the_seconds_before(tmp_path, film):
    import av

    frames = [np.full((120, 160, 3), 2 * n, np.uint8) for n in range(100)]
    film.write(tmp_path / "grey.mp4", frames, fps=10, gop=10)
    desk = Desk(tmp_path)
    try:
        desk.watch(
            CameraParams(name="a", kind="file", path="grey.mp4"),
            clip_before_s=2.0,
            clip_after_s=1.0,
        )
        desk.wait(lambda: len(desk.seen.get("a", [])) >= 25, 12 * SLACK)
        level = float(desk.images["a"].mean()) / 2
        desk.fleet.order_clip("a", tmp_path / "clips" / "x.mp4", time.monotonic())
        desk.wait(lambda: desk.clips, 4 * SLACK)
        assert desk.clips[0].problem == ""
        with av.open(str(tmp_path / "clips" / "x.mp4")) as shown:
            levels = [
                frame.to_ndarray(format="bgr24").mean() / 2 for frame in shown.decode(video=0)
            ]
        assert levels[0] <= level - 15  # two seconds earlier, or the key frame before
        assert levels[-1] >= level + 3
        assert np.diff(levels).min() > -2
        desk.fleet.order_clip("nobody", tmp_path / "y.mp4", 0.0)
        assert desk.clips[1].problem
    finally:
        desk.close()


def test_the_mailbox_keeps_the_newest_and_is_fair_by_priority():
    box = Mailbox()
    for moment in range(5):
        for name, priority in (("a", 1), ("b", 1), ("urgent", 0)):
            replaced = box.put(Offer(name, priority, float(moment), moment))
            assert (replaced is None) is (moment == 0)
    assert len(box) == 3
    first = box.take(1, 0)
    assert [(one.name, one.content) for one in first] == [("urgent", 4)]
    served = {"a": 0, "b": 0, "urgent": 0, "late": 0}
    for _ in range(400):
        for name, priority in (("a", 1), ("b", 1), ("urgent", 0), ("late", 5)):
            box.put(Offer(name, priority, 0.0, None))
        for one in box.take(1, 0):
            served[one.name] += 1
        time.sleep(0.01)
    assert abs(served["a"] - served["b"]) <= 2
    assert served["urgent"] > served["a"] > served["late"] > 0
    gone = box.drop(lambda one: one.name == "a")
    assert [one.name for one in gone] == ["a"]


def test_c4_a_camera_that_ends_its_process_again_and_again_is_bounded(desk, clip, monkeypatch):
    """The waits between are taken away: what is left is the bound."""
    monkeypatch.setattr("visionloop.serving.edge.cameras.fleet.backoff_seconds", lambda *_: 0.0)
    desk.watch(playing("bad", clip))
    begin = time.monotonic()
    for falls in range(1, 6):
        desk.wait_for_frame("bad")
        os.kill(desk.process_of("bad"), signal.SIGSEGV)
        desk.wait(lambda falls=falls: desk.fleet.restarts == falls, 5 * SLACK)
    assert desk.fleet.status["bad"].falls == 5
    if time.monotonic() - begin < 50:
        time.sleep(3)
        assert desk.fleet.processes == {}
        (member,) = desk.fleet._members
        assert 50 < member.ready_at - begin < 75


@pytest.mark.slow
def test_c4_a_flapping_camera_waits_longer_and_costs_nothing(desk, rtsp_server, clip):
    server = rtsp_server(1)
    desk.watch(rtsp("flapping", server), playing("fine", clip))
    desk.wait_for_frame("flapping", "fine")
    begin = time.monotonic()
    for _ in range(8):
        server.send(signal.SIGKILL)
        time.sleep(2)
        server.start()
        time.sleep(2)
    end = time.monotonic()
    assert desk.longest_gap("fine", begin, end) < 2.0
    status = desk.fleet.status["flapping"]
    assert status.faults <= 32
    assert status.falls >= 4
    desk.wait_for_frame("flapping", limit_s=10 * SLACK)
    assert desk.fleet.restarts == 0


@pytest.mark.slow
def test_c11_sixteen_cameras_return_at_once(desk, rtsp_server):
    server = rtsp_server(16, "--fps", "5")
    names = [f"c{n}" for n in range(1, 17)]
    desk.watch(*[rtsp(name, server, n) for n, name in enumerate(names, start=1)])
    desk.wait_for_frame(*names, limit_s=20 * SLACK)
    server.send(signal.SIGKILL)
    time.sleep(6)
    server.start()
    returned = time.monotonic()
    assert desk.wait_for_frame(*names, limit_s=30 * SLACK) - returned < 30 * SLACK
