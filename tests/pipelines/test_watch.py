"""``watch`` against a real MLflow server: released, refused and said, rolled back, resumed."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import yaml

from visionloop.core.cli import run_command
from visionloop.core.errors import DataError, PackageError, RefusedError
from visionloop.core.files import read_json, write_json
from visionloop.evaluation.gate import report_hash
from visionloop.pipelines.watch import watch, watch_once
from visionloop.serving.package import load_package
from visionloop.serving.releases.store import read_index
from visionloop.serving.signing import sign_folder

DEADLINE = 60.0


def look(owner):
    return watch_once(workspace=owner.workspace, build_engines=False)


def releases(owner) -> list[tuple[int, str]]:
    return [(one.number, one.package_sha256) for one in read_index(owner.workspace.releases)]


def sha256(owner, kind: str) -> str:
    return load_package(owner.judged[kind] / "artifacts" / "package").sha256


def test_release_then_a_better_one_then_back(owner) -> None:
    first, second = owner.register("good"), owner.register("steeper")
    assert look(owner).release == 0, "a challenger releases nothing"
    owner.set_champion(first)
    assert (look(owner).release, look(owner).is_new) == (1, False)
    owner.set_champion(second)
    report = look(owner)
    assert (report.version, report.release, report.is_new) == (second, 2, True)
    owner.set_champion(first)
    assert look(owner).release == 3, "back is a new number with the old content"
    good, steeper = sha256(owner, "good"), sha256(owner, "steeper")
    assert releases(owner) == [(1, good), (2, steeper), (3, good)]
    found = owner.version(first)
    assert found.tags["release"] == "3" and found.tags["gate"] == "passed"
    assert found.description.startswith("Released as number 3 on 20")
    assert "Passed its gate" in found.description


def _missing(owner, version) -> None:
    folder = _artifacts(owner, version) / "gate"
    shutil.rmtree(folder)


def _edited(owner, version) -> None:
    path = _artifacts(owner, version) / "gate" / "gate.json"
    path.write_text(path.read_text().replace("passed", "Passed", 1))


def _expired(owner, version) -> None:
    folder = _artifacts(owner, version) / "gate"
    content = read_json(folder / "gate.json") | {"expires_at": "2026-01-01T00:00:00+00:00"}
    write_json(folder / "gate.json", content)
    sign_folder(folder, key=owner.ring.private_key, signature_name="gate.sig")
    owner.client.set_model_version_tag(owner.model, version, "report", report_hash(folder))


def _of_another_package(owner, version) -> None:
    folder = _artifacts(owner, version) / "gate"
    shutil.rmtree(folder)
    shutil.copytree(owner.judged["good"] / "reports" / "gate", folder)
    owner.client.set_model_version_tag(owner.model, version, "report", report_hash(folder))


def _another_report_of_the_same_package(owner, version) -> None:
    """Genuine, but not the one that the version names."""
    owner.client.set_model_version_tag(owner.model, version, "report", "0" * 12)


def _package_damaged(owner, version) -> None:
    path = _artifacts(owner, version) / "package" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _artifacts(owner, version) -> Path:
    """Where the server keeps the artifacts of a version, on this machine."""
    found = owner.version(version)
    uri = owner.client.get_run(found.run_id).info.artifact_uri
    root = Path(uri.removeprefix("file://"))
    return root / str(found.source).removeprefix(f"runs:/{found.run_id}/").rpartition("/")[0]


def _keep(owner, version, kept: Path) -> Callable[[], None]:
    """Copy what a test will break; what is returned puts it back."""
    folder, tag = _artifacts(owner, version), owner.version(version).tags["report"]
    shutil.copytree(folder, kept)

    def put_back() -> None:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        owner.client.set_model_version_tag(owner.model, version, "report", tag)

    return put_back


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (_missing, "no gate report"),
        (_edited, "changed after signing"),
        (_expired, "expired on 2026-01-01"),
        (_of_another_package, "judged another package"),
        (_another_report_of_the_same_package, "names gate report"),
        (_package_damaged, "model.onnx"),
    ],
)
def test_what_is_not_verified_goes_back_and_says_why(
    pair, break_it, said, tmp_path, request
) -> None:
    owner, first, second = pair
    look(owner)
    request.addfinalizer(_keep(owner, second, tmp_path / "kept"))
    break_it(owner, second)
    owner.set_champion(second)
    with pytest.raises((PackageError, RefusedError), match=said):
        look(owner)
    assert owner.champion() == first
    assert releases(owner) == [(1, sha256(owner, "good"))]
    found = owner.version(second)
    assert found.tags["release"] == "refused"
    assert found.description.startswith("Not released: ") and said in found.description
    assert look(owner).release == 1, "the next look finds everything in order"
    assert owner.version(second).description == found.description


def test_a_refused_verdict_cannot_ship(owner, capsys) -> None:
    """Also by the command, which ends with 3; with no verified one before, the alias goes away."""
    from visionloop.pipelines.cli import app

    version = owner.register("inverted")
    owner.set_champion(version)
    root = str(owner.workspace.root)
    assert run_command(lambda: app(["watch", "--once", "--no-engines", "-w", root])) == 3
    assert "balanced_accuracy" in capsys.readouterr().err
    assert owner.champion() is None and releases(owner) == []
    assert owner.version(version).tags["release"] == "refused"
    assert (
        " < .70" in owner.version(version).tags["why"]
        or "balanced" in owner.version(version).tags["why"]
    )


def test_a_version_that_came_by_another_way(owner, tmp_path) -> None:
    """Registered by hand, without a package of ours."""
    first = owner.register("good")
    owner.set_champion(first)
    look(owner)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "model.pkl").write_bytes(b"no")
    run = owner.client.create_run(owner.client.get_experiment_by_name(owner.model).experiment_id)
    owner.client.log_artifacts(run.info.run_id, str(tmp_path / "x"), "model")
    source = f"runs:/{run.info.run_id}/model"
    made = owner.client.create_model_version(owner.model, source, run_id=run.info.run_id)
    owner.set_champion(str(made.version))
    with pytest.raises(DataError, match="holds no package"):
        look(owner)
    assert owner.champion() == first and len(releases(owner)) == 1


def test_the_record_is_lost(pair, request) -> None:
    """The signed index still tells which version was the last."""
    owner, first, second = pair
    look(owner)
    path = _artifacts(owner, second) / "gate" / "gate.json"
    request.addfinalizer(partial(path.write_bytes, path.read_bytes()))
    record = owner.workspace.releases / f".champion-{owner.model}.json"
    record.unlink()
    _edited(owner, second)
    owner.set_champion(second)
    with pytest.raises(PackageError):
        look(owner)
    assert owner.champion() == first
    record.write_text("{")
    assert look(owner).release == 1 and read_json(record)["version"] == first


def test_back_to_a_release_whose_report_has_expired(pair, tmp_path, request) -> None:
    """What was released while its report was valid may come back; nobody waits for a gate then."""
    owner, first, second = pair
    look(owner)
    request.addfinalizer(_keep(owner, first, tmp_path / "kept"))
    owner.set_champion(second)
    look(owner)
    _expired(owner, first)
    owner.set_champion(first)
    assert look(owner).release == 3


def test_the_alias_is_taken_away(pair) -> None:
    owner, _, _ = pair
    look(owner)
    owner.client.delete_registered_model_alias(owner.model, "champion")
    report = look(owner)
    assert (report.version, report.release) == ("", 1), "devices keep what they have"


def _killed(owner, place: str) -> int:
    """One look in a process of its own that is killed at a place; its exit code."""

    def run() -> None:
        os.environ["VISIONLOOP_FAILPOINT"] = f"{place}:kill:1"
        look(owner)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(DEADLINE)
    assert process.exitcode is not None
    return process.exitcode


@pytest.mark.parametrize(
    "place",
    [
        "watch.fetched",
        "watch.verified",
        "watch.before_publish",
        "releases.before_index",
        "watch.published",
        "watch.told",
        "watch.recorded",
    ],
)
def test_killed_at_an_arrow_of_a_release(pair, place) -> None:
    owner, _, second = pair
    look(owner)
    owner.set_champion(second)
    assert _killed(owner, place) == -9
    assert look(owner).release == 2
    assert releases(owner) == [(1, sha256(owner, "good")), (2, sha256(owner, "steeper"))]
    record = read_json(owner.workspace.releases / f".champion-{owner.model}.json")
    assert (record["version"], record["release"]) == (second, 2)
    assert owner.version(second).tags["release"] == "2" and owner.champion() == second
    assert not (owner.workspace.releases / ".arriving").exists()


@pytest.mark.parametrize("place", ["watch.refusal_told", "watch.before_return", "watch.returned"])
def test_killed_at_an_arrow_of_a_refusal(pair, place, request) -> None:
    owner, first, second = pair
    look(owner)
    path = _artifacts(owner, second) / "gate" / "gate.json"
    request.addfinalizer(partial(path.write_bytes, path.read_bytes()))
    _edited(owner, second)
    owner.set_champion(second)
    assert _killed(owner, place) == -9
    try:
        look(owner)
    except PackageError:
        assert place != "watch.returned"
    assert owner.champion() == first and releases(owner) == [(1, sha256(owner, "good"))]
    description = owner.version(second).description
    assert description.count("Not released: ") == 1


class Watching:
    """``watch`` in a thread."""

    def __init__(self, owner, **options) -> None:
        self._stop = threading.Event()
        options = {"interval": 0.1, "build_engines": False} | options
        arguments = options | {"workspace": owner.workspace, "should_stop": self._stop.is_set}
        self._thread = threading.Thread(target=watch, kwargs=arguments, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self._stop

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


def until(is_true) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_aliases_that_move_while_it_looks(owner) -> None:
    """Whatever order it sees, it ends at the last one, and the bad one is never in the index."""
    good = [owner.register("good"), owner.register("steeper")]
    bad = owner.register("inverted")
    draw = random.Random(7)
    with Watching(owner):
        for _ in range(12):
            owner.set_champion(draw.choice([*good, bad]))
            time.sleep(draw.random() * 0.3)
        owner.set_champion(good[0])
        wanted = sha256(owner, "good")
        until(lambda: releases(owner) and releases(owner)[-1][1] == wanted)
        until(lambda: owner.version(good[0]).tags.get("release") == str(releases(owner)[-1][0]))
    assert owner.champion() == good[0]
    numbers = [number for number, _ in releases(owner)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {one for _, one in releases(owner)} <= {wanted, sha256(owner, "steeper")}


def test_two_watchers_and_two_promotions_at_once(owner, tmp_path) -> None:
    """Two people promote two packages in the same moment; one of them is the champion."""
    from visionloop.core.workspace import Workspace
    from visionloop.evaluation.promotion import promote

    spaces = []
    for kind in ("good", "steeper"):
        root = tmp_path / f"of-{kind}"
        shutil.copytree(owner.judged[kind], root)
        shutil.copy(owner.workspace.params, root / "params.yaml")
        params = (root / "params.yaml").read_text().replace("alias: challenger", "alias: champion")
        (root / "params.yaml").write_text(params)
        spaces.append(Workspace(root))
    with ThreadPoolExecutor(2) as pool:
        promoted = list(pool.map(lambda one: promote(workspace=one), spaces))
    assert {one.version for one in promoted} == {"1", "2"}
    found = owner.client.search_model_versions(f"name='{owner.model}'")
    assert sorted(str(one.version) for one in found) == ["1", "2"]
    with Watching(owner), Watching(owner):
        until(lambda: len(releases(owner)) == 1)
        time.sleep(1.0)
    held = owner.client.get_model_version_by_alias(owner.model, "champion")
    assert releases(owner)[0][1].startswith(held.tags["package"])


def test_a_webhook_wakes_it_at_once(owner) -> None:
    """Looks are an hour apart; the hint comes in seconds."""
    version = owner.register("good")
    with Watching(owner, interval=3600.0, webhook_port=0) as stop:
        until(lambda: any(one.name == "visionloop-watch" for one in owner.client.list_webhooks()))
        time.sleep(4.0)  # its first look is over, and the server knows the webhook
        owner.set_champion(version)
        until(lambda: len(releases(owner)) == 1)
        stop.set()
        owner.client.set_registered_model_alias(owner.model, "other", version)  # wakes it to end


@pytest.mark.slow
def test_mlflow_is_restarted_meanwhile(owner, mlflow_server) -> None:
    first, second = owner.register("good"), owner.register("steeper")
    with Watching(owner, interval=0.5):
        owner.set_champion(first)
        until(lambda: len(releases(owner)) == 1)
        mlflow_server.stop()
        time.sleep(5.0)
        mlflow_server.start()
        owner.set_champion(second)
        until(lambda: len(releases(owner)) == 2)


def test_engines_travel_with_the_release_where_they_can_be_built(owner) -> None:
    version = owner.register("good")
    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    owner.ring.edit("params.yaml", lambda own: own.update(serving=params["serving"]))
    owner.set_champion(version)
    assert watch_once(workspace=owner.workspace).release == 1
    (release,) = read_index(owner.workspace.releases)
    assert release.engine is not None
    manifest = read_json(release.engine / "engine.json")
    assert manifest["package_sha256"] == release.package_sha256
    assert all(one["built"] or one["reason"] for one in manifest["engines"])
    assert all(one["accepted"] or one["reasons"] for one in manifest["variants"])
