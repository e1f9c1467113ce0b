"""The gate: good packages pass, bad ones are refused for the right reason, forgery fails."""

from __future__ import annotations

import json
import shutil

import pytest
from typer.testing import CliRunner

from visionloop.core.cli import run_command
from visionloop.core.errors import ConfigError, DataError, InputError, PackageError, RefusedError
from visionloop.core.files import read_json, write_json
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.gate import gate, verify_gate_report
from visionloop.evaluation.robustness import robustness
from visionloop.serving.signing import new_key_pair


def refusing(report) -> set[str]:
    return {check.name for check in report.checks if check.refuses}


def verdicts(report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def measure(ring) -> None:
    evaluate(workspace=ring.workspace)
    robustness(workspace=ring.workspace)


def test_a_good_package_passes(measured) -> None:
    report = gate(workspace=measured.workspace)
    assert report.verdict == "passed" and not report.reasons
    found = verdicts(report)
    assert found["cell_type=poly"] == "not trained for"
    assert found["champion"] == "pass" and report.champion == ""
    others = set(found) - {"cell_type=poly"}
    assert {"data contract", "cost per 1,000 inferences"} < others
    assert {found[name] for name in others} == {"pass"}
    assert report.short_reason.startswith("balanced_accuracy .")
    page = (measured.workspace.reports / "gate" / "gate.html").read_text()
    assert "passed" in page and report.package_sha256 in page


def test_its_report_verifies(measured) -> None:
    report = gate(workspace=measured.workspace)
    folder = measured.workspace.reports / "gate"
    keys = [measured.public_key]
    again = verify_gate_report(folder, package_sha256=report.package_sha256, trusted_keys=keys)
    assert again == report


@pytest.mark.parametrize("kind", ["constant", "inverted"])
def test_a_bad_model_is_refused(cells, kind) -> None:
    sha256 = cells.ship(kind)
    measure(cells)
    report = gate(workspace=cells.workspace)
    assert report.verdict == "refused"
    expected = {"balanced_accuracy", "recall of defective", "cell_type=mono"}
    assert expected <= refusing(report)
    assert "export parity" not in refusing(report) and "latency" not in refusing(report)
    assert report.short_reason.startswith("balanced_accuracy .")
    assert " < .70" in report.short_reason
    with pytest.raises(RefusedError, match="balanced_accuracy"):
        verify_gate_report(
            cells.workspace.reports / "gate",
            package_sha256=sha256,
            trusted_keys=[cells.public_key],
        )


def test_each_limit_refuses_by_its_own_name(measured) -> None:
    def change(targets) -> None:
        targets["latency"] = {
            "per_frame_ms": 1e-6,
            "cameras_per_device": 1000000,
            "frames_per_second": 1000,
        }
        targets["worst_case"]["minimum_mean"] = targets["worst_case"]["minimum_worst"] = 1.0
        targets["quality"]["max_calibration_error"] = 0.0001
        targets["cost"]["per_1000_inferences"] = 1e-12

    measured.edit("targets.yaml", change)
    measured.write_parity(
        read_json(measured.workspace.reports / "evaluation" / "evaluation.json")["package"],
        max_difference=0.2,
        agreement=0.75,
    )
    write_json(
        measured.workspace.reports / "check" / "check.json", {"breaches": ["12 images are damaged"]}
    )
    report = gate(workspace=measured.workspace)
    assert refusing(report) == {
        "latency",
        "cameras per device",
        "worst case, mean",
        "worst case, worst",
        "export parity",
        "data contract",
        "calibration",
        "cost per 1,000 inferences",
    }
    assert any("12 images are damaged" in reason for reason in report.reasons)


def test_where_it_can_be_each_check_says_its_interval(measured) -> None:
    measured.edit("targets.yaml", lambda t: t["quality"].update(max_calibration_error=0.5))
    report = gate(workspace=measured.workspace)
    for check in report.checks:
        if check.name in ("champion", "export parity", "data contract", "unseen test samples"):
            continue
        if check.verdict != "not trained for":
            assert check.low is not None and check.high is not None, check.name
            assert check.low <= check.value <= check.high, check.name
            assert check.limit is not None, check.name


def test_each_device_profile_has_its_own_limit(measured) -> None:
    """Not measured there, measured of another package, too slow, fast enough."""
    from visionloop.evaluation.latency import latency

    limits = {"slow-box": {"per_frame_ms": 500.0}, "fast-box": {"per_frame_ms": 1e-6}}
    measured.edit("targets.yaml", lambda t: t["latency"].update(devices=limits))
    space = measured.workspace
    assert refusing(gate(workspace=space)) == {"latency on slow-box", "latency on fast-box"}
    for device in limits:
        path, found = latency(workspace=space, device=device, images=20)
        assert found.p95_low <= found.p95_ms <= found.p95_high and found.images == 20
    report = gate(workspace=space)
    assert refusing(report) == {"latency on fast-box"}
    assert verdicts(report)["cameras per device on slow-box"] == "pass"
    write_json(path, read_json(path) | {"package": "0" * 64})
    assert "measured of package 000000000000" in " ".join(gate(workspace=space).reasons)
    with pytest.raises(ConfigError, match="slow-box"):
        latency(workspace=space, device="slow-bx")


def test_an_expired_report_releases_nothing(measured, monkeypatch) -> None:
    from datetime import datetime, timedelta, timezone

    from visionloop.evaluation import gate as module

    report = gate(workspace=measured.workspace)
    days = datetime.fromisoformat(report.expires_at) - datetime.fromisoformat(report.judged_at)
    assert days == timedelta(days=90)
    folder = measured.workspace.reports / "gate"
    asked = {"package_sha256": report.package_sha256, "trusted_keys": [measured.public_key]}

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2020, 1, 1, tzinfo=timezone.utc) + timedelta(days=36500)

    monkeypatch.setattr(module, "datetime", Later)
    with pytest.raises(RefusedError, match="expired on"):
        verify_gate_report(folder, **asked)
    assert verify_gate_report(folder, **asked, may_be_expired=True) == report


def test_a_bound_slice_refuses(cells) -> None:
    """Half right on poly: refused once it was trained on poly, not before."""
    cells.edit("targets.yaml", lambda t: t["quality"]["slices"][1].update(minimum=1.0))
    measure(cells)
    assert gate(workspace=cells.workspace).verdict == "passed"
    cells.ship(train_mix={"cell_type": {"mono": 500, "poly": 150}})
    measure(cells)
    report = gate(workspace=cells.workspace)
    assert refusing(report) == {"cell_type=poly"}
    assert "below 1" in report.reasons[0]


def test_what_was_not_measured_refuses(measured) -> None:
    shutil.rmtree(measured.workspace.reports / "robustness")
    shutil.rmtree(measured.workspace.reports / "export")
    shutil.rmtree(measured.workspace.reports / "check")
    report = gate(workspace=measured.workspace)
    assert refusing(report) == {
        "worst case, mean",
        "worst case, worst",
        "export parity",
        "data contract",
    }
    assert all(check.verdict == "not enough data" for check in report.checks if check.refuses)


def test_reports_of_another_package_do_not_count(measured) -> None:
    good = read_json(measured.workspace.reports / "evaluation" / "evaluation.json")["package"]
    measured.ship("steeper")
    with pytest.raises(DataError, match="is of package"):
        gate(workspace=measured.workspace)
    evaluate(workspace=measured.workspace)
    measured.write_parity(good)
    report = gate(workspace=measured.workspace)
    assert refusing(report) == {"worst case, mean", "worst case, worst", "export parity"}


def test_a_guarded_slice_without_samples_refuses(cells) -> None:
    def change(targets) -> None:
        targets["quality"]["slices"].append(
            {"column": "cell_type", "value": "thin film", "minimum": 0.5}
        )

    cells.edit("targets.yaml", change)
    measure(cells)
    report = gate(workspace=cells.workspace)
    assert refusing(report) == {"cell_type=thin film"}
    assert report.short_reason == "cell_type=thin film: not enough data"


def test_no_slice_binds(cells) -> None:
    def change(targets) -> None:
        for one in targets["quality"]["slices"]:
            one["applies_after_train_samples"] = 1000

    cells.edit("targets.yaml", change)
    measure(cells)
    report = gate(workspace=cells.workspace)
    assert {"balanced_accuracy", "worst case, mean"} <= refusing(report)


def test_targets_that_do_not_fit(measured) -> None:
    measured.edit("targets.yaml", lambda t: t["quality"].update(per_class={"defektive": 0.5}))
    with pytest.raises(ConfigError, match="defektive"):
        gate(workspace=measured.workspace)


def test_boxes(boards) -> None:
    measure(boards)
    report = gate(workspace=boards.workspace)
    assert report.verdict == "passed", report.reasons
    boards.ship("constant")
    measure(boards)
    report = gate(workspace=boards.workspace)
    assert {"map50", "ap50 of open"} <= refusing(report)


@pytest.mark.parametrize("place", ["gate.json", "gate.sig", "gate.html"])
def test_one_edited_character(measured, place) -> None:
    report = gate(workspace=measured.workspace)
    path = measured.workspace.reports / "gate" / place
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(PackageError):
        verify_gate_report(
            path.parent, package_sha256=report.package_sha256, trusted_keys=[measured.public_key]
        )


def test_a_verdict_turned_over(cells) -> None:
    """The easy forgery: "refused" becomes "passed", the reasons go."""
    sha256 = cells.ship("constant")
    measure(cells)
    gate(workspace=cells.workspace)
    path = cells.workspace.reports / "gate" / "gate.json"
    path.write_text(json.dumps(read_json(path) | {"verdict": "passed", "reasons": []}))
    with pytest.raises(PackageError, match=r"gate\.json"):
        verify_gate_report(path.parent, package_sha256=sha256, trusted_keys=[cells.public_key])


def test_missing_unsigned_foreign_and_of_another_package(measured, tmp_path) -> None:
    folder = measured.workspace.reports / "gate"
    keys = [measured.public_key]
    with pytest.raises(PackageError, match="no gate report"):
        verify_gate_report(folder, package_sha256="0" * 64, trusted_keys=keys)
    report = gate(workspace=measured.workspace)
    with pytest.raises(RefusedError, match="another package"):
        verify_gate_report(folder, package_sha256="0" * 64, trusted_keys=keys)
    _, stranger = new_key_pair(tmp_path / "stranger")
    with pytest.raises(PackageError):
        verify_gate_report(folder, package_sha256=report.package_sha256, trusted_keys=[stranger])
    (folder / "gate.sig").unlink()
    with pytest.raises(PackageError, match="not signed"):
        verify_gate_report(folder, package_sha256=report.package_sha256, trusted_keys=keys)


def test_nothing_is_written_without_a_key(measured, monkeypatch) -> None:
    monkeypatch.delenv("VISIONLOOP_SIGNING_KEY")
    with pytest.raises(InputError, match="VISIONLOOP_SIGNING_KEY"):
        gate(workspace=measured.workspace)
    assert not (measured.workspace.reports / "gate").exists()


def test_exit_codes(measured, capsys) -> None:
    from visionloop.evaluation.cli import app

    root = str(measured.workspace.root)
    assert CliRunner().invoke(app, ["gate", "-w", root]).exit_code == 0
    measured.edit("targets.yaml", lambda t: t["quality"].update(minimum=1.0))
    assert run_command(lambda: app(["gate", "-w", root])) == 3
    assert "balanced_accuracy" in capsys.readouterr().err
    assert run_command(lambda: app(["gate", "--write-verdict-only", "-w", root])) == 0
    assert read_json(measured.workspace.reports / "gate" / "gate.json")["verdict"] == "refused"


def test_every_key_of_targets_is_documented() -> None:
    from pathlib import Path

    from pydantic import BaseModel

    from visionloop.core.targets import Targets

    page = (Path(__file__).parents[2] / "docs" / "targets.md").read_text()

    def missing(model: type[BaseModel]) -> list[str]:
        names = []
        for name, field in model.model_fields.items():
            names += [] if f"{name}`" in page else [name]
            for part in (field.annotation, *getattr(field.annotation, "__args__", ())):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    names += missing(part)
        return names

    assert not missing(Targets)
