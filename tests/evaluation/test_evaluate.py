"""Evaluation of a real (tiny) package: metrics, slices, pictures, bad input."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from visionloop.core.errors import ConfigError, DataError, PackageError
from visionloop.core.files import read_json
from visionloop.core.tables import PREDICTIONS, read_table
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.measurements import load_evaluation


def test_good_package_is_measured(made_measured) -> None:
    found = load_evaluation(made_measured.workspace.reports / "evaluation")
    guarded = found.guarded.metrics["balanced_accuracy"]
    assert found.guarded.samples == 100 and found.overall.samples == 160
    assert guarded.value > 0.9 and guarded.low < guarded.value < guarded.high
    assert found.guarded.metrics["auroc"].value > 0.95
    assert set(found.guarded.classes) == {"functional", "defective"}
    assert found.data.seen_in_training == 0
    assert sum(map(sum, found.confusion)) == 100, "guarded samples"
    assert 0 < found.latency.p50_ms <= found.latency.p95_ms


def test_files_that_people_and_machines_read(made_measured) -> None:
    folder = made_measured.workspace.reports / "evaluation"
    for name in ("confusion.png", "curves.png", "mistakes.png", "slices.png", "worst.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    assert page.count("data:image/png;base64,") == 5
    assert "http://" not in page and "https://" not in page
    numbers = read_json(folder / "metrics.json")
    assert numbers["balanced_accuracy"] == pytest.approx(
        load_evaluation(folder).guarded.metrics["balanced_accuracy"].value
    )
    table = read_table(folder / "predictions.parquet", PREDICTIONS)
    assert len(table) == 160 and {"true_class_id", "group", "cell_type"} <= set(table)
    rows = np.stack(table["probabilities"].to_numpy())
    right = rows.argmax(axis=1) == np.stack(table["true_class_id"].to_numpy())[:, 0]
    assert right.mean() == pytest.approx(numbers["all_samples"]["accuracy"])


def test_a_slice_binds_once_the_package_was_trained_on_it(cells, made_measured) -> None:
    found = load_evaluation(made_measured.workspace.reports / "evaluation")
    assert found.slices["cell_type=mono"].status == "guarded"
    assert found.slices["cell_type=poly"].status == "not trained for"
    assert found.slices["cell_type=poly"].train_samples == 0
    cells.ship(train_mix={"cell_type": {"mono": 500, "poly": 100}})
    report = evaluate(workspace=cells.workspace)
    found = report.evaluation
    assert load_evaluation(report.folder) == found
    assert found.slices["cell_type=poly"].status == "guarded"
    assert found.guarded.samples == 160


def test_a_package_that_does_not_say_is_held_to_every_limit(cells) -> None:
    cells.ship(train_mix={})
    found = evaluate(workspace=cells.workspace).evaluation
    assert found.slices["cell_type=poly"].status == "guarded"
    assert found.slices["cell_type=poly"].train_samples is None


def test_numeric_columns_are_cut_in_three(made_measured) -> None:
    slices = load_evaluation(made_measured.workspace.reports / "evaluation").slices
    parts = [part for part in slices.values() if part.column == "luminance"]
    assert len(parts) == 3 and sum(part.samples for part in parts) == 160
    assert all(part.status == "reported" for part in parts)


def test_a_slice_too_small_and_an_empty_slice_say_so(cells) -> None:
    def change(targets) -> None:
        targets["quality"]["slices"].append(
            {"column": "cell_type", "value": "thin film", "minimum": 0.5}
        )

    cells.edit("targets.yaml", change)
    cells.edit("params.yaml", lambda p: p["evaluation"]["intervals"].update(min_samples=61))
    slices = evaluate(workspace=cells.workspace).evaluation.slices
    empty, small = slices["cell_type=thin film"], slices["cell_type=poly"]
    assert not empty.enough and empty.samples == 0
    assert empty.metrics["balanced_accuracy"].value is None
    assert not small.enough and small.why == "60 samples, fewer than 61"


def test_boxes(boards) -> None:
    found = evaluate(workspace=boards.workspace).evaluation
    # "open" is always found; "short" is reported on every board and right on three of four.
    assert found.guarded.classes["open"]["ap50"].value == pytest.approx(1.0)
    assert found.guarded.classes["open"]["ap50"].low < 1.0, "rule of three"
    assert found.guarded.classes["short"]["recall"].value == pytest.approx(1.0)
    assert found.guarded.classes["short"]["precision"].value == pytest.approx(0.75)
    assert 0.8 < found.guarded.metrics["map50"].value < 1
    assert found.guarded.metrics["map50_95"].value < found.guarded.metrics["map50"].value
    assert found.confusion[2] == [0, 10, 0]
    assert (boards.workspace.reports / "evaluation" / "worst.png").stat().st_size > 5000


def test_one_test_sample(cells) -> None:
    folder = cells.workspace.version("v1")
    _keep_test_samples(cells, 1)
    found = evaluate(workspace=cells.workspace).evaluation
    assert found.overall.samples == 1 and not found.overall.enough
    assert found.overall.metrics["balanced_accuracy"].low is None
    assert folder.is_dir()


def test_a_class_without_test_samples(cells) -> None:
    _keep_test_samples(cells, 40, class_name="functional")
    found = evaluate(workspace=cells.workspace).evaluation
    assert not found.overall.enough and "defective has 0" in found.overall.why
    assert found.overall.classes["defective"]["recall"].value is None
    assert found.overall.metrics["auroc"].value is None


def test_unknown_column_names_the_nearest(cells) -> None:
    columns = ["cel_type", "hours"]
    cells.edit("params.yaml", lambda p: p["evaluation"]["evaluate"].update(slice_columns=columns))
    with pytest.raises(ConfigError) as caught:
        evaluate(workspace=cells.workspace)
    assert len(caught.value.problems) == 2
    assert "did you mean 'cell_type'?" in str(caught.value)
    assert not (cells.workspace.reports / "evaluation").exists()


def test_wrong_params_name_every_line(cells) -> None:
    def change(params) -> None:
        params["evaluation"]["intervals"]["drows"] = 5
        params["evaluation"]["robustness"]["severities"] = [7]

    cells.edit("params.yaml", change)
    with pytest.raises(ConfigError) as caught:
        evaluate(workspace=cells.workspace)
    assert len(caught.value.problems) == 2 and "did you mean 'draws'?" in str(caught.value)


def test_missing_images_are_all_named(cells) -> None:
    test = pandas.read_parquet(cells.workspace.version("v1") / "samples.parquet")
    names = test.loc[test["split"] == "test", "file_name"].iloc[:3]
    for name in names:
        (cells.workspace.images / name).unlink()
    with pytest.raises(DataError) as caught:
        evaluate(workspace=cells.workspace)
    assert len(caught.value.problems) == 3


def test_flipped_byte_in_the_package(cells) -> None:
    path = cells.workspace.package / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(PackageError):
        evaluate(workspace=cells.workspace)


def test_classes_in_another_order(cells) -> None:
    import yaml

    from visionloop.data.versions.version import load_version, save_version

    version = load_version(cells.workspace.version("v1"), cells.workspace.images)
    save_version(
        cells.workspace.version("v2"),
        vision_task="classification",
        classes=("defective", "functional"),
        samples=version.samples,
        annotations=list(version.annotations),
    )
    cells.edit("params.yaml", lambda p: p["data"].update(version="v2"))
    assert yaml.safe_load(cells.workspace.params.read_text())["data"]["version"] == "v2"
    with pytest.raises(DataError, match="in that order"):
        evaluate(workspace=cells.workspace)


def test_test_samples_that_were_trained_on_are_counted(cells) -> None:
    from visionloop.data.versions.version import load_version, save_version

    version = load_version(cells.workspace.version("v1"), cells.workspace.images)
    samples = version.samples.copy()
    is_test = samples["split"] == "test"
    samples.loc[is_test, "split"] = "train"
    samples.loc[~is_test, "split"] = "test"
    fingerprint = save_version(
        cells.workspace.version("v0"),
        vision_task="classification",
        classes=version.classes,
        samples=samples,
        annotations=list(version.annotations),
    )
    object.__setattr__(cells, "fingerprint", fingerprint)
    cells.ship()
    assert evaluate(workspace=cells.workspace).evaluation.data.seen_in_training == 160


def _keep_test_samples(ring, count: int, class_name: str | None = None) -> None:
    """Freeze v1 again with fewer test samples."""
    from visionloop.data.versions.version import load_version, save_version

    version = load_version(ring.workspace.version("v1"), ring.workspace.images)
    is_test = version.samples["split"] == "test"
    wanted = [
        one
        for one in version.samples.loc[is_test, "sample_id"]
        if class_name in (None, version.annotations_of(one)[0].class_name)
    ][:count]
    samples = version.samples[~is_test | version.samples["sample_id"].isin(wanted)]
    kept = set(samples["sample_id"])
    save_version(
        ring.workspace.version("v1"),
        vision_task="classification",
        classes=version.classes,
        samples=samples,
        annotations=[one for one in version.annotations if one.sample_id in kept],
    )
