"""Drafts come from the newest release that the trusted keys verify, and follow it."""

from __future__ import annotations

import shutil

import pytest

from visionloop.core.files import write_json
from visionloop.labeling.drafts import load_drafter
from visionloop.labeling.params import load_params
from visionloop.serving.package import load_package
from visionloop.serving.releases.store import GATE_SIGNATURE, publish
from visionloop.serving.signing import new_key_pair, sign_folder


@pytest.fixture
def release(project, signed, new_package, tmp_path):
    """Release a package of this sharpness; the fingerprint that drafts will name."""

    def make(gain: float) -> str:
        new_package(tmp_path / "made", gain)
        gate = tmp_path / "gate"
        write_json(gate / "gate.json", {"verdict": "passed"})
        sign_folder(gate, key=signed[0], signature_name=GATE_SIGNATURE)
        published = publish(
            releases=project.cells.releases,
            model="test-classification",
            package=tmp_path / "made",
            gate_report=gate,
        )
        return f"test-classification@{published.package_sha256[:12]}"

    return make


def version_of(space) -> str:
    drafter = load_drafter(space, *load_params(space))
    return drafter.version if drafter else ""


def test_a_release_outranks_the_package_of_the_workspace(project, release, new_package) -> None:
    space = project.cells
    assert version_of(space) == ""
    new_package(space.package, 4.0)
    assert version_of(space).endswith(load_package(space.package).sha256[:12])
    first = release(2.0)
    assert version_of(space) == first
    new_package(space.package, 5.0)  # trained since, not judged and released
    assert version_of(space) == first
    second = release(3.0)
    assert version_of(space) == second != first


def test_a_new_release_takes_over_and_renews_the_drafts_that_wait(
    project, release, serve_backend, wait_until
) -> None:
    first = release(2.0)
    with serve_backend(project.cells) as served:
        wait_until(lambda: served.backend.current.version == first)
        assert served.ask("GET", "/jobs").json() == []  # the first model renews nothing
        held = served.backend.current.get()  # a request that goes on
        second = release(3.0)
        wait_until(lambda: served.backend.current.version == second)
        image = project.cells.images / f"{project.ids[0]}.png"
        assert held.draft([image])[0].version == first
        assert served.backend.current.get().draft([image])[0].version == second
        (job,) = wait_until(lambda: served.ask("GET", "/jobs").json())
        assert (job["kind"], job["asked_by"]) == ("drafts", "a new release")


def test_an_old_index_put_back_and_a_stranger_s_package_change_nothing(
    project, release, serve_backend, wait_until, tmp_path
) -> None:
    index = project.cells.releases / "index.json"
    release(2.0)
    old = index.read_bytes()
    newest = release(3.0)
    with serve_backend(project.cells) as served:
        current = served.backend.current
        wait_until(lambda: current.version == newest)
        now = index.read_bytes()
        index.write_bytes(old)
        wait_until(lambda: "is older" in current.problem)
        assert current.version == newest
        index.write_bytes(now)
        wait_until(lambda: not current.problem)
        package = project.cells.releases / "test-classification" / "2" / "package"
        private, _ = new_key_pair(tmp_path / "stranger")
        shutil.rmtree(package)
        shutil.copytree(tmp_path / "made", package)
        sign_folder(package, key=private)
        index.touch()
        wait_until(lambda: current.problem)
        assert current.version == newest
