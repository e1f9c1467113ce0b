"""What answers while the device cannot afford its model: a smaller input, a smaller package.

The smaller input comes with a release (``engine/model-smaller.onnx``, see ``serve build``); the
smaller package is the newest release of another name in the same index
(``serving.edge.fallback_model``), with the same classes, so cameras, rules and objects that are
followed stay what they are. Both are loaded in the background when their rung of the ladder is
reached, and let go when the device has recovered.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from visionloop.core.errors import PackageError, VisionloopError
from visionloop.core.files import replace_folder
from visionloop.core.progress import say_step
from visionloop.serving import signing
from visionloop.serving.edge.updates.model import LoadedModel
from visionloop.serving.edge.updates.release_source import ReleaseSource
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.engines.record import load_manifest, read_smaller
from visionloop.serving.package import ModelPackage, load_package
from visionloop.serving.predictor import Predictor
from visionloop.serving.releases.store import fetch_newest
from visionloop.serving.variants.resize_model import at_size

__all__ = ["SmallerModels", "describe_form"]

FOLDER_NAME = "fallback"
Kind = Literal["full_size", "full_package"]
"""The rung of the ladder that is given up by it."""


class SmallerModels:
    """The smaller forms of the model of one device; :meth:`choose` never waits.

    Parameters
    ----------
    params : EdgeParams
    releases : ReleaseSource
    folder : Path
        Of the agent; copies of the smaller package are below it.
    full : LoadedModel
    """

    def __init__(
        self, params: EdgeParams, releases: ReleaseSource, *, folder: Path, full: LoadedModel
    ) -> None:
        self._params, self._releases, self._folder = params, releases, folder
        self._full, self._answering = full, full
        self._loaded: dict[Kind, LoadedModel] = {}
        self._failed: set[Kind] = set()
        self._package: tuple[int, ModelPackage] | None = None
        self._worker: threading.Thread | None = None
        self.set_full(full)
        if params.fallback_model and self._backend:
            self._start(self._find_package)

    @property
    def missing(self) -> frozenset[str]:
        """Rungs of the ladder that this device does not have."""
        has = {"full_size": self._has_size, "full_package": self._package is not None}
        return frozenset(
            kind for kind, is_there in has.items() if not is_there or kind in self._failed
        )

    @property
    def answering(self) -> LoadedModel:
        """What :meth:`choose` answered last."""
        return self._answering

    def set_full(self, full: LoadedModel) -> None:
        """Another release serves from now on."""
        self._full = self._answering = full
        self._loaded.clear()
        self._failed.clear()
        predictor = full.predictor
        # An engine is built for one size; the processor beside it would only be slower.
        self._backend = predictor.backend_name if isinstance(predictor, Predictor) else ""
        self._engine = full.package.path.parent / "engine"
        self._has_size = bool(self._backend) and self._holds_smaller()

    def choose(self, allows: Callable[[str], bool]) -> LoadedModel:
        """What must answer now, by what the ladder allows."""
        kind: Kind | None = None
        if not allows("full_package") and "full_package" not in self.missing:
            kind = "full_package"
        elif not allows("full_size") and "full_size" not in self.missing:
            kind = "full_size"
        if kind is None:
            self._loaded.clear()
            self._answering = self._full
        elif kind in self._loaded:
            self._answering = self._loaded[kind]
        else:
            wanted = kind
            self._start(lambda: self._load(wanted))
        return self._answering

    def close(self) -> None:
        """Wait for what is under way."""
        if self._worker is not None:
            self._worker.join(60)

    def _start(self, work: Callable[[], None]) -> None:
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=work, name="smaller", daemon=True)
            self._worker.start()

    def _holds_smaller(self) -> bool:
        if not self._engine.is_dir():
            return False
        try:
            found = load_manifest(self._engine, package_sha256=self._full.package.sha256).smaller
        except PackageError as error:
            say_step(f"edge: the release's smaller input cannot be used: {error.problems[0]}")
            return False
        return found is not None and found.accepted

    def _load(self, kind: Kind) -> None:
        full = self._full
        try:
            made = self._load_size(full) if kind == "full_size" else self._load_package()
        except VisionloopError as error:
            say_step(f"edge: the smaller model cannot be used: {error.problems[0]}")
            self._failed.add(kind)
            return
        if self._full is full:  # else another release took over meanwhile
            self._loaded[kind] = made

    def _load_size(self, full: LoadedModel) -> LoadedModel:
        manifest = load_manifest(self._engine, package_sha256=full.package.sha256)
        facts, content = read_smaller(self._engine, manifest)
        return self._open(full.number, at_size(full.package, facts.width, facts.height), content)

    def _load_package(self) -> LoadedModel:
        self._find_package()  # there may be a newer one
        if self._package is None:
            raise PackageError(self._params.fallback_model, "is not on this device")
        number, package = self._package
        return self._open(number, package, package.read_model())

    def _open(self, number: int, package: ModelPackage, content: bytes) -> LoadedModel:
        predictor = Predictor(
            package, backend=self._backend, threads=self._params.threads, model=content
        )
        return LoadedModel(number, package, predictor)

    def _find_package(self) -> None:
        """The newest release of the smaller package, copied to this device; else the copy here."""
        name, copies = self._params.fallback_model, self._folder / FOLDER_NAME
        try:
            release, package = fetch_newest(
                releases=self._releases.refresh(name),
                model=name,
                state=self._folder / "seen.json",
            )
            self._refuse_other(package)
            target = copies / str(release.number)
            if not target.is_dir():
                with replace_folder(target) as staging:
                    shutil.copytree(release.package, staging / "package", symlinks=True)
            for old in copies.glob("*"):
                if old.name != target.name:
                    shutil.rmtree(old, ignore_errors=True)
        except (VisionloopError, OSError) as error:
            say_step(f"edge: no look at the releases of '{name}': {error}")
        self._take_copy(copies)

    def _take_copy(self, copies: Path) -> None:
        numbers = sorted(int(one.name) for one in copies.glob("*") if one.name.isdigit())
        for number in reversed(numbers):
            try:
                keys = signing.trusted_keys()
                package = load_package(copies / str(number) / "package", trusted_keys=keys)
                self._refuse_other(package)
            except VisionloopError as error:
                say_step(f"edge: the smaller package {number} cannot be used: {error.problems[0]}")
                continue
            self._package = (number, package)
            return

    def _refuse_other(self, package: ModelPackage) -> None:
        """Rules, zones and objects that are followed count on the classes."""
        mine, other = self._full.manifest, package.manifest
        if (mine.vision_task, mine.classes) != (other.vision_task, other.classes):
            raise PackageError(
                self._params.fallback_model,
                f"has the classes {', '.join(other.classes)} ({other.vision_task}), the model has "
                f"{', '.join(mine.classes)} ({mine.vision_task})",
                "train the smaller model on the same classes in the same order",
            )


def describe_form(full: LoadedModel, answering: LoadedModel) -> str:
    """What answers, for a person."""
    if answering is full:
        return "full"
    spec = answering.manifest.input
    if answering.package.sha256 == full.package.sha256:
        return f"input {spec.width} x {spec.height}"
    return f"package {answering.manifest.name}, release {answering.number}"
