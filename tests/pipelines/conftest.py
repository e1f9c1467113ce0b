"""The tiny projects of ``tests/evaluation``, and one real MLflow server for tests of ``watch``."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from visionloop.core.workspace import Workspace
from visionloop.pipelines import servers

_PATH = Path(__file__).parents[1] / "evaluation" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("tests_evaluation_rings", _PATH)
assert _SPEC is not None and _SPEC.loader is not None
rings = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = rings
_SPEC.loader.exec_module(rings)
made_cells, made_measured = rings.made_cells, rings.made_measured


@dataclass
class Mlflow:
    """A server in a process of its own, on its own database."""

    workspace: Workspace
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, again after a stop, and wait until it answers."""
        self.process = servers.start_mlflow(self.workspace, self.port)
        servers.wait_until_answers("MLflow", f"{self.url}/health", self.process)

    def stop(self) -> None:
        servers.stop_process("MLflow", self.process.pid)
        self.process.wait(timeout=30)


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory) -> Iterator[Mlflow]:
    """One for all tests: each has a registered model of its own."""
    root = tmp_path_factory.mktemp("mlflow-server")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Mlflow(Workspace(root), port)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def judged(made_measured, key_pair, tmp_path_factory) -> dict[str, Path]:
    """Three projects: two packages that passed their gate, and one that was refused."""
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.gate import gate
    from visionloop.evaluation.robustness import robustness

    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        for kind in ("good", "steeper", "inverted"):
            root = tmp_path_factory.mktemp("judged") / kind
            shutil.copytree(made_measured.workspace.root, root)
            ring = dataclasses.replace(made_measured, workspace=Workspace(root))
            if kind != "good":
                ring.ship(kind)
                evaluate(workspace=ring.workspace)
                robustness(workspace=ring.workspace)
            verdict = gate(workspace=ring.workspace).verdict
            assert verdict == ("refused" if kind == "inverted" else "passed")
            found[kind] = root
    return found


@dataclass
class Owner:
    """A project at the server, and the hands of the release owner."""

    ring: Any
    judged: dict[str, Path]
    model: str

    @property
    def workspace(self) -> Workspace:
        return self.ring.workspace

    @property
    def client(self) -> Any:
        from mlflow.tracking import MlflowClient

        return MlflowClient()

    def put(self, kind: str) -> None:
        """Package and reports of a kind become those of the project."""
        for name in ("artifacts", "reports"):
            shutil.rmtree(self.workspace.root / name, ignore_errors=True)
            shutil.copytree(self.judged[kind] / name, self.workspace.root / name)

    def register(self, kind: str) -> str:
        """Register a package with its gate report, passed or not; the alias is not set."""
        from visionloop.core.errors import RefusedError
        from visionloop.evaluation.promotion import promote

        self.put(kind)
        if kind == "inverted":
            with pytest.raises(RefusedError):
                promote(workspace=self.workspace)
            found = self.client.search_model_versions(f"name='{self.model}'")
            return max(str(one.version) for one in found)
        return promote(workspace=self.workspace).version

    def set_champion(self, version: str) -> None:
        self.client.set_registered_model_alias(self.model, "champion", version)

    def champion(self) -> str | None:
        """The version that holds the alias."""
        found = self.client.get_registered_model(self.model).aliases.get("champion")
        return None if found is None else str(found)

    def version(self, number: str) -> Any:
        return self.client.get_model_version(self.model, number)


def make_owner(root: Path, judged: dict[str, Path], made: Any, name: str) -> Owner:
    """A project with a registered model of this name; promotion stops at challenger."""
    shutil.copytree(judged["good"], root)
    ring = dataclasses.replace(made, workspace=Workspace(root))
    model = "".join(one if one.isalnum() else "-" for one in name)[:60].strip("-")

    def change(params: dict[str, Any]) -> None:
        params["project"]["model"] = model
        params["evaluation"]["promote"] = {"alias": "challenger"}

    ring.edit("params.yaml", change)
    return Owner(ring, judged, model)


@pytest.fixture
def owner(mlflow_server, judged, made_measured, tmp_path, signed, monkeypatch, request) -> Owner:
    """A project of its own; the model is named after the test, or by an indirect parameter."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    name = getattr(request, "param", request.node.name)
    return make_owner(tmp_path / "project", judged, made_measured, name)


@pytest.fixture(scope="session")
def registered_pair(
    mlflow_server, judged, made_measured, key_pair, tmp_path_factory
) -> tuple[Owner, str, str]:
    """Two versions that passed, registered once for the tests that need no more of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
        patch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
        root = tmp_path_factory.mktemp("pair") / "project"
        made = make_owner(root, judged, made_measured, "pair")
        return made, made.register("good"), made.register("steeper")


@pytest.fixture
def pair(registered_pair, mlflow_server, signed, monkeypatch) -> tuple[Owner, str, str]:
    """The same with no release yet and no word of one on the versions."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.url)
    owner, first, second = registered_pair
    shutil.rmtree(owner.workspace.releases, ignore_errors=True)
    if "release" in owner.version(second).tags:
        owner.client.delete_model_version_tag(owner.model, second, "release")
    owner.set_champion(first)
    return owner, first, second
