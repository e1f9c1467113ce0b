"""1080p frames in, boxes out: ours beside Ultralytics' predict, same weights (YOLOv8n, COCO).

Everybody runs in a process of its own, frame by frame in turn, one thread each; the peer's default
settings (every core) run in turn as well. Both clocks are told: the processor's and the wall's.
Ours is the package that the export makes, on OpenVINO: in INT8 as ``serve build`` makes it for
processors, and in bfloat16. Beside the peer on one thread both have the input of 640 x 640; beside
its defaults ours is the input that ``serve tune`` takes for frames of 1080p, 640 x 384: the same
scale without grey bars. The peer's ONNX predict takes 640 x 640 unless it is exported otherwise;
exported for 640 x 384 it runs too. The metric is measured where there is a truth: the YOLO of
``export_models.py`` on boards that it did not see; and on the video, where the peer's own answers
(at 640 x 640) are the truth. Ultralytics is AGPL-3.0.

    python benchmarks/inference.py [--parts speed video boards] [--rounds 40] [--images 600]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from export_models import prepare_model, use_throwaway_keys
from inference_metric import loss_row, unseen_boards, video_rows
from inference_models import CALIBRATION, Form, make_forms, quantize, read_frames
from inference_runners import Runner, Turn
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.files import read_json, write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.data.versions.version import load_version
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.variants.reference import Reference, divide
from visionloop.training.reference import make_reference

PARTS = ("speed", "video", "boards")
WARM_UP = 3
Frame = NDArray[np.uint8]


def main() -> None:
    """Measure what is asked for, print the table, write ``results/inference.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--images", type=int, default=600, help="unseen boards for the metric")
    parser.add_argument(
        "--parts", nargs="+", default=list(PARTS), choices=PARTS, help="the others as measured last"
    )
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    cv2.setNumThreads(1)
    if "boards" in options.parts:
        prepare_model("yolo")  # first: it may have to be trained, and nothing else runs beside it
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"speed", "video"} & set(options.parts):
            frames = read_frames()
            package, forms, kept = make_forms(folder, frames)
            if "speed" in options.parts:
                rows = speed_rows(folder, forms, frames[CALIBRATION:], options.rounds)
                keep("speed", [*rows, make_row("layers of INT8 kept in float", kept)])
            if "video" in options.parts:
                keep("video", video_rows(package, forms, frames[CALIBRATION:]))
        if "boards" in options.parts:
            keep("boards", board_rows(folder, options.images))
    paths = [RESULTS / "inference" / f"{part}.json" for part in PARTS]
    rows = [row for path in paths if path.is_file() for row in read_json(path)["rows"]]
    save_results("inference", rows)


def keep(part: str, rows: list[dict[str, Any]]) -> None:
    """A part is done: what comes later may be cut off."""
    write_json(RESULTS / "inference" / f"{part}.json", {"rows": rows})


def speed_rows(
    folder: Path, forms: dict[str, Form], frames: Sequence[Frame], rounds: int
) -> list[dict[str, Any]]:
    """Everybody in turn on the same frame, each in its process; ratios of each frame's pair."""
    np.save(folder / "frames.npy", np.stack(frames))
    runners = {name: Runner(folder / "frames.npy", form) for name, form in forms.items()}
    turns: dict[str, list[Turn]] = {name: [] for name in runners}
    try:
        for number in range(rounds + WARM_UP):
            for name, runner in runners.items():
                turns[name].append(runner.ask(number % len(frames)))
    finally:
        for runner in runners.values():
            runner.close()
    table = {name: np.array(rows[WARM_UP:]) for name, rows in turns.items()}  # rounds x Turn
    fitted = "x".join(str(side) for side in forms["int8_fit"].size)
    return [
        *equal_rows(table),
        *default_rows(table, f"fitted input {fitted}"),
        *plain_rows(table, fitted),
    ]


SHOWN = {
    "int8": "INT8 on OpenVINO, the rest bfloat16",
    "int8_f32": "INT8 on OpenVINO",
    "bf16": "bfloat16 on OpenVINO",
}
BY_PROCESSOR, BY_CLOCK = ("busy", "and core"), ("wall", "by the clock")


def equal_rows(table: dict[str, NDArray[np.float64]]) -> list[dict[str, Any]]:
    """Beside the peer on one thread, both at 640 x 640."""
    return [
        ratio_row(table, ours, "peer", clock, f"{form}, 640x640; peer: one thread, 640x640", 2.0)
        for ours, form in SHOWN.items()
        for clock in (BY_PROCESSOR, BY_CLOCK)
    ]


def default_rows(table: dict[str, NDArray[np.float64]], fitted: str) -> list[dict[str, Any]]:
    """Beside the peer's defaults, and what of it is the input: equal ones, of either size."""
    rows = []
    for ours, form in SHOWN.items():
        rows += [
            ratio_row(
                table, f"{ours}_fit", "default", BY_PROCESSOR,
                f"{form}, {fitted}; peer: its defaults take 640x640", 4.0,
            ),
            # By the clock its defaults take all cores, ours one: no claim is made there.
            ratio_row(
                table, f"{ours}_fit", "default", BY_CLOCK,
                f"{form}, {fitted}, one core; peer: its defaults take 640x640 and every core",
            ),
            ratio_row(
                table, ours, "default", BY_PROCESSOR, f"{form}, 640x640; peer: its defaults",
            ),
            ratio_row(
                table, f"{ours}_fit", "peer_fit", BY_PROCESSOR,
                f"{form}, {fitted}; peer: exported for it, one thread",
            ),
        ]  # fmt: skip
    return rows


def ratio_row(
    table: dict[str, NDArray[np.float64]],
    ours: str,
    peer: str,
    clock: tuple[str, str],
    what: str,
    target: float | None = None,
) -> dict[str, Any]:
    """Images a second by one clock; the spread is that of the frames' pairs."""
    column = Turn._fields.index(clock[0])
    pairs = table[peer][:, column] / table[ours][:, column]
    return make_row(
        f"images/s {clock[1]}, 1080p to boxes, {what}",
        1 / float(np.median(table[ours][:, column])),
        peer=1 / float(np.median(table[peer][:, column])),
        peer_name="ultralytics onnx",
        spread=quarters(pairs),
        target=target,
        met=None if target is None else float(np.median(pairs)) >= target,
    )


def plain_rows(table: dict[str, NDArray[np.float64]], fitted: str) -> list[dict[str, Any]]:
    """FP32, pre- and post-processing, and what is burned after the answers."""
    busy, around, after = (Turn._fields.index(one) for one in ("busy", "around", "after"))
    rows = [
        make_row(
            f"FP32 on {shown}, images/s and core",
            1 / float(np.median(table[name][:, busy])),
            peer=1 / float(np.median(table["peer"][:, busy])),
            peer_name="ultralytics onnx",
        )
        for name, shown in (("ort", "ONNX Runtime"), ("ov", "OpenVINO"))
    ]
    rows += [
        make_row(
            f"pre- and post-processing together, ms by the clock, median, {size}",
            1e3 * float(np.median(table[name][:, around])),
            spread=quarters(1e3 * table[name][:, around]),
            target=1.5,
            higher_is_better=False,
        )
        for name, size in (("int8", "640x640"), ("int8_fit", fitted))
    ]
    rows += [
        make_row(
            f"burned after the answer, ms of the processor, {shown}",
            1e3 * float(np.median(table[name][:, after])),
            higher_is_better=False,
        )
        for name, shown in (("int8", "INT8"), ("peer", "peer on one thread"), ("default", "peer"))
    ]
    return rows


def quarters(values: NDArray[np.float64]) -> tuple[float, float]:
    """First and third quartile."""
    low, high = np.percentile(values, [25, 75])
    return float(low), float(high)


def board_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """Relative loss of mAP50 of INT8 on unseen boards with people's boxes, with its interval."""
    workspace = prepare_model("yolo")
    package = load_package(workspace.package)
    version = load_version(workspace.version("v1"), workspace.images)
    candidates, _ = divide(make_reference(version, "map50").samples, parity=1)
    say_step("INT8 of the fine-tuned YOLO")
    path, facts = quantize(
        package, workspace.images, Reference(metric="map50", samples=candidates), folder
    )
    images, samples = unseen_boards(version, package.manifest.classes, count)
    int8 = path.read_bytes()
    forms = {
        "FP32": Predictor(package, threads=1),
        "INT8": Predictor(package, backend="openvino", threads=1, model=int8),
        "INT8, the rest bfloat16": Predictor(
            package, backend="openvino-bf16", threads=1, model=int8
        ),
        "bfloat16": Predictor(package, backend="openvino-bf16", threads=1),
    }
    answers = {
        name: predictor.predict(images, minimum_confidence=0.01)
        for name, predictor in forms.items()
    }
    kept = f" ({len(facts['kept_in_float'])} of {facts['layers']} layers float)"
    return [
        loss_row(
            f"{name}{kept if name.startswith('INT8') else ''} on {len(images)} unseen boards",
            answers["FP32"],
            answers[name],
            samples,
            len(package.manifest.classes),
        )
        for name in list(forms)[1:]
    ]


if __name__ == "__main__":
    main()
