"""Predictions over a real connection: forms of requests, answers, who may ask."""

from __future__ import annotations

import base64
import json
import re

import cv2
import httpx
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from visionloop.core.files import sha256_of_bytes
from visionloop.serving.http.answers import ModelAnswer, PredictAnswer
from visionloop.serving.manifest import Manifest
from visionloop.serving.package import load_package, write_package
from visionloop.serving.predictor import Predictor


@pytest.fixture
def running(make_plant, tiny, serve_http, wait_until):
    plant = make_plant()
    plant.release(tiny.classifier())
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        yield served


def test_the_answer_is_the_predictors_and_names_release_and_package(
    running, kit, png, tiny
) -> None:
    image = kit.grey_image(200)
    answer = PredictAnswer.model_validate(running.predict(png(image)).json())
    package = load_package(tiny.classifier("again"))
    (expected,) = Predictor(package).predict([image])
    assert (answer.model, answer.release, answer.package) == ("tiny", 1, package.sha256)
    (found,) = answer.predictions
    assert found.sample_id == sha256_of_bytes(png(image))
    assert (found.width, found.height, found.class_name) == (60, 40, "bright")
    assert found.confidence == pytest.approx(expected.answer.confidence, abs=1e-5)
    assert found.probabilities is not None and sum(found.probabilities.values()) == pytest.approx(1)


def test_one_picture_or_several_as_file_form_or_json(running, kit, png) -> None:
    dark, bright = png(kit.grey_image(30)), png(kit.grey_image(220))
    form = running.ask(
        "POST",
        "/v1/predict",
        files=[("a", ("one.png", dark)), ("b", ("two.png", bright))],
        data={"minimum_confidence": "0.5"},
    )
    images = [
        {"name": name, "content": base64.b64encode(content).decode()}
        for name, content in (("one.png", dark), ("two.png", bright))
    ]
    by_json = running.ask("POST", "/v1/predict", json={"images": images})
    for response in (form, by_json):
        assert response.status_code == 200, response.text
        rows = response.json()["predictions"]
        assert [row["name"] for row in rows] == ["one.png", "two.png"]
        assert [row["class_name"] for row in rows] == ["dark", "bright"]
    jpeg = cv2.imencode(".jpg", kit.grey_image(220))[1].tobytes()
    single = running.predict(jpeg, headers={"Content-Type": "image/jpeg"})
    assert single.json()["predictions"][0]["class_name"] == "bright"


@pytest.mark.parametrize("mode", ["grey", "transparent", "16-bit"])
def test_other_colour_modes_are_read_as_their_colours(running, kit, png, mode) -> None:
    grey = kit.grey_image(220)[:, :, 0]
    image = {
        "grey": grey,
        "transparent": np.dstack([grey, grey, grey, np.full_like(grey, 128)]),
        "16-bit": grey.astype(np.uint16) * 257,
    }[mode]
    assert running.predict(png(image)).json()["predictions"][0]["class_name"] == "bright"


def test_boxes_are_in_pixels_of_the_picture_and_follow_the_asked_confidence(
    make_plant, tiny, serve_http, wait_until, kit, png
) -> None:
    plant = make_plant(task="detection")
    package = load_package(plant.release(tiny.detector()).package)
    image = kit.grey_image(250, size=(64, 64))
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        few = served.predict(png(image)).json()["predictions"][0]["boxes"]
        none = served.ask(
            "POST",
            "/v1/predict",
            files={"f": ("a.png", png(image))},
            data={"minimum_confidence": "0.99"},
        )
        assert none.json()["predictions"][0]["boxes"] == []
    (expected,) = Predictor(package).predict([image])
    classes = package.manifest.classes
    assert [row["class_name"] for row in few] == [classes[i] for i in expected.answer.class_id]
    found = np.array([row["xyxy"] for row in few])
    assert np.allclose(found, expected.answer.xyxy, atol=0.01)


def test_strangers_get_401_and_see_nothing(running, kit, png) -> None:
    content = png(kit.grey_image(99))
    for header in ("", "Bearer", "Bearer wrong", "Basic a-token-of-the-tests", "Bearer tökén"):
        response = httpx.post(
            running.url + "/v1/predict",
            content=content,
            headers={"Authorization": header.encode(), "Content-Type": "image/png"},
            trust_env=False,
        )
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/metrics", "/v1/model", "/nothing", "/docs"):
        assert httpx.get(running.url + path, trust_env=False).status_code == 401
    for path in ("/healthz", "/readyz", "/", "/openapi.json"):
        assert httpx.get(running.url + path, trust_env=False).status_code == 200
    assert "problem" not in httpx.get(running.url + "/readyz", trust_env=False).json()


def test_the_model_the_metrics_and_the_pages(running, kit, png) -> None:
    running.predict(png(kit.grey_image(99)))
    model = ModelAnswer.model_validate(running.ask("GET", "/v1/model").json())
    assert (model.classes, model.input) == (["dark", "bright"], {"width": 32, "height": 32})
    assert running.metric('visionloop_http_requests_total{status="200"}') == 1
    assert running.metric("visionloop_http_ready") == 1
    assert running.metric("visionloop_http_release_problem") == 0
    assert running.metric('visionloop_http_release{model="tiny"') == 1
    page = running.ask("GET", "/").text
    assert f"{running.url}/v1/predict" in page and "xyxy" in page
    assert "src=" not in page and 'href="http' not in page  # nothing is loaded from elsewhere
    document = running.ask("GET", "/openapi.json").json()
    assert "429" in document["paths"]["/v1/predict"]["post"]["responses"]
    schemas = document["components"]["schemas"]
    names = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert {"PredictRequest", "AskedPicture", "PredictAnswer"} <= names <= set(schemas)
    assert json.dumps(document).count('"$ref": "#/c') == json.dumps(document).count('"$ref"')


def test_prometheus_can_read_the_metrics(running, kit, png) -> None:
    running.predict(png(kit.grey_image(99)))
    rows = [
        (row.name, *sorted(row.labels.items()))
        for family in text_string_to_metric_families(running.ask("GET", "/metrics").text)
        for row in family.samples
    ]
    assert len(rows) == len(set(rows)) > 50
    assert all(name.startswith("visionloop_http_") for name, *_ in rows)


def test_a_scene_is_answered_with_its_attributes(
    make_plant, tiny, tmp_path, signed, serve_http, wait_until, kit, png
) -> None:
    scene = kit.classifier_manifest().as_json()
    scene |= {"vision_task": "scene", "outputs": {**scene["outputs"], "kind": "attributes"}}
    model = kit.make_classifier(tmp_path / "scene.onnx")
    package = tmp_path / "scene"
    write_package(
        package, model=model, manifest=Manifest.model_validate(scene), signing_key=signed[0]
    )
    plant = make_plant(vision_task="scene")
    plant.release(package)
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        (found,) = served.predict(png(kit.grey_image(220))).json()["predictions"]
    assert found["attributes"]["bright"] > 0.9 > 0.1 > found["attributes"]["dark"]
    assert "class_name" not in found and "boxes" not in found


def test_onnx_runtime_serves_where_the_engine_is_missing(
    make_plant, tiny, serve_http, wait_until, kit, png, capsys
) -> None:
    plant = make_plant(backend="tensorrt", lanes=0)
    plant.release(tiny.classifier())
    with serve_http(plant.workspace) as served:
        wait_until(lambda: served.ask("GET", "/readyz").status_code == 200)
        assert served.predict(png(kit.grey_image(220))).status_code == 200
        assert served.state.lanes.count == 1
        (predictor,) = served.state.releases.used.predictors
        assert predictor.wait(60)
        assert predictor.backend_name == "onnxruntime" and predictor.why_standby
        assert served.predict(png(kit.grey_image(220))).status_code == 200
    assert "ONNX Runtime serves while the tensorrt engine is prepared" in capsys.readouterr().err
