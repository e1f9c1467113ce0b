"""The compose file: what it says is what the server takes, and its nginx stands before replicas."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest
import yaml

from visionloop.core.workspace import Workspace
from visionloop.serving.http.serve import GRACEFUL_SECONDS
from visionloop.serving.http.state import read_params

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "compose"
KUBERNETES = ROOT / "deploy" / "kubernetes" / "http-server.yaml"
SERVICE_KEYS = {
    *("build", "cap_add", "cap_drop", "command", "cpus", "depends_on", "deploy", "entrypoint"),
    *("environment", "env_file", "expose", "healthcheck", "image", "init", "labels", "logging"),
    *("mem_limit", "networks", "ports", "read_only", "restart", "secrets", "security_opt"),
    *("stop_grace_period", "stop_signal", "tmpfs", "ulimits", "user", "volumes", "working_dir"),
}
"""Of a service, by the compose specification; others would be a typing error."""
HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period"}


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "http-server.yaml").read_text())


def test_the_shape_is_that_of_the_compose_specification(compose) -> None:
    assert set(compose) == {"name", "x-replica", "services"}  # no `version`: it is obsolete
    for name, service in compose["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        assert ":" in service["image"].rpartition("/")[2]  # a version, never `latest`
        assert set(service.get("healthcheck", {})) <= HEALTH_KEYS
        for other, wanted in service.get("depends_on", {}).items():
            assert compose["services"][other]["healthcheck"]
            assert wanted == {"condition": "service_healthy"}
        for volume in service["volumes"]:
            source, target, *mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")
            assert target.startswith("/") and mode == ["ro"]
            if source.startswith("./"):
                assert (FOLDER / source).is_file()


def test_replicas_are_started_as_on_kubernetes(compose) -> None:
    documents = list(yaml.safe_load_all(KUBERNETES.read_text()))
    deployment = next(one for one in documents if one["kind"] == "Deployment")["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    replicas = [one for name, one in compose["services"].items() if name.startswith("http-")]
    assert len(replicas) == deployment["replicas"]
    settings = yaml.safe_load((FOLDER / "http.yaml").read_text())
    config = next(one for one in documents if one["kind"] == "ConfigMap")["data"]["http.yaml"]
    assert settings == yaml.safe_load(config)
    for one in replicas:
        assert one["command"] == container["args"]
        assert one["image"] == container["image"]
        assert set(one["environment"]) == {row["name"] for row in container["env"]}
        assert one["read_only"] and one["cap_drop"] == ["ALL"]
        assert one["user"] == str(pod["securityContext"]["runAsUser"])
        assert int(one["stop_grace_period"].rstrip("s")) >= settings["drain_s"] + GRACEFUL_SECONDS
        assert f":{settings['port']}/readyz" in one["healthcheck"]["test"][-1]
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    assert f"--uid {replicas[0]['user']}" in text


def test_the_token_is_never_in_the_file(compose) -> None:
    for name, service in compose["services"].items():
        if name.startswith("http-"):
            given = service["environment"]["VISIONLOOP_HTTP_TOKEN"]
            assert given.startswith("${VISIONLOOP_HTTP_TOKEN:?")  # refused where there is none
    assert compose["services"]["nginx"]["ports"] == ["127.0.0.1:8600:8600"]


def test_its_nginx_and_its_settings_serve(
    make_plant, tiny, tmp_path, start_command, start_nginx, wait_until, free_port, bearer, kit, png
) -> None:
    plant = make_plant()
    plant.release(tiny.classifier(), model="solar-cells")
    servers = []
    for name in ("http-1", "http-2"):
        state = tmp_path / name
        state.mkdir()
        config = state / "http.yaml"
        config.write_text(
            (FOLDER / "http.yaml")
            .read_text()
            .replace("0.0.0.0", "127.0.0.1")
            .replace(": /releases", f": {plant.workspace.releases}")
            .replace(": /state", f": {state}")
        )
        params, model, task = read_params(Workspace(state), config)
        assert (params.port, model, task) == (8600, "solar-cells", "classification")
        servers.append(start_command(Workspace(state), "--config", str(config)))
    port = free_port()
    text = (FOLDER / "nginx.conf").read_text().replace("listen 8600;", f"listen 127.0.0.1:{port};")
    for number, server in enumerate(servers, start=1):
        assert f"http-{number}:8600" in text
        text = text.replace(f"http-{number}:8600", f"127.0.0.1:{server.port}")
    start_nginx(text)
    url = f"http://127.0.0.1:{port}"
    headers = {**bearer, "Content-Type": "image/png"}

    def ask(path: str, **arguments) -> httpx.Response:
        return httpx.request(
            "POST" if arguments else "GET",
            url + path,
            headers=headers,
            timeout=30,
            trust_env=False,
            **arguments,
        )

    def is_up() -> bool:
        try:
            return ask("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(is_up)
    content = png(kit.grey_image(220))
    found = [ask("/v1/predict", content=content).json() for _ in range(6)]
    assert {one["predictions"][0]["class_name"] for one in found} == {"bright"}
    assert ask("/metrics").status_code == 404
