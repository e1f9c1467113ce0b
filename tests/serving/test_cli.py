"""The commands as people see them: one screen, the right exit code, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import yaml

from visionloop.core.config import load_block
from visionloop.serving.params import ServingParams

REPOSITORY = Path(__file__).parents[2]


def serve(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "visionloop.serving", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_flipped_byte_is_bad_input_on_one_screen(make_workspace, make_line, tiny):
    workspace = make_workspace("[]", "[]")
    make_line([50], workspace.images)
    workspace.package.parent.mkdir()
    tiny.classifier().rename(workspace.package)
    model = workspace.package / "model.onnx"
    content = bytearray(model.read_bytes())
    content[100] ^= 1
    model.write_bytes(content)
    done = serve("build", "-w", str(workspace.root))
    assert done.returncode == 2
    assert "changed after signing: model.onnx" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert not workspace.engine.exists()


def test_unknown_keys_are_told_with_their_line(make_workspace):
    workspace = make_workspace("[]", "[]")
    text = workspace.params.read_text().replace("parity_images: 4", "parity_image: 4, max_batch: x")
    workspace.params.write_text(text)
    done = serve("build", "-w", str(workspace.root))
    assert done.returncode == 2
    assert "did you mean 'parity_images'" in done.stderr
    assert "max_batch" in done.stderr
    assert "params.yaml:8" in done.stderr


def test_the_numbers_of_the_repository_are_valid():
    found = load_block(REPOSITORY / "params.yaml", "serving", ServingParams)
    written = yaml.safe_load((REPOSITORY / "params.yaml").read_text())["serving"]
    assert [source.name for source in found.edge.sources] == ["line-mono", "line-poly"]
    assert set(written["build"]) == set(type(found.build).model_fields)
    assert set(written["edge"]) == set(type(found.edge).model_fields)
