"""Bad packages, configurations and samples: refused with the object's name, nothing half written.

The ids are those of the fault list: M1 to M3 (model files), O2 (signatures and replays), X1
(configuration).
"""

from __future__ import annotations

import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from visionloop.core.cli import run_command
from visionloop.core.errors import ConfigError, PackageError, RefusedError
from visionloop.core.files import sha256_of_file
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.gate import gate, verify_gate_report
from visionloop.evaluation.promotion import promote
from visionloop.evaluation.robustness import robustness
from visionloop.serving.signing import new_key_pair, sign_folder

MANIFEST = "manifest.json"


def refuses_everywhere(ring, match: str) -> None:
    """No verb of the stage takes the package, and none leaves a report."""
    for verb in (evaluate, robustness):
        with pytest.raises(PackageError, match=match):
            verb(workspace=ring.workspace)
    assert not (ring.workspace.reports / "evaluation").exists()
    assert not (ring.workspace.reports / "robustness" / "robustness.json").exists()


def sign_again(ring) -> None:
    """What somebody with the key would have to do; the manifest's own hashes are kept right."""
    folder = ring.workspace.package
    content = json.loads((folder / MANIFEST).read_text())
    for name in content.get("files", {}):
        content["files"][name] = sha256_of_file(folder / name)
    (folder / MANIFEST).write_text(json.dumps(content))
    sign_folder(folder, key=ring.private_key)


@pytest.mark.parametrize("damage", ["truncated", "empty", "html", "one byte"])
def test_m1_a_damaged_model_file(cells, damage) -> None:
    path = cells.workspace.package / "model.onnx"
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(
        {
            "truncated": content[: len(content) // 2],
            "empty": b"",
            "html": b"<html>404</html>",
            "one byte": bytes(flipped),
        }[damage]
    )
    refuses_everywhere(cells, r"model\.onnx")


@pytest.mark.parametrize("damage", ["truncated", "html"])
def test_m1_a_damaged_model_file_that_was_signed(cells, damage) -> None:
    path = cells.workspace.package / "model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"<html>")
    sign_again(cells)
    refuses_everywhere(cells, "")


def test_m2_another_shape(cells) -> None:
    """The manifest says 16 × 16 and two classes; the model answers with three."""
    path = cells.workspace.package / "model.onnx"
    model = onnx.load(path)
    del model.graph.output[:]
    model.graph.output.append(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])
    )
    for one in model.graph.initializer:
        if one.name in ("weight", "bias"):
            wide = np.zeros((1, 3), np.float32)
            one.CopyFrom(numpy_helper.from_array(wide, one.name))
    path.write_bytes(model.SerializeToString())
    sign_again(cells)
    refuses_everywhere(cells, "has 3 rows, expected 2")


def test_m2_another_input(cells) -> None:
    path = cells.workspace.package / "model.onnx"
    model = onnx.load(path)
    for place, size in ((2, 32), (3, 32)):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size
    path.write_bytes(model.SerializeToString())
    sign_again(cells)
    refuses_everywhere(cells, "the manifest says")


@pytest.mark.parametrize("how", ["outside", "symlink", "hardlink"])
def test_m3_weights_in_another_file(cells, tmp_path, how) -> None:
    """External data is refused before ONNX Runtime sees it."""
    folder = cells.workspace.package
    model = onnx.load(folder / "model.onnx")
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"\0" * 64)
    location = "../secret.bin" if how == "outside" else "weights.bin"
    for one in model.graph.initializer:
        if one.name == "weight":
            external_data_helper.set_external_data(one, location, 0, 8)
            one.ClearField("raw_data")
            one.data_location = TensorProto.EXTERNAL
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    if how == "symlink":
        (folder / "weights.bin").symlink_to(secret)
    if how == "hardlink":
        os.link(secret, folder / "weights.bin")
    try:
        sign_again(cells)
    except Exception:
        assert how == "symlink", "a link cannot even be signed"
    refuses_everywhere(cells, "")


def test_o2_signed_by_a_stranger(measured, tmp_path) -> None:
    private, _ = new_key_pair(tmp_path / "stranger")
    sign_folder(measured.workspace.package, key=private)
    with pytest.raises(PackageError, match="another key signed it"):
        evaluate(workspace=measured.workspace)
    with pytest.raises(PackageError, match="another key signed it"):
        gate(workspace=measured.workspace)


def test_o2_an_old_report_of_the_same_name_is_put_back(registered) -> None:
    """The gate report of the package before: genuine, and not of this one."""
    gate(workspace=registered.workspace)
    kept = registered.workspace.root / "kept"
    shutil.copytree(registered.workspace.reports / "gate", kept)
    sha256 = registered.ship("inverted")
    shutil.rmtree(registered.workspace.reports / "gate")
    shutil.copytree(kept, registered.workspace.reports / "gate")
    with pytest.raises(RefusedError, match="another package"):
        promote(workspace=registered.workspace)
    with pytest.raises(RefusedError, match="another package"):
        verify_gate_report(kept, package_sha256=sha256, trusted_keys=[registered.public_key])


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("targets.yaml", lambda t: t["quality"].update(minimun=0.5), "did you mean 'minimum'"),
        ("targets.yaml", lambda t: t["latency"].update(devices={"a": {}}), "per_frame_ms"),
        ("targets.yaml", lambda t: t["quality"].update(max_calibration_error=2), "less than"),
        ("targets.yaml", lambda t: t["cost"].update(per_core_hour="much"), "per_core_hour"),
        ("params.yaml", lambda p: p["evaluation"].update(gate={"valid_days": 0}), "valid_days"),
        ("params.yaml", lambda p: p["evaluation"].update(alarm={}), "did you mean 'alarms'"),
    ],
)
def test_x1_configuration(cells, name, change, said) -> None:
    cells.edit(name, change)
    with pytest.raises(ConfigError) as caught:
        evaluate(workspace=cells.workspace)
    assert said in str(caught.value) and name in str(caught.value)
    assert not (cells.workspace.reports / "evaluation").exists()


def test_x1_the_command_ends_with_two_and_one_screen(cells, capsys) -> None:
    from visionloop.evaluation.cli import app

    cells.edit("targets.yaml", lambda t: t["quality"].update(minimun=0.5))
    root = str(cells.workspace.root)
    assert run_command(lambda: app(["evaluate", "-w", root])) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said.splitlines()) < 12


def test_a_champion_with_its_classes_in_another_order(registered) -> None:
    """Its answers are turned into the candidate's order before they are compared."""
    import pandas

    from visionloop.core.files import read_json, write_json

    gate(workspace=registered.workspace)
    report = promote(workspace=registered.workspace)
    kept = registered.workspace.root / "mlartifacts"
    (folder,) = [one.parent for one in kept.rglob("evaluation.json")]
    content = read_json(folder / "evaluation.json")
    content["classes"] = content["classes"][::-1]
    write_json(folder / "evaluation.json", content)
    table = pandas.read_parquet(folder / "predictions.parquet")
    table["probabilities"] = [list(one)[::-1] for one in table["probabilities"]]
    table["true_class_id"] = [[1 - int(one[0])] for one in table["true_class_id"]]
    table.to_parquet(folder / "predictions.parquet")
    registered.ship("steeper")
    evaluate(workspace=registered.workspace)
    robustness(workspace=registered.workspace)
    judged = gate(workspace=registered.workspace)
    assert judged.champion == report.version and judged.verdict == "passed", judged.reasons
    (check,) = [one for one in judged.checks if one.question == "champion"]
    assert check.value == pytest.approx(0.0, abs=0.02)


def test_a_champion_of_other_classes_cannot_be_compared_and_that_refuses(registered) -> None:
    from visionloop.core.files import read_json, write_json

    gate(workspace=registered.workspace)
    promote(workspace=registered.workspace)
    (path,) = (registered.workspace.root / "mlartifacts").rglob("evaluation.json")
    content = read_json(path)
    content["classes"] = ["functional", "cracked"]
    write_json(path, content)
    registered.ship("steeper")
    evaluate(workspace=registered.workspace)
    robustness(workspace=registered.workspace)
    judged = gate(workspace=registered.workspace)
    assert [one.name for one in judged.checks if one.refuses] == ["champion"]
    assert "cannot be compared" in judged.reasons[0]


def test_one_test_sample_is_not_enough_for_the_gate(cells) -> None:
    from visionloop.data.versions.version import load_version, save_version

    version = load_version(cells.workspace.version("v1"), cells.workspace.images)
    samples = version.samples
    is_test = samples["split"] == "test"
    first = samples.loc[is_test & (samples["cell_type"] == "mono"), "sample_id"].iloc[0]
    kept = samples[~is_test | (samples["sample_id"] == first)]
    save_version(
        cells.workspace.version("v1"),
        vision_task="classification",
        classes=version.classes,
        samples=kept,
        annotations=[one for one in version.annotations if one.sample_id in set(kept["sample_id"])],
    )
    evaluate(workspace=cells.workspace)
    robustness(workspace=cells.workspace)
    judged = gate(workspace=cells.workspace)
    assert judged.verdict == "refused"
    missing = {one.name for one in judged.checks if one.verdict == "not enough data"}
    assert {"balanced_accuracy", "recall of defective", "cell_type=mono"} <= missing
    assert {"worst case, mean", "worst case, worst"} <= missing
    assert "1 samples, fewer than 30" in " ".join(judged.reasons)
