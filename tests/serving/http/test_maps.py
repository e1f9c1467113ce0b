"""Heat maps of anomaly packages: asked for, at the right place, bounded."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.serving.http.answers import PredictAnswer
from visionloop.serving.http.maps import LONGEST_SIDE, describe_map
from visionloop.serving.manifest import Manifest
from visionloop.serving.package import write_package


@pytest.fixture
def anomaly(tmp_path, signed, kit):
    """A package whose heat map is the brightness of each pixel."""
    model = onnx.load(kit.make_classifier(tmp_path / "anomaly.onnx"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "channels"))
    model.graph.node.append(
        helper.make_node("ReduceMean", ["image", "channels"], ["heatmap"], keepdims=0)
    )
    sizes = ["batch", kit.SIZE, kit.SIZE]
    model.graph.output.append(helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, sizes))
    path = tmp_path / "anomaly.onnx"
    path.write_bytes(model.SerializeToString())
    content = kit.classifier_manifest().as_json()
    content |= {"vision_task": "anomaly", "outputs": {**content["outputs"], "heatmap": "heatmap"}}
    folder = tmp_path / "anomaly"
    manifest = Manifest.model_validate(content)
    write_package(folder, model=path, manifest=manifest, signing_key=signed[0])
    return folder


@pytest.fixture
def running(make_plant, anomaly, serve_http, wait_until):
    plant = make_plant(vision_task="anomaly")
    plant.release(anomaly)
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        yield served


def ask(running, content: bytes, query: str):
    headers = {"Content-Type": "image/png"}
    return running.ask("POST", f"/v1/predict{query}", content=content, headers=headers)


def read(heatmap) -> np.ndarray:
    content = np.frombuffer(base64.b64decode(heatmap.png, validate=True), np.uint8)
    return cv2.imdecode(content, cv2.IMREAD_UNCHANGED)


def test_a_map_says_where_and_only_who_asks_gets_it(running, png) -> None:
    image = np.full((40, 60, 3), 20, np.uint8)
    image[:20, 45:] = 240  # upper right
    plain = ask(running, png(image), "").json()
    assert "heatmap" not in plain["predictions"][0]
    assert ask(running, png(image), "?maps=false").json()["predictions"][0].keys() == (
        plain["predictions"][0].keys()
    )
    found = PredictAnswer.model_validate(ask(running, png(image), "?maps=true").json())
    heatmap = found.predictions[0].heatmap
    assert heatmap is not None
    grey = read(heatmap)
    assert grey.shape == (heatmap.height, heatmap.width) == (32, 32)
    large = cv2.resize(grey, (60, 40), interpolation=cv2.INTER_LINEAR)
    assert large[8, 55] > 225 and large[8, 10] < 30 and large[35, 55] < 30
    assert heatmap.highest == pytest.approx(240 / 255, abs=0.01)


def test_every_picture_of_a_request_has_its_own(running, kit, png) -> None:
    files = [("f", (f"{n}.png", png(kit.grey_image(level)))) for n, level in enumerate((40, 200))]
    response = running.ask("POST", "/v1/predict?maps=1", files=files)
    found = PredictAnswer.model_validate(response.json()).predictions
    assert [read(one.heatmap).mean() for one in found] == pytest.approx([40, 200], abs=2)


def test_a_package_without_maps_and_a_wrong_word_are_refused_before_any_work(
    make_plant, tiny, serve_http, wait_until, kit, png
) -> None:
    plant = make_plant()
    plant.release(tiny.classifier())
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        refused = ask(served, png(kit.grey_image(99)), "?maps=true")
        assert refused.status_code == 422
        assert "gives no heat maps" in refused.json()["problems"][0]
        wrong = ask(served, png(kit.grey_image(99)), "?maps=perhaps")
        assert wrong.status_code == 422
        assert "neither true nor false" in wrong.json()["problems"][0]
        document = json.dumps(served.ask("GET", "/openapi.json").json())
    assert '"maps"' in document and "HeatMapAnswer" in document


def test_a_map_is_bounded_and_finite() -> None:
    noise = np.random.default_rng(0).random((1200, 700)).astype(np.float32)
    noise[:3] = [[np.nan], [np.inf], [-5.0]]
    found = describe_map(noise)
    assert (found["height"], found["width"]) == (LONGEST_SIDE, round(700 * LONGEST_SIDE / 1200))
    assert found["highest"] == 1.0
    assert len(str(found["png"])) < 100_000
    thin = describe_map(np.zeros((1, 4000), np.float32))
    assert (thin["height"], thin["width"]) == (1, LONGEST_SIDE)
