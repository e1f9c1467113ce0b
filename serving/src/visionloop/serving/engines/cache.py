"""Engines kept on this machine under the key of everything that an engine depends on.

An engine is as trusted as code: the folder belongs to the machine's own user, and every file
is checked against its SHA-256 before it is used. A broken entry is thrown away and built again.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from pydantic import ValidationError

from visionloop.core.errors import VisionloopError
from visionloop.core.files import replace_folder, sha256_of_bytes, sha256_of_file, write_json
from visionloop.serving.apart import call_apart
from visionloop.serving.engines.builder import build_engine
from visionloop.serving.engines.record import EngineFacts, engine_key

__all__ = ["EngineCache"]

FACTS_NAME, ENGINE_NAME = "facts.json", "model.engine"


class EngineCache:
    """Builds engines, and gives out those that were built before.

    Parameters
    ----------
    folder : Path
        Made with access for its owner only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)

    def provide(
        self,
        *,
        onnx: Path,
        precision: str,
        compute_capability: str,
        max_batch: int,
        timeout_s: float = 600.0,
        kind: str = "",
    ) -> tuple[EngineFacts, bytes | None]:
        """The engine of an ONNX file for the TensorRT of this machine.

        It is built in a process of its own where it is not in the cache.

        Returns
        -------
        (EngineFacts, bytes or None)
            None where none could be built; the facts say why.
        """
        onnx_sha256 = sha256_of_file(onnx)
        nothing = EngineFacts(precision=precision, onnx_sha256=onnx_sha256, built=False)  # type: ignore[arg-type]
        key = self._key(onnx_sha256, precision, compute_capability, max_batch, kind)
        if key and (found := self.find(key)) is not None:
            return found
        with tempfile.TemporaryDirectory() as folder:
            engine = Path(folder) / ENGINE_NAME
            wanted = {
                "onnx": str(onnx),
                "engine": str(engine),
                "precision": precision,
                "compute_capability": compute_capability,
                "max_batch": max_batch,
                "kind": kind,
            }
            try:
                facts = EngineFacts(**call_apart(build_engine, wanted, timeout_s=timeout_s))
            except VisionloopError as error:
                reason = "; ".join(error.problems)
                return nothing.model_copy(update={"reason": reason}), None
            if not facts.built:
                return facts, None
            content = engine.read_bytes()
        self._keep(facts, content)
        return facts, content

    def find(self, key: str) -> tuple[EngineFacts, bytes] | None:
        """A kept engine whose file is what it was; None where there is none."""
        place = self.folder / key
        try:
            facts = EngineFacts.model_validate_json((place / FACTS_NAME).read_bytes())
            content = (place / ENGINE_NAME).read_bytes()
        except (OSError, ValidationError):
            shutil.rmtree(place, ignore_errors=True)
            return None
        if facts.key != key or sha256_of_bytes(content) != facts.engine_sha256:
            shutil.rmtree(place, ignore_errors=True)
            return None
        return facts.model_copy(update={"from_cache": True}), content

    def _keep(self, facts: EngineFacts, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o700)
        with replace_folder(self.folder / facts.key) as staging:
            (staging / ENGINE_NAME).write_bytes(content)
            write_json(staging / FACTS_NAME, facts.model_dump(mode="json"))

    def _key(
        self, onnx_sha256: str, precision: str, compute_capability: str, max_batch: int, kind: str
    ) -> str:
        """The key on this machine; empty where there is no TensorRT."""
        from visionloop.serving.backends.tensorrt_backend import find_tensorrt, gpu_capability

        library = find_tensorrt(kind)
        if library is None:
            return ""
        is_rtx = library.kind == "tensorrt_rtx"
        return engine_key(
            onnx_sha256=onnx_sha256,
            precision=precision,
            kind=library.kind,
            tensorrt_version=library.version,
            compute_capability=compute_capability if is_rtx else gpu_capability(),
            max_batch=max_batch,
        )
