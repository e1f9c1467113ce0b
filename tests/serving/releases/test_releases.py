"""Releases: numbers only grow, the index is signed, devices never go back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from visionloop.core.errors import DataError, InputError, PackageError
from visionloop.core.files import write_json
from visionloop.serving.package import load_package
from visionloop.serving.releases.store import fetch_newest, newest, publish, read_index
from visionloop.serving.signing import new_key_pair, sign_folder


@pytest.fixture
def releases(tmp_path):
    return tmp_path / "releases"


def test_numbers_grow_and_the_newest_is_not_released_twice(tiny, releases, gate_report):
    one, two = tiny.classifier("one"), tiny.classifier("two", gain=3.0)
    options = {"releases": releases, "model": "tiny", "gate_report": gate_report}
    first = publish(package=one, **options)
    assert (first.number, first.folder) == (1, releases / "tiny" / "1")
    assert publish(package=one, **options) == first
    assert publish(package=two, **options).number == 2
    # The alias was moved back: an old package is a new release.
    assert publish(package=one, **options).number == 3
    assert [row.number for row in read_index(releases)] == [1, 2, 3]
    found = newest(releases, "tiny")
    assert found is not None
    assert load_package(found.package).sha256 == first.package_sha256
    assert (found.gate_report / "gate.json").is_file()
    assert found.engine is None
    assert newest(releases, "other") is None


def test_a_gate_report_may_be_named_by_its_file(tiny, releases, gate_report):
    package = tiny.classifier()
    found = publish(
        releases=releases, model="tiny", package=package, gate_report=gate_report / "gate.json"
    )
    assert (found.gate_report / "gate.sig").is_file()


def test_nothing_is_released_that_does_not_verify(tiny, releases, gate_report, signed):
    package = tiny.classifier()
    options = {"releases": releases, "model": "tiny", "package": package}
    (gate_report / "gate.json").write_text('{"verdict": "forged"}')
    with pytest.raises(PackageError, match="changed after signing"):
        publish(gate_report=gate_report, **options)
    sign_folder(gate_report, key=signed[0], signature_name="gate.sig")
    with pytest.raises(InputError, match="model name"):
        publish(gate_report=gate_report, **options | {"model": "../escape"})
    engine = package.parent / "engine"
    write_json(engine / "engine.json", {"package_sha256": "0" * 64})
    sign_folder(engine, key=signed[0], signature_name="engine.sig")
    with pytest.raises(PackageError, match="another package"):
        publish(gate_report=gate_report, engines=engine, **options)
    (package / "model.onnx").write_bytes(b"")
    with pytest.raises(PackageError):
        publish(gate_report=gate_report, **options)
    assert read_index(releases) == []
    assert not list(releases.glob("tiny/*"))


def test_a_changed_index_is_refused(tiny, releases, gate_report, tmp_path, signed):
    package = tiny.classifier()
    publish(releases=releases, model="tiny", package=package, gate_report=gate_report)
    path = releases / "index.json"
    index = json.loads(path.read_text())
    for change in ({"serial": 9}, {"releases": []}):
        write_json(path, index | {"content": index["content"] | change})
        with pytest.raises(PackageError, match="signature does not fit"):
            read_index(releases)
    write_json(path, {"content": index["content"], "signature": "no base64!"})
    with pytest.raises(PackageError, match="signature does not fit"):
        read_index(releases)
    for damaged in ("", "[]", "{}", path.read_text()[:50]):
        path.write_text(damaged)
        with pytest.raises(PackageError):
            read_index(releases)
    write_json(path, index)
    _, other = new_key_pair(tmp_path / "other")
    with pytest.raises(PackageError, match="signature does not fit"):
        read_index(releases, trusted_keys=[other])
    assert len(read_index(releases, trusted_keys=[other, signed[1]])) == 1


def test_a_lost_index_does_not_start_again_at_one(tiny, releases, gate_report):
    for name, gain in (("one", 6.0), ("two", 3.0)):
        package = tiny.classifier(name, gain=gain)
        publish(releases=releases, model="tiny", package=package, gate_report=gate_report)
    (releases / "index.json").unlink()
    with pytest.raises(DataError, match="numbers must never be used twice"):
        publish(releases=releases, model="tiny", package=package, gate_report=gate_report)


def test_a_device_refuses_an_old_index(tiny, releases, gate_report, tmp_path):
    state = tmp_path / "seen.json"
    one, two = tiny.classifier("one"), tiny.classifier("two", gain=3.0)
    options = {"releases": releases, "model": "tiny", "gate_report": gate_report}
    with pytest.raises(PackageError, match="no release of 'tiny'"):
        fetch_newest(releases=releases, model="tiny", state=state)
    publish(package=one, **options)
    old = (releases / "index.json").read_bytes()
    publish(package=two, **options)
    release, package = fetch_newest(releases=releases, model="tiny", state=state)
    assert (release.number, package.sha256) == (2, load_package(two).sha256)
    (releases / "index.json").write_bytes(old)
    with pytest.raises(PackageError, match="older"):
        fetch_newest(releases=releases, model="tiny", state=state)
    # A device that saw nothing yet cannot know; the index itself is genuine.
    fetch_newest(releases=releases, model="tiny", state=tmp_path / "new-device.json")


def test_a_device_refuses_a_swapped_package(tiny, releases, gate_report, tmp_path):
    package = tiny.classifier("one")
    release = publish(releases=releases, model="tiny", package=package, gate_report=gate_report)
    shutil.rmtree(release.package)
    shutil.copytree(tiny.classifier("two", gain=3.0), release.package)
    with pytest.raises(PackageError, match="not the package that the index names"):
        fetch_newest(releases=releases, model="tiny", state=tmp_path / "seen.json")


@pytest.mark.parametrize(
    "place", ["files.before_folder_rename:kill:1", "releases.before_index:kill:1"]
)
def test_a_killed_publication_is_not_seen_and_can_be_repeated(tiny, releases, gate_report, place):
    package = tiny.classifier()
    program = (
        "import sys; from pathlib import Path\n"
        "from visionloop.serving.releases.store import publish\n"
        "releases, package, gate = map(Path, sys.argv[1:])\n"
        "publish(releases=releases, model='tiny', package=package, gate_report=gate)\n"
    )
    command = [sys.executable, "-c", program, str(releases), str(package), str(gate_report)]
    killed = subprocess.run(command, env={**os.environ, "VISIONLOOP_FAILPOINT": place}, check=False)
    assert killed.returncode == -9
    assert read_index(releases) == []
    again = publish(releases=releases, model="tiny", package=package, gate_report=gate_report)
    assert again.number == 1
    assert load_package(again.package).sha256 == again.package_sha256
