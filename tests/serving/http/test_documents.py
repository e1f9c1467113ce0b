"""What the documents say works as it stands: curl in the README, the client in the examples."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from visionloop.core.errors import ConfigError
from visionloop.core.workspace import Workspace
from visionloop.serving.http.serve import GRACEFUL_SECONDS
from visionloop.serving.http.state import read_params
from visionloop.serving.http.tokens import load_tokens

ROOT = Path(__file__).parents[3]
MANIFEST = ROOT / "deploy" / "kubernetes" / "http-server.yaml"


@pytest.fixture
def plant(make_plant, tiny):
    plant = make_plant()
    plant.release(tiny.classifier())
    return plant


def test_curl_of_the_readme(plant, start_command, kit, png, bearer) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    server = start_command(plant.workspace)
    (plant.workspace.root / "cell.png").write_bytes(png(kit.grey_image(200)))
    (plant.workspace.root / "http" / "token").write_text(bearer["Authorization"].split()[1])
    text = (ROOT / "serving" / "README.md").read_text()
    example = re.search(r"```\n(TOKEN=.*?)```", text, flags=re.S)
    assert example is not None
    script = example[1].replace("http://127.0.0.1:8600", server.url)
    done = subprocess.run(
        ["bash", "-c", script], cwd=plant.workspace.root, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["predictions"][0]["class_name"] == "bright"
    shown = re.search(r"```\n({\"model\".*?)```", text, flags=re.S)
    assert shown is not None  # the answer that the README shows has the fields of this one
    expected, found = json.loads(shown[1]), json.loads(done.stdout)
    assert set(found) == set(expected)
    assert set(found["predictions"][0]) == set(expected["predictions"][0])


def test_client_of_the_examples(plant, start_command, kit, png, bearer) -> None:
    server = start_command(plant.workspace)
    folder = plant.workspace.root
    for name, level in (("a.png", 30), ("b.png", 220)):
        (folder / name).write_bytes(png(kit.grey_image(level)))
    (folder / "c.png").write_bytes(b"no picture")
    token = bearer["Authorization"].split()[1]

    def run(*names: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "examples" / "ask_server.py"), server.url, *names]
        environment = {"VISIONLOOP_HTTP_TOKEN": token, "PATH": "/usr/bin:/bin"}
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)

    lines = run("a.png", "b.png").stdout.splitlines()
    assert lines[0].startswith("tiny, release 1")
    assert lines[1].startswith("a.png: dark") and lines[2].startswith("b.png: bright")
    bad = run("a.png", "c.png")
    assert bad.returncode == 1
    assert bad.stderr.strip() == "c.png: is neither a PNG nor a JPEG file, whatever its name"


def test_params_of_the_project_and_a_config_file_alone(tmp_path) -> None:
    params, model, task = read_params(Workspace(ROOT), None)
    assert (params.port, model, task) == (8600, "solar-cells", "classification")
    config = tmp_path / "http.yaml"
    config.write_text("{model: people, threads: 2}")
    params, model, task = read_params(Workspace(tmp_path), config)
    assert (params.threads, model, task) == (2, "people", "")
    config.write_text("{model: people, backend: onnxrumtime}")
    with pytest.raises(ConfigError, match="onnxruntime"):
        read_params(Workspace(tmp_path), config)


def test_the_token_is_made_once_and_only_its_owner_reads_it(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("VISIONLOOP_HTTP_TOKEN", raising=False)
    tokens, path = load_tokens(tmp_path)
    assert path is not None and path.stat().st_mode & 0o777 == 0o600
    made = path.read_text().strip()
    assert len(made) >= 32 and made not in repr(tokens)
    assert tokens.accept(f"Bearer {made}".encode())
    again, _ = load_tokens(tmp_path)
    assert again.accept(f"bearer {made}".encode())
    monkeypatch.setenv("VISIONLOOP_HTTP_TOKEN", "first-of-the-tokens second-of-the-tokens")
    both, path = load_tokens(tmp_path)
    assert path is None
    assert both.accept(b"Bearer first-of-the-tokens") and both.accept(
        b"Bearer second-of-the-tokens"
    )
    for wrong in (b"", b"Bearer", b"Bearer x", b"first-of-the-tokens", b"Bearer \xff"):
        assert not both.accept(wrong)


def test_the_server_runs_as_the_kubernetes_manifest_says(
    make_plant, tiny, tmp_path, start_command, key_pair, kit, png, bearer
) -> None:
    """Same command, same configuration file, releases that cannot be written; probes answer."""
    documents = list(yaml.safe_load_all(MANIFEST.read_text()))
    by_kind = {document["kind"]: document for document in documents}
    pod = by_kind["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    plant = make_plant()
    plant.release(tiny.classifier(), model="solar-cells")
    state = tmp_path / "state"
    state.mkdir()
    text = by_kind["ConfigMap"]["data"]["http.yaml"]
    config = tmp_path / "http.yaml"
    config.write_text(
        text.replace("0.0.0.0", "127.0.0.1")
        .replace("/releases", str(plant.workspace.releases))
        .replace("/state", str(state))
    )
    assert container["args"] == [
        "serve",
        "http",
        "--config",
        "/config/http.yaml",
        "--workspace",
        "/state",
    ]
    before = sorted(plant.workspace.releases.rglob("*"))
    server = start_command(Workspace(state), "--config", str(config))
    assert sorted(plant.workspace.releases.rglob("*")) == before
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["name"] == "http"
        assert server.status(container[probe]["httpGet"]["path"]) == 200
    names = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == names
    parsed = yaml.safe_load(text)
    grace = pod["terminationGracePeriodSeconds"]
    assert grace >= parsed["drain_s"] + GRACEFUL_SECONDS
    assert parsed["port"] == container["ports"][0]["containerPort"]
    labels = by_kind["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert by_kind["Service"]["spec"]["selector"] == labels
