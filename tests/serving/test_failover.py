"""ONNX Runtime serves at once; engines that are missing, foreign or broken are built again."""

from __future__ import annotations

import json
import shutil
import threading
import time

import pytest

from visionloop.core.errors import PackageError
from visionloop.serving import signing
from visionloop.serving.backends.tensorrt_backend import find_tensorrt, gpu_capability
from visionloop.serving.build import build
from visionloop.serving.engines.device import prepare_engine, start_with_engine
from visionloop.serving.engines.record import load_engine
from visionloop.serving.failover import FailoverPredictor
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor

needs_tensorrt = pytest.mark.skipif(find_tensorrt() is None, reason="TensorRT is not installed")


def keep_asking(predictor, image, stop):
    """Ask without a pause until stopped; returns the backends that answered and the failures."""
    seen, failures = [], []

    def ask():
        while not stop.is_set():
            try:
                (answer,) = predictor.predict([image])
                assert answer.answer.class_id == 1
                seen.append(predictor.backend_name)
            except Exception as error:
                failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return seen, failures, thread


def test_the_faster_one_takes_over_and_inference_never_stops(tiny, kit):
    package = load_package(tiny.classifier())
    ready = threading.Event()

    def prepare() -> Predictor:
        ready.wait(10)
        return Predictor(package, backend="openvino", threads=1)

    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    predictor = FailoverPredictor(Predictor(package, threads=1), prepare)
    stop = threading.Event()
    seen, failures, thread = keep_asking(predictor, kit.grey_image(200), stop)
    time.sleep(0.1)
    assert predictor.is_preparing and predictor.backend_name == "onnxruntime"
    ready.set()
    assert predictor.wait(30)
    time.sleep(0.1)
    stop.set()
    thread.join()
    assert not failures
    assert seen[0] == "onnxruntime" and seen[-1] == "openvino"
    assert predictor.why_standby == ""
    assert predictor.embed([kit.grey_image(3)]).shape == (1, 3)


class FailsLater(Predictor):
    """A real predictor whose backend fails on the third call, as a GPU that was lost does."""

    calls = 0

    def predict_timed(self, images, *, minimum_confidence=None):
        self.calls += 1
        if self.calls > 2:
            raise PackageError("engine", "CUDA failed: cudaErrorLaunchFailure")
        return super().predict_timed(images, minimum_confidence=minimum_confidence)


def test_a_backend_that_fails_while_it_serves_costs_no_frame(tiny, kit):
    package = load_package(tiny.classifier())
    said = []
    predictor = FailoverPredictor(
        Predictor(package, threads=1), lambda: FailsLater(package), attempts=2, say=said.append
    )
    for _ in range(12):
        assert predictor.wait(10)
        (found,) = predictor.predict([kit.grey_image(200)])
        assert found.answer.class_id == 1
    assert predictor.why_standby == "CUDA failed: cudaErrorLaunchFailure"
    assert [line for line in said if "serves instead" in line] == [
        "onnxruntime serves instead: CUDA failed: cudaErrorLaunchFailure"
    ] * 2  # prepared twice, then left alone


def test_what_cannot_be_prepared_is_said(tiny, kit):
    package = load_package(tiny.classifier())
    said = []

    def prepare() -> Predictor:
        raise RuntimeError("driver gone")

    predictor = FailoverPredictor(Predictor(package, threads=1), prepare, say=said.append)
    assert predictor.wait(10)
    assert said == ["onnxruntime serves: RuntimeError: driver gone"]
    assert predictor.predict([kit.grey_image(20)])[0].answer.class_id == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory, key_pair, kit):
    """A workspace with a package and its engine folder (one engine, FP16), built once."""
    import cv2

    from visionloop.core.workspace import Workspace
    from visionloop.serving.package import write_package

    workspace = Workspace(tmp_path_factory.mktemp("built"))
    workspace.images.mkdir(parents=True)
    for level in (20, 120, 220):
        cv2.imwrite(str(workspace.images / f"{level}.png"), kit.grey_image(level))
    workspace.params.write_text(
        "project: {recipe: tiny, model: tiny, vision_task: classification, "
        "classes: [dark, bright]}\n"
        "serving: {build: {parity_images: 4, latency_calls: 3, precisions: [fp16]}}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
        model = kit.make_classifier(workspace.root / "m.onnx")
        write_package(workspace.package, model=model, manifest=kit.classifier_manifest())
        build(workspace=workspace)
    return workspace


@pytest.fixture
def engine_folder(built, tmp_path, signed):
    """The package, and a copy of its engine folder that a test may break."""
    folder = tmp_path / "engine"
    shutil.copytree(built.engine, folder)
    return load_package(built.package), folder


def doctor(folder, key, **changes):
    content = json.loads((folder / "engine.json").read_text())
    content["engines"] = [one | changes for one in content["engines"]]
    (folder / "engine.json").write_text(json.dumps(content))
    signing.sign_folder(folder, key=key, signature_name="engine.sig")


@needs_tensorrt
def test_foreign_and_broken_engines_are_rebuilt_while_onnxruntime_serves(
    engine_folder, tmp_path, signed, kit, capfd
):
    package, folder = engine_folder
    cache, image = tmp_path / "cache", kit.grey_image(200)
    doctor(folder, signed[0], tensorrt_version="0.1")
    predictor = start_with_engine(package, folder, cache=cache, threads=1)
    stop = threading.Event()
    seen, failures, thread = keep_asking(predictor, image, stop)
    assert predictor.wait(120)
    stop.set()
    thread.join()
    assert not failures and len(seen) > 10
    assert "building one here" in capfd.readouterr().err
    kept = [path for path in cache.iterdir() if (path / "model.engine").is_file()]
    assert len(kept) == 1  # rebuilt from the release's FP16 variant
    assert json.loads((kept[0] / "facts.json").read_text())["precision"] == "fp16"
    if not gpu_capability():  # built, and still not trusted: nothing here can run it
        assert predictor.backend_name == "onnxruntime"
        assert "GPU" in predictor.why_standby or "cuda" in predictor.why_standby


@needs_tensorrt
@pytest.mark.parametrize("fault", ["cut", "missing", "unsigned"])
def test_a_broken_engine_folder_is_no_reason_to_stop(engine_folder, tmp_path, signed, kit, fault):
    package, folder = engine_folder
    (engine,) = folder.glob("*.engine")
    if fault == "cut":
        engine.write_bytes(engine.read_bytes()[:100])
        signing.sign_folder(folder, key=signed[0], signature_name="engine.sig")
    elif fault == "missing":
        shutil.rmtree(folder)
    else:
        (folder / "engine.sig").unlink()
    keys = signing.trusted_keys()
    with pytest.raises(PackageError):
        load_engine(folder, package_sha256=package.sha256, trusted_keys=keys)
    if gpu_capability():
        assert prepare_engine(package, folder, cache=tmp_path / "c", trusted_keys=keys)
    else:
        with pytest.raises(Exception, match=r"GPU|cuda"):
            prepare_engine(package, folder, cache=tmp_path / "c", trusted_keys=keys)
    assert list((tmp_path / "c").iterdir())  # an engine was built from what could be trusted
