"""Promotion into a real MLflow registry (SQLite), and what refuses it."""

from __future__ import annotations

import shutil
import socket
import threading
import time

import pytest
from mlflow.tracking import MlflowClient

from visionloop.core.cli import run_command
from visionloop.core.errors import PackageError, RefusedError, UnreachableError
from visionloop.core.files import read_json
from visionloop.evaluation.champion import fetch_champion, fetch_champion_evaluation
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.gate import gate, verify_gate_report
from visionloop.evaluation.promotion import promote, record_refusal
from visionloop.evaluation.robustness import robustness
from visionloop.serving.package import load_package

MODEL = "test-cells"


def client_of(ring) -> MlflowClient:
    return MlflowClient(tracking_uri=ring.workspace.tracking_uri)


def measure(ring) -> None:
    evaluate(workspace=ring.workspace)
    robustness(workspace=ring.workspace)


def test_a_passed_package_becomes_champion(registered, tmp_path) -> None:
    gate(workspace=registered.workspace)
    report = promote(workspace=registered.workspace)
    assert report.version == "1" and report.aliases == ("challenger", "champion")
    client = client_of(registered)
    version = client.get_model_version_by_alias(MODEL, "champion")
    assert version.version == client.get_model_version_by_alias(MODEL, "challenger").version
    assert version.tags["gate"] == "passed" and version.tags["package"] == report.package[:12]
    assert version.tags["why"].startswith("balanced_accuracy .")
    assert version.description.startswith("Passed its gate: balanced_accuracy on 100 samples")
    names = {one.path for one in client.list_artifacts(report.run_id, _root(report))}
    assert {name.rpartition("/")[2] for name in names} == {
        "package",
        "gate",
        "evaluation",
        "card",
        "robustness",
        "export",
    }
    assert client.get_run(report.run_id).data.metrics["test_balanced_accuracy"] > 0.9
    assert (
        read_json(registered.workspace.reports / "promotion" / "promotion.json")["version"] == "1"
    )
    found = fetch_champion(workspace=registered.workspace, into=tmp_path / "arriving")
    number, package_folder, gate_folder = found
    keys = [registered.public_key]
    package = load_package(package_folder, trusted_keys=keys)
    verified = verify_gate_report(gate_folder, package_sha256=package.sha256, trusted_keys=keys)
    assert number == "1" and verified.verdict == "passed"


def _root(report) -> str:
    return f"candidate-{report.package[:12]}"


def test_twice_is_one_version(registered) -> None:
    gate(workspace=registered.workspace)
    first = promote(workspace=registered.workspace)
    assert promote(workspace=registered.workspace) == first
    assert len(client_of(registered).search_model_versions(f"name='{MODEL}'")) == 1


@pytest.mark.parametrize(
    "place", ["promotion.artifacts:interrupt:1", "promotion.alias:interrupt:2"]
)
def test_an_interrupted_promotion_goes_on(registered, monkeypatch, place) -> None:
    gate(workspace=registered.workspace)
    monkeypatch.setenv("VISIONLOOP_FAILPOINT", place)
    with pytest.raises(KeyboardInterrupt):
        promote(workspace=registered.workspace)
    client = client_of(registered)
    monkeypatch.delenv("VISIONLOOP_FAILPOINT")
    report = promote(workspace=registered.workspace)
    assert report.version == "1" and len(client.search_model_versions(f"name='{MODEL}'")) == 1
    assert len(client.search_runs([client.get_experiment_by_name(MODEL).experiment_id])) == 1
    champion = client.get_model_version_by_alias(MODEL, "champion")
    assert str(champion.version) == report.version


def test_challenger_only(registered) -> None:
    registered.edit(
        "params.yaml", lambda p: p["evaluation"].update(promote={"alias": "challenger"})
    )
    gate(workspace=registered.workspace)
    assert promote(workspace=registered.workspace).aliases == ("challenger",)
    assert (
        fetch_champion(workspace=registered.workspace, into=registered.workspace.root / "x") is None
    )


def test_a_refused_package_is_registered_without_alias(registered, capsys) -> None:
    from visionloop.evaluation.cli import app

    registered.ship("inverted")
    measure(registered)
    gate(workspace=registered.workspace)
    root = str(registered.workspace.root)
    assert run_command(lambda: app(["promote", "-w", root])) == 3
    assert "balanced_accuracy" in capsys.readouterr().err
    (version,) = client_of(registered).search_model_versions(f"name='{MODEL}'")
    assert version.tags["gate"] == "refused" and " < .70" in version.tags["why"]
    assert version.description.startswith("Refused by its gate: balanced_accuracy")
    assert client_of(registered).get_registered_model(MODEL).aliases == {}
    again = record_refusal(workspace=registered.workspace)
    assert again.version == str(version.version) and again.gate == "refused"


def test_what_is_not_verified_is_not_registered(registered) -> None:
    with pytest.raises(PackageError, match="no gate report"):
        promote(workspace=registered.workspace)
    gate(workspace=registered.workspace)
    kept = registered.workspace.reports / "gate"
    shutil.copytree(kept, registered.workspace.root / "gate-of-another")
    registered.ship("steeper")
    with pytest.raises(RefusedError, match="another package"):
        promote(workspace=registered.workspace)
    with pytest.raises(RefusedError, match="another package"):
        record_refusal(workspace=registered.workspace)
    path = kept / "gate.json"
    path.write_text(path.read_text().replace("passed", "Passed", 1))
    with pytest.raises(PackageError):
        promote(workspace=registered.workspace)
    assert client_of(registered).search_registered_models() == []


def test_a_candidate_worse_than_the_champion_is_refused(registered) -> None:
    """Within its own limits, but it lost what the champion can do."""
    gate(workspace=registered.workspace)
    promote(workspace=registered.workspace)

    def lower(targets) -> None:
        targets["quality"] |= {"minimum": 0.01, "per_class": {}}
        for one in targets["quality"]["slices"]:
            one["minimum"] = 0.01
        targets["worst_case"] |= {"minimum_mean": 0.01, "minimum_worst": 0.01}

    registered.edit("targets.yaml", lower)
    assert gate(workspace=registered.workspace).verdict == "passed", "the champion itself"
    registered.ship("constant")
    measure(registered)
    report = gate(workspace=registered.workspace)
    assert report.verdict == "refused" and report.champion == "1"
    assert [check.name for check in report.checks if check.refuses] == ["champion, cell_type=mono"]
    registered.ship("steeper")
    measure(registered)
    report = gate(workspace=registered.workspace)
    assert report.verdict == "passed", report.reasons
    assert promote(workspace=registered.workspace).version == "2"


def test_an_alias_set_by_hand_on_a_foreign_version(registered, tmp_path) -> None:
    """The gate folder is missing there, and the verification says so."""
    client = client_of(registered)
    experiment = client.create_experiment("other", artifact_location=(tmp_path / "a").as_uri())
    run = client.create_run(experiment)
    client.log_artifacts(run.info.run_id, str(registered.workspace.package), "x/package")
    client.create_registered_model(MODEL)
    source = f"runs:/{run.info.run_id}/x/package"
    version = client.create_model_version(MODEL, source, run_id=run.info.run_id)
    client.set_registered_model_alias(MODEL, "champion", version.version)
    found = fetch_champion(workspace=registered.workspace, into=tmp_path / "arriving")
    with pytest.raises(PackageError, match="no gate report"):
        verify_gate_report(found[2], package_sha256="0" * 64, trusted_keys=[registered.public_key])
    assert fetch_champion_evaluation(workspace=registered.workspace, into=tmp_path / "b") is None


def test_no_registry_at_all(measured, tmp_path) -> None:
    assert fetch_champion(workspace=measured.workspace, into=tmp_path / "x") is None
    assert not (measured.workspace.root / "mlflow.db").exists(), "asking makes no database"


def test_mlflow_is_down(registered, monkeypatch) -> None:
    """A closed port: a clear message in seconds, and the same command works later."""
    gate(workspace=registered.workspace)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="does not answer"):
        promote(workspace=registered.workspace)
    assert time.monotonic() - start < 15
    with pytest.raises(UnreachableError):
        gate(workspace=registered.workspace)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert promote(workspace=registered.workspace).version == "1"


def test_mlflow_hangs(registered, monkeypatch) -> None:
    """A server that accepts and says nothing is given up, too."""
    gate(workspace=registered.workspace)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        kept: list[socket.socket] = []
        thread = threading.Thread(target=_accept, args=(silent, kept), daemon=True)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(UnreachableError):
            promote(workspace=registered.workspace)
        assert time.monotonic() - start < 15


def _accept(server: socket.socket, kept: list[socket.socket]) -> None:
    try:
        while True:
            kept.append(server.accept()[0])
    except OSError:
        return
