"""Under pressure a smaller input answers, then a smaller package; afterwards the full one again.

The agent's real loop on a real release; only the pressure is a dial.
"""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.files import write_json
from visionloop.core.workspace import Workspace
from visionloop.serving import signing
from visionloop.serving.edge.agent import _Agent
from visionloop.serving.edge.delivery.outbox import read_events
from visionloop.serving.edge.device import Device
from visionloop.serving.edge.ladder import RUNGS
from visionloop.serving.edge.pressure import Pressure
from visionloop.serving.edge.record.records import read_frames
from visionloop.serving.edge.settings import SettingsFile
from visionloop.serving.engines.record import (
    ENGINE_MANIFEST,
    ENGINE_SIGNATURE,
    EngineManifest,
    load_manifest,
    read_smaller,
)
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import load_package, write_package
from visionloop.serving.params import BuildParams
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.store import publish
from visionloop.serving.variants.reference import reference_of_folder
from visionloop.serving.variants.resize_model import at_size
from visionloop.serving.variants.smaller_input import make_smaller, smaller_size

SIDE = 64
CLASSES = ["dark", "bright"]


def write_classifier(folder, key, *, classes=CLASSES, gain=6.0, is_fixed=False):
    """Mean brightness decides; ``is_fixed`` holds the size of the input in a constant."""
    weights = np.array([[-gain, gain]] * 3, np.float32)
    constants = {"weights": weights, "bias": np.array([1.5 * gain, -1.5 * gain], np.float32)}
    node = helper.make_node
    nodes, entry = [], "image"
    if is_fixed:
        constants["pattern"] = np.ones((1, 3, SIDE, SIDE), np.float32)
        nodes, entry = [node("Mul", ["image", "pattern"], ["masked"])], "masked"
    nodes += [
        node("GlobalAveragePool", [entry], ["pooled"]),
        node("Flatten", ["pooled"], ["flat"]),
        node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    path = folder.parent / f"{folder.name}.onnx"
    onnx.save(model, path)
    manifest = Manifest(
        name=folder.name,
        vision_task="classification",
        classes=classes,
        input=ImageInput(width=SIDE, height=SIDE),
        outputs=ModelOutputs(answer="probabilities", kind="probabilities"),
    )
    write_package(folder, model=path, manifest=manifest, signing_key=key)
    return folder


def write_engine(folder, package, images, keys):
    """What ``serve build`` writes, without variants and engines."""
    folder.mkdir()
    loaded = load_package(package)
    facts = make_smaller(
        loaded,
        folder=folder,
        images=images,
        reference=reference_of_folder(images, 4),
        keys=[keys[1]],
        params=BuildParams(smaller_share=0.5),
    )
    manifest = EngineManifest(package_sha256=loaded.sha256, smaller=facts)
    write_json(folder / ENGINE_MANIFEST, manifest.model_dump(mode="json"))
    signing.sign_folder(folder, key=keys[0], signature_name=ENGINE_SIGNATURE)
    return folder


@pytest.fixture
def site(tmp_path, signed, gate_report, film):
    """A release with a smaller input, one of a smaller package, a camera, a dial."""
    root = tmp_path / "site"
    images = root / "pictures"
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number, level in enumerate((20, 60, 200, 240)):
        picture = (generator.normal(level, 5, (90, 120, 3))).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(images / f"{number}.png"), picture)
    workspace = Workspace(root)
    big = write_classifier(root / "big", signed[0])
    small = write_classifier(root / "small", signed[0], gain=5.0)
    engine = write_engine(root / "engine", big, images, signed)
    common = {"releases": workspace.releases, "gate_report": gate_report}
    publish(**common, model="big", package=big, engines=engine)
    publish(**common, model="small", package=small)
    frames = [generator.integers(60, 200, (96, 128, 3), np.uint8) for _ in range(30)]
    film.write(root / "line.mp4", frames, gop=5)
    config = root / "edge.yaml"
    camera = {"name": "line", "kind": "file", "path": "line.mp4", "loop": True}
    camera |= {"keep_share": 1.0, "gate": {"enabled": False, "active_fps": 15.0}}
    content = {
        "model": "big",
        "fallback_model": "small",
        "threads": 1,
        "max_age_s": 30.0,
        "cameras": [camera],
        "status": {"enabled": False},
        "health": {"raise_s": 600.0, "lost_s": 600.0},
        "ladder": {"worse_s": 0.2, "better_s": 0.3},
    }
    config.write_text(yaml.safe_dump(content))
    return SimpleNamespace(workspace=workspace, config=config, big=big, small=small, key=signed[0])


class Dial:
    """A pressure that a test sets."""

    cause = "overload"
    share = 0.0

    def read(self):
        return Pressure(self.share, "a dial")


def wait_for(what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_the_ladder_exchanges_the_model_and_brings_it_back(site):
    settings = SettingsFile(site.workspace, site.config)
    dial = Dial()
    device = Device(site.workspace.edge, site.workspace.root, settings.params, readers=[dial])
    device.start(with_page=False)
    agent = _Agent(site.workspace, settings, device)
    ended = threading.Event()
    thread = threading.Thread(target=agent.watch_cameras, args=(None, ended), daemon=True)
    thread.start()

    def drive(level):
        """Up or down to a level, and stay."""
        ladder = device.ladder
        dial.share = 1.5 if ladder.level < level else 0.1
        wait_for(lambda: ladder.level == level)
        dial.share = 0.95

    def form():
        return device.read_state().form

    try:
        wait_for(lambda: device.ladder.missing == frozenset())
        wait_for(lambda: device.read_state().release == 1)
        assert form() == "full"
        drive(RUNGS.index("full_size") + 1)
        wait_for(lambda: form() == "input 32 x 32")
        assert device.read_state().given_up == list(RUNGS[:4])
        drive(RUNGS.index("full_package") + 1)
        wait_for(lambda: form() == "package small, release 1")
        seen = len(read_frames(site.workspace.edge / "outbox.db"))
        wait_for(lambda: len(read_frames(site.workspace.edge / "outbox.db")) > seen + 3)
        drive(0)
        wait_for(lambda: form() == "full")
    finally:
        ended.set()
        thread.join(60)
        device.close()
    told = read_events(site.workspace.edge / "outbox.db")
    forms = [one.payload["form"] for one in told if one.kind == "model_form"]
    assert forms[:2] == ["input 32 x 32", "package small, release 1"] and forms[-1] == "full"
    answered = {one.package for one in read_frames(site.workspace.edge / "outbox.db")}
    assert answered == {load_package(site.big).sha256, load_package(site.small).sha256}


def test_the_smaller_input_gives_the_answers_of_the_full_one_on_easy_pictures(site):
    package = load_package(site.big)
    folder = site.workspace.releases / "big" / "1" / "engine"
    manifest = load_manifest(folder, package_sha256=package.sha256)
    facts, content = read_smaller(folder, manifest)
    assert (facts.width, facts.height, facts.accepted) == (32, 32, True)
    assert facts.parity["loss"] == 0.0
    smaller = Predictor(at_size(package, 32, 32), threads=1, model=content)
    bright = np.full((90, 120, 3), 230, np.uint8)
    (one,) = smaller.predict([bright])
    assert one.answer.class_id == 1


def test_a_graph_of_one_size_and_a_large_loss_are_reasons_to_go_without(site, tmp_path, signed):
    images = site.workspace.root / "pictures"
    fixed = write_classifier(site.workspace.root / "fixed", site.key, is_fixed=True)
    folder = write_engine(tmp_path / "fixed-engine", fixed, images, signed)
    smaller = load_manifest(folder, package_sha256=load_package(fixed).sha256).smaller
    assert not smaller.accepted and "fixed at 64 x 64" in smaller.reasons[0]
    assert not (folder / "model-smaller.onnx").exists()


def test_sizes_are_multiples_of_32_and_never_larger():
    assert smaller_size(640, 384, 0.7) == (448, 256)
    assert smaller_size(224, 224, 0.7) == (160, 160)
    assert smaller_size(32, 32, 0.5) == (32, 32)
    assert smaller_size(24, 24, 0.5) == (24, 24)


def test_a_package_of_other_classes_never_answers(site, gate_report, capsys):
    other = write_classifier(site.workspace.root / "other", site.key, classes=["bright", "dark"])
    publish(releases=site.workspace.releases, model="small", package=other, gate_report=gate_report)
    settings = SettingsFile(site.workspace, site.config)
    device = Device(site.workspace.edge, site.workspace.root, settings.params, readers=[Dial()])
    _Agent(site.workspace, settings, device).watch_cameras(3)
    assert "has the classes bright, dark" in capsys.readouterr().err
    assert "full_package" in device.ladder.missing and "full_size" not in device.ladder.missing
    device.close()
