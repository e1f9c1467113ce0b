"""Embeddings: incremental, resumable, of one package only."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from visionloop.core.errors import DataError, PackageError
from visionloop.data.embeddings import embed, load_embeddings
from visionloop.data.raw import read_samples
from visionloop.serving.images import read_image


@pytest.fixture
def ready(fill, make, workspace, signed, write_backbone):
    make.set_params(workspace, embed={"batch": 4, "save_every": 8})
    write_backbone(workspace.backbone, 1.0)
    return [make.raw_sample(make.png(make.picture(n)), "functional") for n in range(20)]


def test_vectors_are_those_of_the_images(ready, fill, workspace):
    fill(ready)
    report = embed(workspace=workspace)
    assert (report.computed, report.total, report.dimension) == (20, 20, 3)
    stored = load_embeddings(workspace.embeddings)
    assert stored.ids == sorted(stored.ids) and stored.vectors.dtype == np.float32
    assert stored.package == report.package
    names = read_samples(workspace).set_index("sample_id")["file_name"]
    one = stored.ids[7]
    mean = read_image(workspace.images / names[one])[..., ::-1].mean(axis=(0, 1)) / 255
    assert stored.of([one])[0] == pytest.approx(mean, abs=0.02)


def test_only_new_images_are_computed(ready, fill, workspace):
    fill(ready[:12])
    embed(workspace=workspace)
    before = load_embeddings(workspace.embeddings)
    fill(ready)
    report = embed(workspace=workspace)
    assert (report.computed, report.total) == (8, 20)
    after = load_embeddings(workspace.embeddings)
    assert np.array_equal(after.of(before.ids), before.vectors)
    content = (workspace.embeddings / "embeddings.npz").read_bytes()
    assert embed(workspace=workspace).computed == 0
    assert (workspace.embeddings / "embeddings.npz").read_bytes() == content


def test_vectors_of_another_package_are_computed_anew(ready, fill, workspace, write_backbone):
    fill(ready)
    first = embed(workspace=workspace)
    write_backbone(workspace.backbone, 2.0)
    second = embed(workspace=workspace)
    assert second.computed == 20 and second.package != first.package


@pytest.mark.parametrize("action", ["interrupt", "kill"])
def test_interrupted_it_goes_on_where_it_was(ready, fill, workspace, action):
    fill(ready)
    command = [sys.executable, "-m", "visionloop.data", "embed", "-w", str(workspace.root)]
    stopped = subprocess.run(
        command,
        env={**os.environ, "VISIONLOOP_FAILPOINT": f"embed.saved:{action}:2"},
        capture_output=True,
        text=True,
    )
    assert stopped.returncode == (130 if action == "interrupt" else -9)
    assert "Traceback" not in stopped.stderr
    saved = json.loads((workspace.embeddings / "embeddings.json").read_text())["count"]
    assert saved == 16
    report = embed(workspace=workspace)
    assert (report.computed, report.total) == (4, 20)


def test_a_missing_package_and_a_missing_vector_are_named(fill, make, workspace, signed, ready):
    with pytest.raises(DataError, match="no samples table"):
        embed(workspace=workspace)
    fill(ready[:4])
    embed(workspace=workspace)
    with pytest.raises(DataError) as caught:
        load_embeddings(workspace.embeddings).of([ready[9].sample_id])
    assert "visionloop data embed" in str(caught.value)
    (workspace.backbone / "manifest.json").unlink()
    with pytest.raises(PackageError):
        embed(workspace=workspace)


def test_a_damaged_file_is_named(ready, fill, workspace):
    fill(ready[:4])
    embed(workspace=workspace)
    path = workspace.embeddings / "embeddings.npz"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(DataError, match="cannot be read"):
        load_embeddings(workspace.embeddings)
