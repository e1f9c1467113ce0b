"""Waivers: genuine ones help for their check, package and time; all others do not."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
import yaml

from visionloop.core.cli import run_command
from visionloop.core.errors import InputError
from visionloop.core.files import canonical_json, read_json, write_json
from visionloop.evaluation.gate import gate, verify_gate_report
from visionloop.evaluation.gate_report import Check
from visionloop.evaluation.waivers import Waiver, apply_waivers, waive
from visionloop.serving.signing import new_key_pair, sign_bytes

REASON = "the fog lamp is on its way, until then a person looks"
ASKED = {"check": "recall of defective", "reason": REASON, "author": "Ada", "days": 30}


@pytest.fixture
def refused(measured):
    """A package that fails one limit: recall of one class."""
    measured.edit("targets.yaml", lambda t: t["quality"].update(per_class={"defective": 1.0}))
    return measured


def refusing(report) -> set[str]:
    return {check.name for check in report.checks if check.refuses}


def test_a_waiver_lets_one_check_pass_and_is_named(refused) -> None:
    space = refused.workspace
    assert refusing(gate(workspace=space)) == {"recall of defective"}
    waive(workspace=space, **ASKED)
    report = gate(workspace=space)
    assert report.verdict == "passed"
    (check,) = [one for one in report.checks if one.verdict == "waived"]
    assert check.name == "recall of defective" and "Ada" in check.why and REASON in check.why
    assert [one.status for one in report.waivers] == ["used"]
    ends = datetime.fromisoformat(report.expires_at)
    assert timedelta(days=29) < ends - datetime.now(timezone.utc) < timedelta(days=31)
    verify_gate_report(
        space.reports / "gate",
        package_sha256=report.package_sha256,
        trusted_keys=[refused.public_key],
    )
    assert REASON in (space.reports / "gate" / "gate.html").read_text()


def test_it_is_of_one_package(refused) -> None:
    from visionloop.evaluation.evaluate import evaluate
    from visionloop.evaluation.robustness import robustness

    space = refused.workspace
    gate(workspace=space)
    waive(workspace=space, **ASKED)
    refused.ship("steeper")
    evaluate(workspace=space)
    robustness(workspace=space)
    report = gate(workspace=space)
    assert refusing(report) == {"recall of defective"}
    assert [one.status for one in report.waivers] == ["of another package"]
    waive(workspace=space, **ASKED, every_package=True)
    assert gate(workspace=space).verdict == "passed"


@pytest.mark.parametrize("what", ["reason", "check", "expires_at"])
def test_a_forged_one_refuses_the_package(refused, what) -> None:
    """Edited by a few characters after it was signed."""
    gate(workspace=refused.workspace)
    path = waive(workspace=refused.workspace, **ASKED)
    content = read_json(path)
    content["content"][what] = content["content"][what].replace("2", "3").replace("o", "0")
    write_json(path, content)
    report = gate(workspace=refused.workspace)
    assert refusing(report) == {"recall of defective", "waivers"}
    assert any(path.name in reason for reason in report.reasons)


def test_of_a_stranger_and_of_another_shape(refused, tmp_path) -> None:
    gate(workspace=refused.workspace)
    path = waive(workspace=refused.workspace, **ASKED)
    content = read_json(path)["content"]
    private, _ = new_key_pair(tmp_path / "stranger")
    signature = sign_bytes(canonical_json(content), key=private)
    write_json(path, {"content": content, "signature": signature})
    assert "waivers" in refusing(gate(workspace=refused.workspace))
    path.write_text(json.dumps(content))
    assert "waivers" in refusing(gate(workspace=refused.workspace))
    path.write_text("[")
    assert "waivers" in refusing(gate(workspace=refused.workspace))


def test_an_expired_one_does_not_help() -> None:
    now = datetime(2026, 3, 1, tzinfo=timezone.utc)
    check = Check(name="calibration", verdict="refuse", why="too sure")
    waiver = Waiver(
        check="calibration",
        reason=REASON,
        author="Ada",
        package="",
        made_at="2026-01-01T00:00:00+00:00",
        expires_at="2026-03-01T00:00:00+00:00",
    )
    judged, used = apply_waivers([check], {"w.json": waiver}, [], package="a", now=now)
    assert judged == [check] and used[0].status == "expired"
    before = now - timedelta(seconds=1)
    judged, used = apply_waivers([check], {"w.json": waiver}, [], package="a", now=before)
    assert judged[0].verdict == "waived" and used[0].status == "used"


def test_of_one_slice_only() -> None:
    now = datetime(2026, 3, 1, tzinfo=timezone.utc)
    checks = [
        Check(name=f"camera={n}", question="slice", slice=f"camera={n}", verdict="refuse", why="-")
        for n in "ab"
    ]
    ends = "2027-03-01T00:00:00+00:00"
    waiver = Waiver(check="slice", slice="camera=a", reason=REASON, author="Ada", package="",
                    made_at=ends, expires_at=ends)  # fmt: skip
    judged, _ = apply_waivers(checks, {"w.json": waiver}, [], package="a", now=now)
    assert [one.verdict for one in judged] == ["waived", "refuse"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reason": "ok"}, "fewer than 10"),
        ({"author": " "}, "nobody signs"),
        ({"days": 0}, "1 to 365"),
        ({"days": 4000}, "1 to 365"),
        ({"check": "recall of defectiv"}, "no such check"),
        ({"check": "waivers"}, "no such check"),
    ],
)
def test_what_is_no_waiver_is_not_written(refused, changes, said) -> None:
    gate(workspace=refused.workspace)
    with pytest.raises(InputError, match=said):
        waive(workspace=refused.workspace, **(ASKED | changes))
    assert not (refused.workspace.root / "waivers").exists()


def test_the_command(refused, capsys) -> None:
    from visionloop.evaluation.cli import app

    root = str(refused.workspace.root)
    assert run_command(lambda: app(["gate", "-w", root])) == 3
    said = ["--check", "recall of defective", "--reason", REASON, "--author", "Ada"]
    assert run_command(lambda: app(["waive", *said, "--days", "9", "-w", root])) == 0
    assert run_command(lambda: app(["gate", "-w", root])) == 0
    assert "waived" in capsys.readouterr().out
    assert yaml.safe_load(refused.workspace.targets.read_text())["quality"]["per_class"]
