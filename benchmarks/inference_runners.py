"""Runners of ``inference.py``, each in a process of its own.

In one process the threads of one library spin on while another one is timed, and processor time
is that of all of them. Here a turn is given by a pipe, frames are read from one file, and a
runner answers only when it has come to rest: what it burns after its answer is measured, too.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from inference_models import Form
from numpy.typing import NDArray

from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.resize_model import at_size

__all__ = ["Runner", "Turn", "open_form", "open_peer"]

REST_SECONDS = 0.02
LONGEST_REST = 50
Frame = NDArray[np.uint8]


class Turn(NamedTuple):
    """Seconds that a frame took: by the clock, of the processor (all threads of the process),
    for pre- and post-processing by the clock (ours only), and of the processor after the answer."""

    wall: float
    busy: float
    around: float
    after: float


class Runner:
    """A process that answers one frame a turn.

    Parameters
    ----------
    frames : Path
        ``.npy`` of uint8 (N, 1080, 1920, 3), BGR.
    form : Form
    """

    def __init__(self, frames: Path, form: Form) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, form, frames), daemon=True)
        self._process.start()
        assert self._pipe.recv() == "ready"

    def ask(self, number: int) -> Turn:
        """Take a turn on this frame."""
        self._pipe.send(number)
        return Turn(*self._pipe.recv())

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(timeout=30)


def _serve(pipe: Connection, form: Form, frames: Path) -> None:
    import cv2

    if form.threads == 1:
        cv2.setNumThreads(1)
    pictures = np.load(frames, mmap_mode="r")
    ask = _open(form)
    for number in range(3):
        ask(np.array(pictures[number]))
    pipe.send("ready")
    while (number := pipe.recv()) is not None:
        frame = np.array(pictures[number])  # in memory, as a decoder leaves it
        start, before = time.perf_counter(), time.process_time()
        around = ask(frame)
        wall, busy = time.perf_counter() - start, time.process_time() - before
        pipe.send((wall, busy, around, _rest()))


def _rest() -> float:
    """Wait until no thread of this process works any more; what they burned meanwhile."""
    first = time.process_time()
    for _ in range(LONGEST_REST):
        before = time.process_time()
        time.sleep(REST_SECONDS)
        if time.process_time() - before < 0.001:
            break
    return time.process_time() - first


def open_form(form: Form) -> Predictor:
    """One of our forms, ready to answer."""
    assert form.package is not None
    return Predictor(
        at_size(load_package(form.package), *form.size),
        backend=form.backend,
        threads=form.threads,
        model=form.model.read_bytes(),
        batch_size=1,
    )


def _open(form: Form) -> Callable[[Frame], float]:
    """A function that answers a frame, and says how long pre- and post-processing took."""
    if form.backend == "ultralytics":
        peer = open_peer(form.model, threads=form.threads, size=form.size)

        def ask_peer(frame: Frame) -> float:
            peer(frame)
            return 0.0

        return ask_peer
    ours = open_form(form)

    def ask(frame: Frame) -> float:
        timings = ours.predict_timed([frame])[1]
        return (timings.pre + timings.post) / 1e3

    return ask


def open_peer(
    onnx: Path, *, threads: int | None, size: tuple[int, int], confidence: float = 0.25
) -> Callable[[Frame], Any]:
    """Ultralytics' ONNX predict; one thread means one for its ONNX Runtime session too."""
    os.environ.setdefault("YOLO_VERBOSE", "false")
    import onnxruntime
    import torch
    from ultralytics import YOLO

    original = onnxruntime.InferenceSession

    def pinned(path: Any, sess_options: Any = None, *rest: Any, **options: Any) -> Any:
        settings = sess_options or onnxruntime.SessionOptions()
        settings.intra_op_num_threads = settings.inter_op_num_threads = 1
        return original(path, settings, *rest, **options)

    model = YOLO(str(onnx), task="detect")
    if threads == 1:
        torch.set_num_threads(1)
        onnxruntime.InferenceSession = pinned
    options = {"imgsz": [size[1], size[0]], "conf": confidence, "verbose": False, "device": "cpu"}
    try:
        model.predict(np.zeros((1080, 1920, 3), np.uint8), **options)
    finally:
        onnxruntime.InferenceSession = original

    def ask(frame: Frame) -> Any:
        return model.predict(frame, **options)[0]

    return ask
