"""The backbone package of the default recipe, and the vectors that it gives to images."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.serving.images import decode_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.signing import new_key_pair
from visionloop.training.backbone import export_backbone

__all__ = ["embed_files", "open_backbone"]

PARAMS = Path(__file__).parents[1] / "params.yaml"


@contextmanager
def open_backbone() -> Iterator[Predictor]:
    """The backbone as a predictor; its package is signed with a throw-away key."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        private, public = new_key_pair(folder / "keys")
        os.environ["VISIONLOOP_SIGNING_KEY"] = str(private)
        os.environ["VISIONLOOP_TRUSTED_KEYS"] = str(public)
        (folder / "params.yaml").write_text(PARAMS.read_text())
        package = export_backbone(workspace=Workspace(folder)).package
        yield Predictor(load_package(package))


def embed_files(contents: Sequence[bytes]) -> NDArray[np.float32]:
    """Vectors float32 (N, D) of N image files, given as their bytes."""
    with open_backbone() as predictor:
        rows = [
            predictor.embed([decode_image(one)])[0] for one in track(contents, "embedding images")
        ]
    return np.array(rows, np.float32)
