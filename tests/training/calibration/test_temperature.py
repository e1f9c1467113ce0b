"""Temperature scaling finds the temperature that made the probabilities wrong."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionloop.training.calibration.network import CalibratedNetwork
from visionloop.training.calibration.temperature import (
    apply_temperature,
    calibration_error,
    fit_temperature,
)


def drawn(temperature: float, classes: int = 3, count: int = 6000):
    """Probabilities that are overconfident (below 1) or timid (above 1), and the truth."""
    rng = np.random.default_rng(5)
    honest = rng.dirichlet(np.full(classes, 0.7), count)
    truth = (honest.cumsum(axis=1) < rng.random((count, 1))).sum(axis=1).clip(0, classes - 1)
    return apply_temperature(honest, temperature), truth


@pytest.mark.parametrize("wrong", [0.4, 0.7, 1.8])
def test_the_inverse_of_what_spoiled_them_is_found(wrong) -> None:
    probabilities, truth = drawn(wrong)
    fit = fit_temperature(probabilities, truth, min_samples=30)
    assert fit.temperature == pytest.approx(1 / wrong, rel=0.08)
    assert fit.loss_after < fit.loss_before
    assert fit.error_after < 0.02 < fit.error_before


def test_honest_probabilities_are_left_nearly_alone() -> None:
    fit = fit_temperature(*drawn(1.0), min_samples=30)
    assert fit.temperature == pytest.approx(1.0, abs=0.05)


def test_too_few_or_faultless_samples_fit_nothing() -> None:
    probabilities, truth = drawn(0.5, count=20)
    assert "fewer than 30" in fit_temperature(probabilities, truth, min_samples=30).why_not
    sure = np.eye(2)[[0, 1] * 20] * 0.8 + 0.1
    fit = fit_temperature(sure, np.array([0, 1] * 20), min_samples=30)
    assert fit.temperature == 1
    assert "are right" in fit.why_not


@given(st.floats(0.1, 10), st.integers(2, 6))
def test_no_order_changes(temperature, classes) -> None:
    rows = np.random.default_rng(classes).dirichlet(np.ones(classes), 20)
    scaled = apply_temperature(rows, temperature)
    assert scaled.sum(axis=1) == pytest.approx(1)
    assert (scaled.argmax(axis=1) == rows.argmax(axis=1)).all()


def test_the_error_is_the_gap_between_confidence_and_truth() -> None:
    rows = np.tile([0.9, 0.1], (10, 1))
    assert calibration_error(rows, np.array([0] * 6 + [1] * 4)) == pytest.approx(0.3)


class _Says(torch.nn.Module):
    """Answers with what it was given."""

    def forward(self, answer: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return answer, answer


@pytest.mark.parametrize("kind", ["probabilities", "attributes", "yolo", "detr"])
def test_the_graph_does_the_same_as_the_formula(kind) -> None:
    rng = np.random.default_rng(1)
    rows = rng.dirichlet(np.ones(3), 4).astype(np.float32)
    boxes = rng.random((4, 4)).astype(np.float32) * 90
    answer = {
        "probabilities": rows,
        "attributes": rows,
        "yolo": np.concatenate([boxes, rows], axis=1).T[None],
        "detr": np.concatenate([boxes, rows], axis=1)[None],
    }[kind]
    network = CalibratedNetwork(_Says(), kind=kind, temperature=2.5)
    found, other = network(torch.from_numpy(answer.copy()))
    assert (other.numpy() == answer).all()
    if kind == "probabilities":
        assert found.numpy() == pytest.approx(apply_temperature(rows, 2.5), abs=1e-6)
        return
    pairs = np.stack([1 - rows.ravel(), rows.ravel()], axis=1)
    expected = apply_temperature(pairs, 2.5)[:, 1].reshape(rows.shape)
    if kind == "yolo":
        found = found[0].T
    elif kind == "detr":
        found = found[0]
    if kind != "attributes":
        assert (found[:, :4].numpy() == boxes).all()
        found = found[:, 4:]
    assert found.numpy() == pytest.approx(expected, abs=1e-6)
