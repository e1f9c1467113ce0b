"""Pixel AUROC and AUPRO against plain computations, and an anomaly package end to end."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pandas
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from visionloop.core.entities import Annotation
from visionloop.core.workspace import Workspace
from visionloop.data.versions.version import load_version, save_version
from visionloop.evaluation.anomaly_maps import GRID, AnomalyMaps, mask_of, measure_maps
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.params import IntervalParams
from visionloop.serving.manifest import ImageInput, Lineage, Manifest, ModelOutputs
from visionloop.serving.package import write_package

SIDE = 32
CLASSES = ("good", "bad")


def made_maps(count: int = 24) -> tuple[list, list]:
    """Maps that see two regions in every third picture, with noise."""
    generator = np.random.default_rng(2)
    maps, masks = [], []
    for number in range(count):
        mask = np.zeros((GRID, GRID), np.bool_)
        if number % 3 == 0:
            mask[10:30, 10:40] = mask[60:80, 70:90] = True
        heat = generator.beta(2, 6, (GRID, GRID)) + 0.25 * mask * generator.random()
        maps.append(heat.clip(0, 0.999).astype(np.float32))
        masks.append(mask)
    return maps, masks


def test_pixel_auroc_equals_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    maps, masks = made_maps()
    found = AnomalyMaps.of(maps, masks).resampled(np.ones((1, len(maps))))
    expected = roc_auc_score(np.ravel(masks), np.ravel(maps))
    assert found["pixel_auroc"][0] == pytest.approx(expected, abs=1e-3)


def test_aupro_equals_the_overlap_of_regions_limit_by_limit() -> None:
    maps, masks = made_maps()
    found = AnomalyMaps.of(maps, masks).resampled(np.ones((1, len(maps))))
    false = np.concatenate([heat[~mask] for heat, mask in zip(maps, masks, strict=True)])
    overlaps = []
    for limit in np.quantile(false, 1 - np.linspace(0, 0.3, 61)[1:]):
        for heat, mask in zip(maps, masks, strict=True):
            count, parts = cv2.connectedComponents(mask.astype(np.uint8))
            overlaps += [(heat[parts == one] >= limit).mean() for one in range(1, count)]
    assert found["aupro"][0] == pytest.approx(np.mean(overlaps), abs=2e-3)


def test_a_perfect_map_and_a_blind_one() -> None:
    _, masks = made_maps()
    perfect = [mask.astype(np.float32) * 0.9 for mask in masks]
    blind = [np.full((7, 9), 0.5, np.float32) for _ in masks]
    for maps, expected in ((perfect, 1.0), (blind, 0.5)):
        found = AnomalyMaps.of(maps, masks).resampled(np.ones((1, len(maps))))
        assert found["pixel_auroc"][0] == pytest.approx(expected, abs=1e-6)
    assert AnomalyMaps.of(perfect, masks).resampled(np.ones((1, 24)))["aupro"][0] > 0.99


def test_weights_are_the_same_as_repeated_pictures() -> None:
    maps, masks = made_maps(9)
    weights = np.array([[2, 0, 1, 3, 1, 0, 0, 1, 1]], np.float64)
    rows = np.repeat(np.arange(9), weights[0].astype(int))
    repeated = AnomalyMaps.of([maps[row] for row in rows], [masks[row] for row in rows])
    expected = repeated.resampled(np.ones((1, len(rows))))
    for name, value in AnomalyMaps.of(maps, masks).resampled(weights).items():
        assert value[0] == pytest.approx(expected[name][0]), name


def test_what_cannot_be_measured() -> None:
    maps, masks = made_maps(6)
    params, groups = IntervalParams(), [str(number) for number in range(6)]
    assert measure_maps([None] * 6, masks, groups, params, seed=0) is None
    found = measure_maps(maps, [None, *masks[1:]], groups, params, seed=0)
    assert found.without_outline == 1 and not found.aupro.enough
    clean = [np.zeros((GRID, GRID), np.bool_)] * 6
    nothing = measure_maps(maps, clean, groups, params, seed=0)
    assert nothing.aupro.value is None and nothing.pixel_auroc.value is None


@pytest.fixture
def tiles(tmp_path, signed, monkeypatch) -> Workspace:
    """Grey tiles, every second one with a bright spot that is outlined; a map of brightness."""
    import hashlib

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    space = Workspace(tmp_path / "tiles")
    space.images.mkdir(parents=True)
    generator = np.random.default_rng(4)
    rows, annotations = [], []
    for number in range(70):
        image = generator.normal(90, 12, (SIDE, SIDE, 3)).clip(0, 255).astype(np.uint8)
        x, y = (int(one) for one in generator.integers(2, SIDE - 10, 2))
        is_bad = number % 2 == 1
        if is_bad:
            image[y : y + 8, x : x + 8] = 200
        content = cv2.imencode(".png", image)[1].tobytes()
        sample_id = hashlib.sha256(content).hexdigest()
        (space.images / f"{sample_id}.png").write_bytes(content)
        rows.append(
            {
                "sample_id": sample_id, "file_name": f"{sample_id}.png", "width": SIDE,
                "height": SIDE, "camera": "c", "site": "s", "captured_at": "2026-03-01T06:00:00Z",
                "luminance": 0.0, "contrast": 0.0, "blur": 0.0, "noise": 0.0,
                "group": f"g{number}", "split": "test" if number < 60 else "train",
            }
        )  # fmt: skip
        ring = (x, y, x + 8, y, x + 8, y + 8, x, y + 8)
        box = (float(x), float(y), x + 8.0, y + 8.0)
        annotations.append(
            Annotation(sample_id, "bad", box, polygon=(tuple(map(float, ring)),))
            if is_bad
            else Annotation(sample_id, "good")
        )
    fingerprint = save_version(space.version("v1"), vision_task="anomaly", classes=CLASSES,
                               samples=pandas.DataFrame(rows), annotations=annotations)  # fmt: skip
    from pathlib import Path

    params = yaml.safe_load((Path(__file__).parents[2] / "params.yaml").read_text())
    params["project"] |= {"model": "tiles", "vision_task": "anomaly", "classes": list(CLASSES)}
    params["data"] |= {"version": "v1"}
    params["evaluation"]["evaluate"] |= {"slice_columns": ["hour", "size"]}
    space.params.write_text(yaml.safe_dump(params))
    targets = yaml.safe_load((Path(__file__).parents[2] / "targets.yaml").read_text())
    targets |= {"vision_task": "anomaly", "quality": {"metric": "auroc", "minimum": 0.8}}
    space.targets.write_text(yaml.safe_dump(targets))
    _ship(space, signed[0], fingerprint)
    return space


def _ship(space: Workspace, key, fingerprint: str) -> None:
    """The map is the brightness; its highest value decides."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["places"], axes=[1], keepdims=0),
        helper.make_node("ReduceMax", ["places"], ["top"], axes=[1, 2], keepdims=0),
        helper.make_node("Unsqueeze", ["top", "axis"], ["column"]),
        helper.make_node("Sub", ["one", "column"], ["rest"]),
        helper.make_node("Concat", ["rest", "column"], ["probabilities"], axis=1),
        helper.make_node("Identity", ["places"], ["heatmap"]),
    ]
    constants = {"axis": np.array([1]), "one": np.array([[1.0]], np.float32)}
    shape = ["batch", SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "tiles",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("heatmap", TensorProto.FLOAT, shape),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    space.package.parent.mkdir(parents=True)
    path = space.package.parent / "tiles.onnx"
    onnx.save(model, path)
    outputs = ModelOutputs(answer="probabilities", heatmap="heatmap", kind="probabilities")
    manifest = Manifest(name="tiles", vision_task="anomaly", family="brightness",
                        classes=list(CLASSES), input=ImageInput(width=SIDE, height=SIDE),
                        outputs=outputs,
                        lineage=Lineage(dataset_fingerprint=fingerprint))  # fmt: skip
    write_package(space.package, model=path, manifest=manifest, signing_key=key)


def test_an_anomaly_package_end_to_end(tiles) -> None:
    found = evaluate(workspace=tiles).evaluation
    assert found.guarded.metrics["auroc"].value > 0.99
    maps = found.maps
    assert maps.regions == 30 and maps.without_outline == 0 and maps.aupro.enough
    assert maps.pixel_auroc.value > 0.95 and maps.aupro.value > 0.85
    assert maps.aupro.low <= maps.aupro.value <= maps.aupro.high
    page = (tiles.reports / "evaluation" / "index.html").read_text()
    assert "AUPRO" in page
    assert {"hour=06-12", "size=0.001 megapixels"} == set(found.slices)


def test_the_mask_is_where_people_drew_it(tiles) -> None:
    version = load_version(tiles.version("v1"), tiles.images)
    bad = next(row for row in version.annotations if row.class_name == "bad")
    mask = mask_of(version, bad.sample_id)
    x1, y1, _, _ = (value * GRID / SIDE for value in bad.xyxy)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    assert abs(rows[0] - y1) < 4 and abs(columns[0] - x1) < 4
    assert mask.mean() == pytest.approx((8 / SIDE) ** 2, rel=0.2)
    good = next(row for row in version.annotations if row.class_name == "good")
    assert not mask_of(version, good.sample_id).any()
