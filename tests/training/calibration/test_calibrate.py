"""Calibration inside export: what the package answers, and what is said where it cannot be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from visionloop.core.errors import ConfigError
from visionloop.core.files import read_json
from visionloop.data.versions.version import load_version
from visionloop.serving.images import read_image
from visionloop.serving.package import load_package
from visionloop.serving.predictor import Predictor
from visionloop.training.calibration.calibrate import calibrate
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.export import export
from visionloop.training.families.table import load_family
from visionloop.training.params import CalibrationParams, ExportParams
from visionloop.training.train import train

EASY = {"min_samples": 5, "min_class_samples": 2}


class _Boxes(torch.nn.Module):
    """Says of every picture the same two boxes, the second of which is nowhere."""

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        rows = torch.tensor([[20.0, 70.0], [10.0, 70.0], [40.0, 10.0], [12.0, 10.0]])
        said = torch.tensor([[0.9, 0.8], [0.0, 0.0]])
        return (torch.cat([rows, said])[None].repeat(len(image), 1, 1),)


def test_the_package_answers_calibrated_and_in_the_same_order(embedded_cells, set_training):
    set_training(embedded_cells, planted_fault="shuffled_labels")  # so that it errs
    train(workspace=embedded_cells)
    plain = {"parity_samples": 4, "calibration": {"temperature": False}}
    set_training(embedded_cells, export=plain)
    export(workspace=embedded_cells)
    version = load_version(embedded_cells.version("v1"), embedded_cells.images)
    images = [read_image(version.image_path(one)) for one in version.samples["sample_id"]]
    before = answers(embedded_cells, images)
    set_training(embedded_cells, export=plain | {"calibration": EASY | {"thresholds": "cost"}})
    report = export(workspace=embedded_cells)
    fit = report.calibration.fit
    if fit.why_not:
        pytest.fail(f"nothing was fitted: {fit.why_not}")
    after = answers(embedded_cells, images)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    powers = before ** (1 / fit.temperature)
    assert after == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-4)
    manifest = load_package(embedded_cells.package).manifest
    assert manifest.calibration.temperature == fit.temperature
    assert manifest.thresholds.keys() == {"functional", "defective"}
    folder = embedded_cells.reports / "export"
    assert read_json(folder / "calibration.json")["temperature"] == fit.temperature
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")


def answers(workspace, images) -> np.ndarray:
    package = load_package(workspace.package)
    found = Predictor(package, threads=1).predict(images)
    return np.stack([one.answer.probabilities for one in found])


def test_a_small_val_split_leaves_everything_and_says_so(embedded_cells):
    train(workspace=embedded_cells)
    report = export(workspace=embedded_cells)
    assert "fewer than 30" in report.calibration_summary
    manifest = load_package(embedded_cells.package).manifest
    assert manifest.calibration.temperature == 1
    assert "fewer than 30" in manifest.calibration.why_not


def test_a_cost_of_an_unknown_class_is_refused_before_any_work(embedded_cells, set_training):
    train(workspace=embedded_cells)
    costs = {"calibration": {"class_miss_costs": {"defectiv": 3.0}}}
    set_training(embedded_cells, export=costs)
    with pytest.raises(ConfigError, match="unknown classes: defectiv"):
        export(workspace=embedded_cells)
    assert not embedded_cells.package.exists()


def test_boxes_without_a_true_one_raise_their_class_threshold(boards, cells, set_training):
    train(workspace=cells)
    facts = load_checkpoint(cells.checkpoint).facts
    facts = facts.model_copy(
        update={
            "vision_task": "detection",
            "classes": ["bar", "dot"],
            "input": facts.input.model_copy(update={"width": 96, "height": 96}),
        }
    )
    version = load_version(boards.version("v1"), boards.images)
    where = (0.0, 4.0, 40.0, 16.0)
    version = replace(
        version,
        annotations=tuple(
            replace(row, xyxy=where) if row.class_name == "bar" else row
            for row in version.annotations
        ),
        _by_sample={},
    )
    wanted = CalibrationParams(thresholds="cost", min_samples=5, min_class_samples=2)
    found = calibrate(
        _Boxes(), facts=facts, kind="yolo", version=version, params=ExportParams(calibration=wanted)
    )
    bars = found.thresholds["bar"]
    assert bars.false_alarms == bars.misses == 0
    scaled = sorted(set(found.statements["bar"].confidence.round(6)))
    assert scaled[0] < bars.threshold < scaled[1]
    assert found.statements["dot"].missed == len(version.split("val"))


def test_an_anomaly_network_keeps_its_own_limit(embedded_cells):
    train(workspace=embedded_cells)
    checkpoint = load_checkpoint(embedded_cells.checkpoint)
    network = load_family("efficientnet", embedded_cells.root).build(checkpoint)
    found = calibrate(
        network,
        facts=checkpoint.facts.model_copy(update={"vision_task": "anomaly"}),
        kind="probabilities",
        version=load_version(embedded_cells.version("v1"), embedded_cells.images),
        params=ExportParams(),
    )
    assert "normal pictures" in found.fit.why_not
    assert found.apply(network, "probabilities") is network
