"""Predictor: a verified package, a backend, and the way from pictures to answers.

Evaluation, embeddings, drafts and the edge agent all use this class, so what is
measured is what is shipped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from visionloop.core.entities import Prediction
from visionloop.core.errors import DataError, PackageError
from visionloop.core.plugins import resolve
from visionloop.serving.backends.table import BACKENDS
from visionloop.serving.package import ModelPackage
from visionloop.serving.postprocess import decode
from visionloop.serving.preprocess import BatchMaker, Placement

if TYPE_CHECKING:
    from visionloop.serving.backends.table import Backend

__all__ = ["DEFAULT_CONFIDENCE", "Predictor", "Timings"]

DEFAULT_CONFIDENCE = 0.25
"""Smallest confidence of a box whose class has no threshold in the manifest."""

Images = Sequence[NDArray[np.uint8]]
Outputs = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Timings:
    """Milliseconds that a call took: pre-processing, model, post-processing."""

    pre: float
    infer: float
    post: float

    @property
    def total(self) -> float:
        """Milliseconds from pictures to answers."""
        return self.pre + self.infer + self.post


class Predictor:
    """Answers of a model package on pictures.

    Parameters
    ----------
    package : ModelPackage
    backend : str
        Row of the backend table.
    threads : int or None
        Threads of one call; None lets the backend choose.
    batch_size : int
        Most pictures the model sees at once, where it takes any number.
    model : bytes or None
        Another form of the package's model: its FP16 variant, or an engine built from
        it. None takes the package's ONNX.

    Raises
    ------
    PackageError
        If the model's inputs and outputs are not those of the manifest; what was
        expected and what was found is said.
    """

    def __init__(
        self,
        package: ModelPackage,
        *,
        backend: str = "onnxruntime",
        threads: int | None = None,
        batch_size: int = 8,
        model: bytes | None = None,
    ) -> None:
        make = resolve(BACKENDS, backend, kind="backend", extra="edge")
        self.package = package
        self.backend_name = backend
        self._backend: Backend = make(
            package.read_model() if model is None else model,
            subject=str(package.path),
            threads=threads,
        )
        _check_shapes(package, self._backend)
        self._makers = threading.local()  # each thread fills a batch of its own
        self._fixed_batch = self._backend.input_shape[0]
        self._batch_size = self._fixed_batch or batch_size

    def predict(
        self, images: Images, *, minimum_confidence: float | None = None
    ) -> list[Prediction]:
        """Answer on pictures.

        Parameters
        ----------
        images : sequence of uint8 arrays (H, W, 3), BGR
        minimum_confidence : float or None
            Smallest confidence of a box, for all classes; None takes the manifest's
            thresholds (0.25 where it has none).

        Returns
        -------
        list of Prediction
            One a picture. Boxes are in pixels of that picture, after non-maximum
            suppression.

        Raises
        ------
        PackageError
            If the package only embeds, or the model answers with numbers that are not
            finite.
        DataError
            If an image is not uint8 (H, W, 3).
        """
        return self.predict_timed(images, minimum_confidence=minimum_confidence)[0]

    def predict_timed(
        self, images: Images, *, minimum_confidence: float | None = None
    ) -> tuple[list[Prediction], Timings]:
        """As :meth:`predict`, with the milliseconds that it took."""
        if self.package.manifest.vision_task == "embedding":
            raise PackageError(str(self.package.path), "gives embeddings, not predictions")
        smallest = self._smallest_confidences(minimum_confidence)
        predictions: list[Prediction] = []
        pre = infer = post = 0.0
        for chunk in self._chunks(images):
            start = time.perf_counter()
            batch, placements = self._make_batch(chunk)
            prepared = time.perf_counter()
            outputs = self._run(batch, len(chunk))
            answered = time.perf_counter()
            predictions += self._decode(outputs, placements, smallest)
            pre += prepared - start
            infer += answered - prepared
            post += time.perf_counter() - answered
        return predictions, Timings(pre * 1e3, infer * 1e3, post * 1e3)

    def embed(self, images: Images) -> NDArray[np.float32]:
        """Feature vectors of pictures.

        Parameters
        ----------
        images : sequence of uint8 arrays (H, W, 3), BGR
            At least one.

        Returns
        -------
        float32 array (N, D)

        Raises
        ------
        PackageError
            If the package gives no embedding, or one that is not finite.
        """
        name = self._embedding_name()
        if name is None:
            raise PackageError(str(self.package.path), "gives no embedding")
        if not len(images):
            raise DataError("batch", "there is no image in it")
        rows = []
        for chunk in self._chunks(images):
            batch, _ = self._make_batch(chunk)
            rows.append(self._run(batch, len(chunk))[name].reshape(len(chunk), -1))
        vectors = np.concatenate(rows)
        if not np.isfinite(vectors).all():
            raise PackageError(str(self.package.path), "answers with numbers that are not finite")
        return vectors

    def _embedding_name(self) -> str | None:
        outputs = self.package.manifest.outputs
        if outputs.embedding is None and outputs.kind == "embedding":
            return outputs.answer
        return outputs.embedding

    def _smallest_confidences(self, given: float | None) -> NDArray[np.float32]:
        manifest = self.package.manifest
        values = [
            given if given is not None else manifest.thresholds.get(name, DEFAULT_CONFIDENCE)
            for name in manifest.classes
        ]
        return np.asarray(values, np.float32)

    def _chunks(self, images: Images) -> Iterator[Images]:
        for start in range(0, len(images), self._batch_size):
            yield images[start : start + self._batch_size]

    def _make_batch(self, chunk: Images) -> tuple[NDArray[np.float32], list[Placement]]:
        maker: BatchMaker | None = getattr(self._makers, "maker", None)
        if maker is None:
            maker = self._makers.maker = BatchMaker(self.package.manifest.input)
        try:
            batch, placements = maker.make(chunk)
        except ValueError as error:
            raise DataError("picture", str(error)) from None
        missing = (self._fixed_batch or 0) - len(chunk)
        if missing > 0:
            batch = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
        return batch, placements

    def _run(self, batch: NDArray[np.float32], count: int) -> Outputs:
        try:
            outputs = self._backend.run(batch)
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            raise PackageError(str(self.package.path), f"the model failed: {text}") from error
        return {name: values[:count] for name, values in outputs.items()}

    def _decode(
        self, outputs: Outputs, placements: list[Placement], smallest: NDArray[np.float32]
    ) -> list[Prediction]:
        manifest = self.package.manifest
        raw = outputs[manifest.outputs.answer]
        embedding = self._embedding_name()
        vectors = outputs[embedding].reshape(len(raw), -1) if embedding else [None] * len(raw)
        heatmap = manifest.outputs.heatmap
        maps = list(outputs[heatmap]) if heatmap else [None] * len(raw)
        try:
            answers = decode(
                raw,
                placements,
                kind=manifest.outputs.kind,
                minimum_confidence=smallest,
                max_iou=manifest.max_iou,
            )
        except ValueError as error:
            raise PackageError(str(self.package.path), f"the model's answer: {error}") from None
        return [Prediction(*row) for row in zip(answers, vectors, maps, strict=True)]


def _check_shapes(package: ModelPackage, backend: Backend) -> None:
    """Compare the model with its manifest before the first picture."""
    spec, outputs = package.manifest.input, package.manifest.outputs
    problems = []
    expected = (None, 3, spec.height, spec.width)
    found = backend.input_shape
    if len(found) != 4 or any(
        a is not None and b is not None and a != b for a, b in zip(expected, found, strict=True)
    ):
        hint = ""
        if len(found) == 4 and found[3] == 3 and found[1] != 3:
            hint = " (channels come last in the model: export it with channels first)"
        problems.append(f"the model takes {found}, the manifest says {expected}{hint}")
    for name in filter(None, (outputs.answer, outputs.embedding, outputs.heatmap)):
        if name not in backend.output_shapes:
            known = ", ".join(backend.output_shapes)
            problems.append(f"the model has no output '{name}' (it has {known})")
    shape = backend.output_shapes.get(outputs.answer, ())
    count = len(package.manifest.classes)
    rows = {"probabilities": count, "attributes": count, "yolo": 4 + count, "detr": 4 + count}
    axis = 2 if outputs.kind == "detr" else 1
    wanted = rows.get(outputs.kind)
    if wanted is not None and len(shape) > axis and shape[axis] not in (None, wanted):
        problems.append(f"output '{outputs.answer}' has {shape[axis]} rows, expected {wanted}")
    if problems:
        raise PackageError(str(package.path), problems, "export the package again")
