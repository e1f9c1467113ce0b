"""A small project folder, tiny model packages, and one real Label Studio for all tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pandas
import pytest
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.entities import Annotation
from visionloop.core.errors import InputError
from visionloop.core.files import sha256_of_file
from visionloop.core.tables import SAMPLES, write_table
from visionloop.core.workspace import Workspace
from visionloop.data.embeddings import Embeddings, save_embeddings
from visionloop.labeling import server
from visionloop.labeling.environment import ensure_label_studio
from visionloop.serving.manifest import ImageInput, Manifest, ModelOutputs
from visionloop.serving.package import write_package

CELLS, BOARDS = ["functional", "defective"], ["open", "short", "spur"]
WIDTH, HEIGHT = 60, 40
PARAMS = """\
project: {{recipe: test, model: {model}, vision_task: {task}, classes: [{classes}], seed: 3}}
labeling: {{port: 0, strategy: typical, budget: 30, batch: 10, second_look: 5,
           control_share: 0}}
"""


@dataclass(frozen=True)
class Project:
    """A workspace of 60 grey images, and what is true of each.

    ``cells`` is a classification project; ``boards`` (a variant: same images, same Label
    Studio) is a detection project.
    """

    cells: Workspace
    boards: Workspace
    ids: list[str]
    levels: dict[str, float]
    classes: dict[str, list[Annotation]]
    boxes: dict[str, list[Annotation]]

    def select(self, workspace: Workspace, ids: list[str]) -> None:
        """Put samples on the list of the next push."""
        from visionloop.labeling.selection import SELECTION

        frame = pandas.DataFrame({"sample_id": ids, "order": range(len(ids)), "reason": "a test"})
        write_table(workspace.studio_state / "selection.parquet", SELECTION, frame)


def make_project(root: Path) -> Project:
    cells, boards = Workspace(root), Workspace(root, variant="boards")
    for workspace, task, classes in (
        (cells, "classification", CELLS),
        (boards, "detection", BOARDS),
    ):
        workspace.own.mkdir(parents=True, exist_ok=True)
        workspace.params.write_text(
            PARAMS.format(model=f"test-{task}", task=task, classes=", ".join(classes))
        )
    rng = np.random.default_rng(0)
    cells.images.mkdir(parents=True)
    rows, levels = [], {}
    for level in rng.uniform(40, 215, 60):
        picture = np.clip(level + rng.integers(-8, 8, (HEIGHT, WIDTH, 3)), 0, 255)
        cv2.imwrite(str(root / "new.png"), picture.astype(np.uint8))
        one = sha256_of_file(root / "new.png")
        (root / "new.png").rename(cells.images / f"{one}.png")
        levels[one] = float(level)
        rows.append({"sample_id": one, "file_name": f"{one}.png", "width": WIDTH, "height": HEIGHT})
    frame = pandas.DataFrame(rows).sort_values("sample_id")
    for column in SAMPLES.columns:
        if column not in frame:
            frame[column] = "" if column in ("camera", "site", "captured_at") else 0.0
    write_table(cells.raw / "samples.parquet", SAMPLES, frame)
    ids = frame["sample_id"].tolist()
    return Project(cells, boards, ids, levels, *_truth(ids, levels, rng))


def _truth(ids: list[str], levels: dict[str, float], rng: np.random.Generator):
    """Dark cells are defective, with noise near the middle; boards hold up to three boxes."""
    classes, boxes = {}, {}
    for one in ids:
        name = CELLS[int(levels[one] + rng.normal(0, 15) < 128)]
        classes[one] = [Annotation(one, name)]
        boxes[one] = [
            Annotation(one, BOARDS[int(rng.integers(3))], (x, y, x + 12.0, y + 9.0))
            for x, y in ((6.0, 8.0), (26.0, 8.0), (40.0, 25.0))[: int(rng.integers(4))]
        ]
    return classes, boxes


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return make_project(tmp_path)


@pytest.fixture
def embedded(project: Project) -> Project:
    """With embeddings: brightness and noise."""
    rng = np.random.default_rng(1)
    vectors = [[project.levels[one], *rng.normal(0, 3, 7)] for one in project.ids]
    save_embeddings(
        project.cells.embeddings, Embeddings(project.ids, np.array(vectors, np.float32), "test")
    )
    return project


@pytest.fixture(scope="session")
def studio(tmp_path_factory, key_pair) -> Iterator[Project]:
    """A project whose Label Studio runs; stopped at the end whatever happens."""
    project = make_project(tmp_path_factory.mktemp("studio"))
    try:
        ensure_label_studio(project.cells)
    except InputError as error:
        pytest.skip(f"no Label Studio: {error.problems}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONLOOP_SIGNING_KEY", str(key_pair[0]))
        patch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))
        write_classifier(project.cells.package, key_pair[0])
        write_detector(project.boards.package, key_pair[0])
        try:
            server.start(project.cells)
            server.wait_ready(project.cells)
            yield project
        finally:
            server.stop(project.cells)


@pytest.fixture(scope="module")
def neighbour(studio, tmp_path_factory) -> Project:
    """The same images and the same Label Studio, but a project folder of its own."""
    root = tmp_path_factory.mktemp("neighbour")
    (root / "data").mkdir()
    (root / "data" / "raw").symlink_to(studio.cells.raw)
    (root / "studio").mkdir()
    for name in ("server.json", "credentials.json"):
        shutil.copy(studio.cells.studio_state / name, root / "studio" / name)
    cells, boards = Workspace(root), Workspace(root, variant="boards")
    for workspace, task, classes in (
        (cells, "classification", CELLS),
        (boards, "detection", BOARDS),
    ):
        workspace.own.mkdir(parents=True, exist_ok=True)
        model = f"{root.name}-{task}"
        text = PARAMS.format(model=model, task=task, classes=", ".join(classes))
        workspace.params.write_text(text)
        shutil.copytree(
            (studio.cells if workspace is cells else studio.boards).package, workspace.package
        )
    return replace(studio, cells=cells, boards=boards)


@pytest.fixture(scope="session")
def new_package(key_pair) -> Callable[[Path, float], None]:
    """Writes a classifier package of another sharpness."""
    return lambda folder, gain: write_classifier(folder, key_pair[0], gain)


@pytest.fixture(scope="session")
def new_detector(key_pair) -> Callable[[Path], None]:
    """Writes a detector package."""
    return lambda folder: write_detector(folder, key_pair[0])


def write_classifier(folder: Path, key: Path, gain: float = 4.0) -> None:
    """Probability of 'defective' falls with the mean grey level."""
    weights = np.array([[gain, -gain]] * 3, np.float32)
    bias = np.array([-1.5 * gain, 1.5 * gain], np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"weights": weights, "bias": bias}
    shapes = {"probabilities": ["batch", 2], "embedding": ["batch", 3]}
    outputs = ModelOutputs(answer="probabilities", embedding="embedding", kind="probabilities")
    _write(folder, key, nodes, constants, shapes, ["batch", 3, 32, 32], outputs, CELLS)


def write_detector(folder: Path, key: Path) -> None:
    """Two fixed boxes (of the first class, and of the second) as confident as it is bright."""
    boxes = np.array([[6.4, 10.0, 6.4, 7.2], [17.0, 10.4, 6.4, 7.2]], np.float32).T[None]
    confidence = np.array([[1.0, 0.0], [0.0, 0.9], [0.0, 0.0]], np.float32)[None]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["mean"], keepdims=1),
        helper.make_node("Squeeze", ["mean", "last"], ["brightness"]),
        helper.make_node("Mul", ["confidence", "brightness"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["answer"], axis=1),
    ]
    axes, last = np.array([1, 2, 3], np.int64), np.array([3], np.int64)
    constants = {"axes": axes, "last": last, "boxes": boxes, "confidence": confidence}
    outputs = ModelOutputs(answer="answer", kind="yolo")
    _write(folder, key, nodes, constants, {"answer": [1, 7, 2]}, [1, 3, 32, 32], outputs, BOARDS)


def _write(folder, key, nodes, constants, shapes, input_shape, outputs, classes) -> None:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, input_shape)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.parent / "tiny.onnx"
    path.write_bytes(model.SerializeToString())
    manifest = Manifest(
        name="tiny",
        vision_task="classification" if outputs.kind == "probabilities" else "detection",
        classes=classes,
        input=ImageInput(width=32, height=32, resize="stretch"),
        outputs=outputs,
    )
    write_package(folder, model=path, manifest=manifest, signing_key=key)
