"""Films of the real videos, encoded as a camera sends them and repeated without an end."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
from report import RESULTS

__all__ = ["KEEP", "make_films"]

VIDEOS = (
    "Retail02_short.mp4",
    "bottle-detection.mp4",
    "car-detection.mp4",
    "one-by-one-person-detection.mp4",
)
FPS, GOP, SECONDS = 12, 24, 24
KEEP = RESULTS / "soak"


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
