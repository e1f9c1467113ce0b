"""Two packages on the same samples."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from visionloop.core.entities import ClassProbabilities
from visionloop.core.errors import DataError
from visionloop.core.files import read_json
from visionloop.evaluation.compare import compare, pair_answers, read_answers
from visionloop.evaluation.evaluate import evaluate
from visionloop.evaluation.measurements import load_evaluation


@pytest.fixture
def two_folders(measured):
    """Evaluation folders of the good package and of a constant one."""
    good = measured.workspace.root / "good"
    shutil.copytree(measured.workspace.reports / "evaluation", good)
    measured.ship("constant")
    return good, evaluate(workspace=measured.workspace).folder


def test_a_worse_model_is_worse_on_every_slice(measured, two_folders) -> None:
    good, bad = two_folders
    report = compare(workspace=measured.workspace, first=good, second=bad)
    found = report.comparison
    assert found.verdict == "worse" and found.common_samples == 160
    by_name = {row.name: row for row in found.rows}
    assert by_name["cell_type=mono"].verdict == by_name["cell_type=poly"].verdict == "worse"
    assert by_name["cell_type=mono"].high < 0
    assert by_name["all common samples"].second == pytest.approx(0.5)
    assert read_json(report.path) == found.model_dump(mode="json")
    turned = compare(workspace=measured.workspace, first=bad, second=good).comparison
    assert turned.verdict == "better"
    assert turned.rows[0].difference == pytest.approx(-found.rows[0].difference)


def test_the_same_model_shows_no_difference(measured, two_folders) -> None:
    good, _ = two_folders
    found = compare(workspace=measured.workspace, first=good, second=good).comparison
    assert found.verdict == "no clear difference"
    assert all(row.difference in (0, None) for row in found.rows)


def test_command(measured, two_folders) -> None:
    from visionloop.evaluation.cli import app

    root = str(measured.workspace.root)
    result = CliRunner().invoke(app, ["compare", *map(str, two_folders), "-w", root])
    assert result.exit_code == 0
    assert "comparison, second: worse" in result.output


def test_other_order_of_classes_and_fewer_samples(measured) -> None:
    folder = measured.workspace.reports / "evaluation"
    second = read_answers(folder, load_evaluation(folder))
    turned = [ClassProbabilities(one.probabilities[::-1].copy()) for one in second.answers]
    first = type(second)(
        second.samples.iloc[40:],
        second.truths[40:],
        turned[40:],
        second.vision_task,
        second.classes[::-1],
        {},
    )
    one, other = pair_answers(first, second)
    assert len(one.samples) == len(other.samples) == 120
    for a, b in zip(one.answers, other.answers, strict=True):
        np.testing.assert_allclose(a.probabilities, b.probabilities)


def test_what_cannot_be_compared(measured, boards) -> None:
    folder = measured.workspace.reports / "evaluation"
    second = read_answers(folder, load_evaluation(folder))
    evaluate(workspace=boards.workspace)
    with pytest.raises(DataError, match="cannot be compared"):
        compare(
            workspace=measured.workspace,
            first=boards.workspace.reports / "evaluation",
            second=folder,
        )
    stranger = type(second)(
        second.samples.assign(sample_id="0" * 64),
        second.truths,
        second.answers,
        second.vision_task,
        second.classes,
        {},
    )
    with pytest.raises(DataError, match="no sample in common"):
        pair_answers(stranger, second)
    with pytest.raises(DataError, match="no such file"):
        compare(workspace=measured.workspace, first=folder / "nowhere", second=folder)
