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
    assert page.count("data:image/png;base64,") == 5
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
