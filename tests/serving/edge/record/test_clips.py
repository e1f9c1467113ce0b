"""The seconds before an event: clips that are written when their stream is gone."""

from __future__ import annotations

import gc
import threading

import av
import numpy as np

from visionloop.serving.edge.cameras.ring import PacketRing


def fill(ring: PacketRing, path) -> int:
    """Read a film to its end and close it, as a camera whose connection broke."""
    count = 0
    with av.open(str(path)) as container:
        for packet in container.demux(video=0):
            ring.add(packet, count / 15)
            count += packet.size > 0
    del container, packet
    gc.collect()
    return count


def write(ring: PacketRing, path, said: list[str]) -> None:
    said.append(ring.write(path, 1.0, 3.0))


def test_a_clip_is_whole_after_the_stream_was_closed_and_for_several_at_once(tmp_path, film):
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(45)]
    path = film.write(tmp_path / "film.mp4", frames, gop=15)
    for round_number in range(20):
        ring = PacketRing(60.0, 10_000_000)
        assert fill(ring, path) == 45
        waste = [bytearray(4096) for _ in range(500)]  # what was freed is used by others
        clips = [tmp_path / f"{round_number}-{n}.mp4" for n in range(4)]
        said: list[str] = []
        writers = [threading.Thread(target=write, args=(ring, one, said)) for one in clips]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert said == [""] * 4 and len(waste) == 500
    with av.open(str(clips[-1])) as clip:
        shown = [frame.to_ndarray(format="bgr24") for frame in clip.decode(video=0)]
    assert len(shown) == 30 and shown[0].shape == (96, 128, 3)


def test_another_stream_begins_with_an_empty_memory(tmp_path, film):
    frames = [np.full((96, 128, 3), 40, np.uint8)] * 15
    ring = PacketRing(60.0, 10_000_000)
    fill(ring, film.write(tmp_path / "one.mp4", frames, gop=5))
    other = film.write(tmp_path / "two.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 15, gop=5)
    fill(ring, other)
    assert ring.write(tmp_path / "clip.mp4", 0.0, 3.0) == ""
    with av.open(str(tmp_path / "clip.mp4")) as clip:
        shown = list(clip.decode(video=0))
    assert len(shown) == 15 and (shown[0].width, shown[0].height) == (64, 64)
