"""The model card."""

from __future__ import annotations

import re
import shutil

import pytest

from visionloop.core.errors import DataError
from visionloop.evaluation.card import card
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.gate import gate


def test_everything_known_is_on_one_page(measured) -> None:
    gate(workspace=measured.workspace)
    page = card(workspace=measured.workspace).page.read_text()
    assert page.count("data:image/png;base64,") == 6
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is loaded from elsewhere"
    for text in (
        "passed",
        "cell_type=poly: not trained for",
        "hurts most",
        measured.fingerprint,
        "Apache-2.0",
        "mean brightness",
        "rPC",
        "dvc repro promote",
        "prefers-color-scheme: dark",
    ):
        assert text in page, text


def test_devices_alarms_and_waivers_are_on_it(measured) -> None:
    from visionloop.evaluation.false_alarms import alarms
    from visionloop.evaluation.latency import latency
    from visionloop.evaluation.waivers import waive

    space = measured.workspace
    limits = {"plant-box": {"per_frame_ms": 500.0}}

    def change(targets) -> None:
        targets["latency"]["devices"] = limits
        targets["quality"]["per_class"] = {"defective": 1.0}

    measured.edit("targets.yaml", change)
    rule = {"name": "defect", "kind": "class_confidence", "class_name": "defective"}

    def add_rule(params) -> None:
        params["serving"] = {"edge": {"rules": [rule]}}
        params["evaluation"]["alarms"] = {"day_frames_per_second": 1 / 3600}

    measured.edit("params.yaml", add_rule)
    latency(workspace=space, device="plant-box", images=20)
    alarms(workspace=space)
    gate(workspace=space)
    reason = "the line is watched by a person until May"
    waive(workspace=space, check="recall of defective", reason=reason, author="Ada", days=20)
    assert gate(workspace=space).verdict == "passed"
    page = card(workspace=space).page.read_text()
    for text in ("plant-box", "made day", reason, "waived", "Ada"):
        assert text in page, text


def test_what_is_missing_is_named(measured) -> None:
    shutil.rmtree(measured.workspace.reports / "robustness")
    shutil.rmtree(measured.workspace.reports / "export")
    page = card(workspace=measured.workspace).page.read_text()
    assert "the worst case was not measured" in page
    assert "the gate has not judged this package" in page
    assert "Parity was not measured" in page


def test_reports_of_another_package_are_not_shown(measured) -> None:
    gate(workspace=measured.workspace)
    measured.ship("steeper")
    with pytest.raises(DataError, match="is of package"):
        card(workspace=measured.workspace)
    evaluate(workspace=measured.workspace)
    page = card(workspace=measured.workspace).page.read_text()
    assert "not judged" in page and "the worst case was not measured" in page


def test_names_cannot_become_markup(measured) -> None:
    measured.edit("params.yaml", lambda p: p["project"].update(recipe="<script>alert(1)</script>"))
    page = card(workspace=measured.workspace).page.read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page
