"""Collection: is the lens judged right, is what is kept diverse, what does a kept sample cost?

Lens: pictures of four archives (VISIONLOOP_MIRROR), clear and under conditions of severity 5.
Diversity: videos (VISIONLOOP_VIDEOS); peer: as many frames, evenly spaced in time. The distance
is that of the backbone's embeddings, which also decide, so this shows what the rule does, not
that the distance is the right one; beside it, how many different products the rule takes for
one. Cost: kept samples a second beside a table of 10,000; peer: the table rewritten each time.

    python benchmarks/collection.py
"""

from __future__ import annotations

import os
import random
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from backbone import open_backbone
from numpy.typing import NDArray
from report import make_row, save_results

from visionloop.core.entities import Frame
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.collection.cameras import Camera, DiversityParams
from visionloop.data.collection.diversity import KeptPictures, Look
from visionloop.data.collection.keeper import Keeper
from visionloop.data.collection.lens import judge_lens
from visionloop.data.collection.params import CollectionParams, LensParams
from visionloop.data.raw import RawStore
from visionloop.data.splits.near_duplicates import hash_image
from visionloop.data.synthesis.conditions.table import apply_condition
from visionloop.serving.images import IMAGE_SUFFIXES, decode_image
from visionloop.serving.predictor import Predictor

Image = NDArray[np.uint8]

ARCHIVES = {"hardhat": ".jpg", "neu-det": ".jpg", "bccd": ".jpg", "magnetic-tile": ".jpg"}
PICTURES = 40
EXPECTED = {"none": "clear", "fog": "fogged", "defocus": "dirty", "darkness": "dark"}
SEVERITY = 5
VIDEOS = ("Retail02_short", "one-by-one-person-detection", "car-detection", "bottle-detection")
VIDEO_FRAMES = 60
TABLE_ROWS = 10_000
TIMED = 30


def main() -> None:
    """Measure and write ``results/collection.json``."""
    set_quiet_environment()
    if missing := [n for n in ("VISIONLOOP_MIRROR", "VISIONLOOP_VIDEOS") if n not in os.environ]:
        raise SystemExit(f"{' and '.join(missing)} must name the folders of archives and videos")
    pictures = {name: list(read_archive(name)) for name in ARCHIVES}
    rows = lens_rows(pictures)
    with open_backbone() as backbone:
        rows += video_rows(backbone)
        rows += product_rows(backbone, pictures)
    rows.append(cost_row())
    save_results("collection", rows, pictures=PICTURES, severity=SEVERITY, table=TABLE_ROWS)


def read_archive(name: str) -> Iterator[Image]:
    """Pictures of an archive, drawn with a fixed seed."""
    path = Path(os.environ["VISIONLOOP_MIRROR"]) / f"{name}.zip"
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if Path(n).suffix.lower() in IMAGE_SUFFIXES)
        names = [one for one in names if one.lower().endswith(ARCHIVES[name])]
        for one in random.Random(0).sample(names, PICTURES):
            yield decode_image(archive.read(one), subject=one)


def lens_rows(pictures: dict[str, list[Image]]) -> list[dict[str, Any]]:
    """Share of pictures whose lens state is the expected one; mean and range over archives."""
    rows, params = [], LensParams()
    for condition, expected in EXPECTED.items():
        say_step(f"lens: {condition}")
        shares = []
        for images in pictures.values():
            seen = [
                image if condition == "none" else apply_condition(image, condition, SEVERITY, seed)
                for seed, image in enumerate(images)
            ]
            shares.append(float(np.mean([judge_lens(one, params) == expected for one in seen])))
        claim = f"share called {expected}, condition {condition}"
        rows.append(make_row(claim, float(np.mean(shares)), spread=(min(shares), max(shares))))
    return rows


def read_video(name: str) -> list[Image]:
    """Evenly spaced frames of a video."""
    (path,) = Path(os.environ["VISIONLOOP_VIDEOS"]).glob(f"{name}.mp4")
    video = cv2.VideoCapture(str(path))
    total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(np.linspace(0, total - 1, VIDEO_FRAMES).astype(int).tolist())
    frames = []
    for number in range(total):
        if not video.grab():
            break
        if number in wanted:
            frames.append(np.asarray(video.retrieve()[1], np.uint8))
    return frames


def embed(backbone: Predictor, images: list[Image]) -> NDArray[np.float32]:
    """Unit vectors, float32 (N, D)."""
    vectors = np.concatenate([backbone.embed([image]) for image in images])
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def choose(images: list[Image], vectors: NDArray[np.float32], params: DiversityParams) -> list[int]:
    """Which frames the rule of collection keeps."""
    kept, chosen = KeptPictures(len(images)), []
    for number, (image, vector) in enumerate(zip(images, vectors, strict=True)):
        look = Look(hash_image(image), vector)
        if not kept.resembles(look, params):
            kept.add(look)
            chosen.append(number)
    return chosen


def video_rows(backbone: Predictor) -> list[dict[str, Any]]:
    """Frames kept, and how far a frame is from the nearest kept one."""
    rows = []
    for name in VIDEOS:
        say_step(f"diversity: {name}")
        images = read_video(name)
        vectors = embed(backbone, images)
        chosen = choose(images, vectors, DiversityParams())
        even = np.linspace(0, len(images) - 1, len(chosen)).astype(int).tolist()
        ours, peer = (
            float(1 - (vectors @ vectors[some].T).max(axis=1).mean()) for some in (chosen, even)
        )
        rows.append(make_row(f"{name}: share of frames kept", len(chosen) / len(images)))
        claim = f"{name}: mean distance of a frame to the nearest kept"
        rows.append(
            make_row(claim, ours, peer=peer, peer_name="evenly spaced", higher_is_better=False)
        )
    return rows


def product_rows(backbone: Predictor, pictures: dict[str, list[Image]]) -> list[dict[str, Any]]:
    """Different products of one line that the rule takes for the same."""
    rows = []
    for name in ("magnetic-tile", "neu-det"):
        vectors = embed(backbone, pictures[name])
        for distance, target in ((DiversityParams().embedding_distance, 0.05), (0.05, None)):
            params = DiversityParams(embedding_distance=distance)
            share = 1 - len(choose(pictures[name], vectors, params)) / PICTURES
            claim = f"{name}: share of different pictures called too similar, distance {distance}"
            rows.append(make_row(claim, share, target=target, higher_is_better=False))
    return rows


def cost_row() -> dict[str, Any]:
    """Kept samples a second; the peer rewrites the table for each."""
    say_step("cost of a kept sample")
    camera = Camera.model_validate(
        {
            "id": "c",
            "source": {"kind": "folder", "path": "x"},
            "schedule": {"every_s": 1.0},
            "diversity": {"hash_bits": None, "embedding_distance": None},
        }
    )
    with tempfile.TemporaryDirectory() as name:
        workspace = Workspace(Path(name))
        rows = [_row(number) for number in range(TABLE_ROWS)]
        RawStore(workspace).save(rows, [], ["a"])
        keeper = Keeper(workspace, [camera], CollectionParams(minimum_free_mb=0), ["a"])
        ours, peer = [], []
        for number in range(TIMED):
            start = time.perf_counter()
            keeper.take(_frame(number), camera, "schedule")
            ours.append(time.perf_counter() - start)
            start = time.perf_counter()
            RawStore.load(workspace).save([_row(TABLE_ROWS + number)], [], ["a"])
            peer.append(time.perf_counter() - start)
        keeper.close()
    rate, slow = (1 / float(np.median(seconds)) for seconds in (ours, peer))
    claim = f"kept samples a second beside a table of {TABLE_ROWS:,}"
    return make_row(claim, rate, peer=slow, peer_name="table rewritten", target=10 * slow)


def _row(number: int) -> dict[str, Any]:
    sizes = dict.fromkeys(("luminance", "contrast", "blur", "noise"), 1.0)
    times = {"captured_at": "2026-03-01T06:00:00Z", "camera": "c", "site": "s"}
    return {
        "sample_id": f"{number:064x}",
        "file_name": f"{number:064x}.png",
        "width": 640,
        "height": 480,
        **times,
        **sizes,
    }


def _frame(number: int) -> Frame:
    noise = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
    image = np.asarray(cv2.resize(noise, (640, 480)), np.uint8)
    return Frame(image, "c", "s", number, "2026-03-01T06:00:00.000Z", 0.0)


if __name__ == "__main__":
    main()
