"""``serving.http.backend: tuned``: the server runs the form that this machine was measured with."""

from __future__ import annotations

import pytest

from visionloop.core.files import write_bytes, write_json
from visionloop.serving import signing
from visionloop.serving.engines.record import ENGINE_MANIFEST, ENGINE_SIGNATURE, EngineManifest
from visionloop.serving.http.params import HttpParams
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.processors import count_processors
from visionloop.serving.releases.golden import ANSWERS_NAME, GOLDEN_NAME, write_golden
from visionloop.serving.tuning.device_profile import (
    Choice,
    DeviceProfile,
    profile_path,
    save_profile,
)


def write_profile(workspace, package_sha256: str, *, backend="openvino", threads=1) -> None:
    choice = Choice(backend=backend, precision="fp32", threads=threads, width=32, height=32)
    profile = DeviceProfile(
        package_sha256=package_sha256,
        machine="a machine of the tests",
        target_ms=50,
        is_met=True,
        choice=choice,
        why=["chosen by the test"],
        measured=[],
    )
    save_profile(profile_path(workspace), profile)


def ask_once(serve_http, plant, wait_until, content):
    """Backends of the lanes, and the class that was answered."""
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        predictors = served.state.releases.used.predictors
        answer = served.predict(content).json()["predictions"][0]["class_name"]
        return [one.backend_name for one in predictors], answer


def test_the_choice_runs_in_every_lane(make_plant, tiny, serve_http, wait_until, kit, png) -> None:
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    plant = make_plant(backend="tuned", lanes=0)
    release = plant.release(tiny.classifier())
    write_profile(plant.workspace, load_package(release.package).sha256, threads=2)
    backends, answer = ask_once(serve_http, plant, wait_until, png(kit.grey_image(220)))
    assert backends == ["openvino"] * max(1, count_processors() // 2)
    assert answer == "bright"


@pytest.mark.parametrize("profile", ["none", "of another package", "damaged"])
def test_without_a_fitting_profile_onnx_runtime_serves(
    make_plant, tiny, serve_http, wait_until, kit, png, capsys, profile
) -> None:
    plant = make_plant(backend="tuned", lanes=0)
    plant.release(tiny.classifier())
    if profile == "of another package":
        write_profile(plant.workspace, "0" * 64)
    elif profile == "damaged":
        write_bytes(profile_path(plant.workspace), b"{")
    backends, answer = ask_once(serve_http, plant, wait_until, png(kit.grey_image(220)))
    assert backends == ["onnxruntime"] * count_processors()
    assert answer == "bright"
    assert "visionloop serve tune" in capsys.readouterr().err


def test_a_form_that_answers_golden_images_otherwise_does_not_serve(
    make_plant, tiny, serve_http, wait_until, kit, png, tmp_path, signed, capsys, monkeypatch
) -> None:
    """The release is good, the form of this machine is not: FP32 serves it."""
    pytest.importorskip("openvino", reason="the openvino extra is not installed")
    package = load_package(tiny.classifier())
    engine = tmp_path / "engine"
    picture = tmp_path / "a.png"
    picture.write_bytes(png(kit.grey_image(150)))
    write_golden(engine / GOLDEN_NAME, Predictor(package, threads=1), [picture])
    manifest = EngineManifest(package_sha256=package.sha256)
    write_json(engine / ENGINE_MANIFEST, manifest.model_dump(mode="json"))
    signing.sign_folder(engine, key=signed[0], signature_name=ENGINE_SIGNATURE)
    assert (engine / GOLDEN_NAME / ANSWERS_NAME).is_file()
    plant = make_plant(backend="tuned", lanes=1)
    plant.release(package.path, engines=engine)
    write_profile(plant.workspace, package.sha256)

    from visionloop.serving.backends.openvino_backend import OpenVinoBackend

    run = OpenVinoBackend.run

    def drifting(self, batch):
        found = run(self, batch)
        return {**found, "probabilities": found["probabilities"][:, ::-1]}

    monkeypatch.setattr(OpenVinoBackend, "run", drifting)
    backends, answer = ask_once(serve_http, plant, wait_until, png(kit.grey_image(220)))
    assert (backends, answer) == (["onnxruntime"], "bright")
    assert "golden images are answered otherwise" in capsys.readouterr().err


def test_the_profile_is_where_tune_writes_it(make_plant) -> None:
    workspace = make_plant().workspace
    assert workspace.root / HttpParams().device_profile == profile_path(workspace)
