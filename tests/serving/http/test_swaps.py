"""Releases change while requests go on; what cannot be used changes nothing."""

from __future__ import annotations

import shutil
import threading

import onnx
import pytest
from onnx import helper

from visionloop.core.files import read_json, write_json
from visionloop.serving.engines.record import ENGINE_MANIFEST, ENGINE_SIGNATURE
from visionloop.serving.package import load_package, write_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.golden import GOLDEN_NAME, write_golden
from visionloop.serving.signing import sign_folder


@pytest.fixture
def plant(make_plant):
    return make_plant()


@pytest.fixture
def write(tiny, kit, tmp_path, signed):
    """Write a package around a changed classifier."""

    def make(name, change):
        model = onnx.load(kit.make_classifier(tmp_path / f"{name}.onnx"))
        change(model.graph)
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(model.SerializeToString())
        target = tmp_path / name
        manifest = kit.classifier_manifest()
        write_package(target, model=path, manifest=manifest, signing_key=signed[0])
        return target

    return make


def fail_on_black(graph) -> None:
    """Zero by zero: an answer that is no number, on black pictures alone."""
    gemm = next(node for node in graph.node if node.op_type == "Gemm")
    place = list(graph.node).index(gemm)
    graph.node.insert(place, helper.make_node("Div", ["embedding", "embedding"], ["one"]))
    graph.node.insert(place + 1, helper.make_node("Mul", ["embedding", "one"], ["same"]))
    gemm.input[0] = "same"


def ready(running) -> dict:
    return running.ask("GET", "/readyz").json()


def test_no_request_fails_while_releases_change_and_each_answer_names_its_own(
    plant, tiny, serve_http, wait_until, kit, png
) -> None:
    image = kit.grey_image(140)
    packages = [tiny.classifier(f"gain-{gain}", gain=gain) for gain in (1.0, 3.0, 5.0, 7.0)]
    expected = {}
    for number, path in enumerate(packages, start=1):
        if number == 1:
            plant.release(path)
        predictor = Predictor(load_package(path))
        confidence = predictor.predict([image])[0].answer.confidence
        expected[number] = (predictor.package.sha256, pytest.approx(confidence, abs=1e-5))
    answers: list[list[tuple[int, int, str, float]]] = [[], [], []]
    is_over = threading.Event()

    def ask(mine) -> None:
        while not is_over.is_set():
            response = running.predict(png(image))
            if response.status_code == 429:
                continue
            content = response.json()
            confidence = content["predictions"][0]["confidence"]
            row = (response.status_code, content["release"], content["package"], confidence)
            mine.append(row)

    with serve_http(plant.workspace) as running:
        wait_until(lambda: ready(running)["release"] == 1)
        threads = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(answers))
        for number, path in enumerate(packages[1:], start=2):
            plant.release(path)
            running.state.releases.look()
            wait_until(lambda: all(mine and mine[-1][1] == number for mine in answers))  # noqa: B023
        is_over.set()
        for thread in threads:
            thread.join()
        assert running.metric("visionloop_http_release_swaps_total") == 3
    for mine in answers:
        assert {row[0] for row in mine} == {200}
        numbers = [row[1] for row in mine]
        assert numbers == sorted(numbers) and set(numbers) == {1, 2, 3, 4}
        assert all(
            expected[number] == (package, confidence) for _, number, package, confidence in mine
        )


def test_what_is_at_work_is_finished_by_the_release_that_began_it(
    plant, tiny, slow_classifier, serve_http, wait_until, kit, png
) -> None:
    plant.release(slow_classifier(layers=60))
    files = [("f", (f"{n}.png", png(kit.grey_image(99, seed=n)))) for n in range(16)]
    found: list[dict] = []
    with serve_http(plant.workspace) as running:
        wait_until(lambda: ready(running)["release"] == 1, seconds=60)
        thread = threading.Thread(
            target=lambda: found.append(running.ask("POST", "/v1/predict", files=files).json())
        )
        thread.start()
        wait_until(lambda: any(lane.until for lane in running.state.lanes._lanes))
        plant.release(tiny.classifier())
        running.state.releases.look()
        assert running.predict(png(kit.grey_image(99))).json()["release"] == 2
        assert not found, "the old release should still be at work"
        thread.join()
    assert found[0]["release"] == 1
    assert len(found[0]["predictions"]) == 16


def break_model(plant) -> None:
    path = plant.workspace.releases / "tiny" / "2" / "package" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("fault", ["byte", "gone", "task", "not finite", "index", "replay"])
def test_a_release_that_cannot_be_used_leaves_the_old_one_and_says_so(
    plant, tiny, write, serve_http, wait_until, kit, png, fault
) -> None:
    picture = png(kit.grey_image(200))
    plant.release(tiny.classifier())
    index = plant.workspace.releases / "index.json"
    old = index.read_bytes()
    if fault == "replay":
        plant.release(tiny.classifier("newer", gain=2.0))
    with serve_http(plant.workspace) as running:
        wait_until(lambda: running.ask("GET", "/readyz").status_code == 200)
        before = running.predict(picture).json()
        if fault == "task":
            plant.release(tiny.detector())
        elif fault == "not finite":
            plant.release(tiny.classifier("nan", gain=float("nan")))
        elif fault in ("byte", "gone"):
            plant.release(tiny.classifier("next", gain=3.0))
            if fault == "byte":
                break_model(plant)
            else:
                shutil.rmtree(plant.workspace.releases / "tiny" / "2")
        elif fault == "index":
            index.write_bytes(old.replace(b'"serial": 1', b'"serial": 9'))
            assert index.read_bytes() != old
        else:
            index.write_bytes(old)
        running.state.releases.look()
        after = running.predict(picture).json()
        assert (after["release"], after["package"]) == (before["release"], before["package"])
        response = running.ask("GET", "/readyz")
        assert response.status_code == 200
        assert response.json()["newest_release_serves"] is False
        word = {
            "byte": "", "gone": "no such folder", "task": "detection", "not finite": "finite",
            "index": "signature", "replay": "older",
        }[fault]  # fmt: skip
        assert word in response.json()["problem"] and response.json()["problem"]
        assert running.metric("visionloop_http_release_problem") == 1
        assert running.metric("visionloop_http_ready") == 1
        if fault in ("byte", "gone", "task", "not finite"):
            plant.release(tiny.classifier("good", gain=4.0))
            wait_until(lambda: ready(running)["release"] == 3)
            assert ready(running)["newest_release_serves"] is True
            assert running.metric("visionloop_http_release_problem") == 0


def test_a_start_with_a_broken_newest_release_serves_the_one_before(
    plant, tiny, serve_http, wait_until, kit, png
) -> None:
    plant.release(tiny.classifier())
    plant.release(tiny.classifier("next", gain=3.0))
    break_model(plant)
    with serve_http(plant.workspace) as running:
        wait_until(lambda: running.ask("GET", "/readyz").status_code == 200)
        assert running.predict(png(kit.grey_image(200))).json()["release"] == 1
        assert ready(running)["newest_release_serves"] is False
        assert "changed after signing" in ready(running)["problem"]


def test_an_index_that_was_put_back_serves_nothing_after_a_restart(
    plant, tiny, serve_http, wait_until, kit, png
) -> None:
    plant.release(tiny.classifier())
    plant.release(tiny.classifier("next", gain=3.0))
    index = plant.workspace.releases / "index.json"
    old = index.read_bytes()
    plant.release(tiny.classifier("third", gain=4.0))
    with serve_http(plant.workspace) as running:
        wait_until(lambda: ready(running)["release"] == 3)
    assert read_json(plant.workspace.root / "http" / "seen.json")["serial"] == 3
    index.write_bytes(old)
    with serve_http(plant.workspace) as running:
        wait_until(lambda: running.state.problem)
        response = running.predict(png(kit.grey_image(200)))
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert running.ask("GET", "/readyz").status_code == 503
        assert running.ask("GET", "/healthz").status_code == 200  # a restart would not help
        assert running.metric("visionloop_http_ready") == 0


def test_a_model_that_gives_no_numbers_turns_the_server_red_for_a_while(
    plant, tiny, write, serve_http, wait_until, kit, png, monkeypatch
) -> None:
    monkeypatch.setattr("visionloop.serving.http.batches.FAILING_SECONDS", 0.5)
    black, grey = png(kit.grey_image(0) * 0), png(kit.grey_image(200))
    plant.release(write("fragile", fail_on_black))
    with serve_http(plant.workspace) as running:
        wait_until(lambda: running.ask("GET", "/readyz").status_code == 200)
        for _ in range(4):
            response = running.predict(black)
            assert response.status_code == 500
            assert str(plant.workspace.root) not in response.text
        assert running.predict(grey).status_code == 200
        assert running.ask("GET", "/readyz").status_code == 200
        for _ in range(5):
            running.predict(black)
        assert running.ask("GET", "/readyz").status_code == 503
        wait_until(lambda: running.ask("GET", "/readyz").status_code == 200)
        assert running.metric("visionloop_http_model_failures_total") == 9


def test_a_release_whose_golden_images_are_answered_otherwise_is_refused(
    plant, tiny, tmp_path, signed, serve_http, wait_until, kit, png
) -> None:
    """What the builder saw and what this machine computes must agree."""
    picture = tmp_path / "bright.png"
    picture.write_bytes(png(kit.grey_image(200)))
    package = load_package(tiny.classifier("next", gain=3.0))
    for name, gain in (("right", 3.0), ("wrong", -3.0)):
        folder = tmp_path / name
        write_golden(
            folder / GOLDEN_NAME, Predictor(load_package(tiny.classifier(name + "-p", gain=gain))),
            [picture],
        )  # fmt: skip
        write_json(folder / ENGINE_MANIFEST, {"package_sha256": package.sha256})
        sign_folder(folder, key=signed[0], signature_name=ENGINE_SIGNATURE)
    plant.release(tiny.classifier())
    with serve_http(plant.workspace) as running:
        wait_until(lambda: ready(running)["release"] == 1)
        plant.release(package.path, engines=tmp_path / "wrong")
        running.state.releases.look()
        assert ready(running)["release"] == 1
        assert "golden images" in ready(running)["problem"]
        plant.release(tiny.classifier("other", gain=2.0))
        plant.release(package.path, engines=tmp_path / "right")
        running.state.releases.look()
        assert ready(running)["release"] == 4
        assert ready(running)["problem"] == ""
