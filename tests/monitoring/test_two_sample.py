"""The tests of drift keep their false-alarm rate and see shifts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from visionloop.monitoring.mmd import permuted_selections, rff_mmd
from visionloop.monitoring.novelty import measure_novelty
from visionloop.monitoring.two_sample import compare_class_mix, compare_column, holm

FAMILIES = {
    "normal": lambda rng, n: rng.normal(size=(n, 20)),
    "heavy tails": lambda rng, n: rng.standard_t(2, size=(n, 20)),
    "unit length": lambda rng, n: _unit(rng.normal(size=(n, 20))),
    "few values": lambda rng, n: rng.integers(0, 2, (n, 20)).astype(float),
    "more columns than rows": lambda rng, n: rng.normal(size=(n, 200)),
}


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_mmd_keeps_its_false_alarm_rate(family: str) -> None:
    """At alpha .05, 300 null draws: the rate lies within three standard errors."""
    alarms = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        rows = FAMILIES[family](rng, 80)
        result = rff_mmd(rows[:40], rows[40:], rng=rng, permutations=199, features=64)
        alarms += result.p_value <= 0.05
    assert 0.012 <= alarms / 300 <= 0.088


def test_mmd_p_values_are_uniform() -> None:
    """Unequal windows, too."""
    p_values = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        rows = rng.normal(size=(90, 10))
        p_values.append(
            rff_mmd(rows[:25], rows[25:], rng=rng, permutations=199, features=64).p_value
        )
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_mmd_sees_a_shift_and_a_mixture() -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        first = rng.normal(size=(150, 64))
        moved = rng.normal(size=(150, 64)) + 0.3
        mixed = rng.normal(size=(150, 64))
        mixed[:45] += 2
        assert rff_mmd(first, moved, rng=rng, permutations=499).p_value <= 0.01
        assert rff_mmd(first, mixed, rng=rng, permutations=499).p_value <= 0.01


def test_mmd_sees_a_change_of_spread_that_leaves_the_mean() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(200, 8)), 2 * rng.normal(size=(200, 8))
    assert rff_mmd(first, second, rng=rng, permutations=499).p_value <= 0.01


def test_mmd_is_repeatable_and_does_not_depend_on_scale() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(40, 5)), rng.normal(size=(50, 5))
    scale = np.array([1, 10, 1e-3, 1e4, 1])
    results = [
        rff_mmd(first * factor, second * factor, rng=np.random.default_rng(7), permutations=199)
        for factor in (np.ones(5), np.ones(5), scale)
    ]
    assert results[0].statistic == results[1].statistic
    assert results[0].p_value == results[1].p_value
    assert results[2].p_value == pytest.approx(results[0].p_value, abs=0.03)


def test_mmd_of_constant_rows_finds_nothing() -> None:
    rows = np.full((40, 6), 3.3)
    assert rff_mmd(rows, rows, rng=np.random.default_rng(0), permutations=199).p_value == 1.0


def test_mmd_refuses_what_cannot_be_compared() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="empty"):
        rff_mmd(np.zeros((0, 3)), np.zeros((4, 3)), rng=rng)
    with pytest.raises(ValueError, match="columns"):
        rff_mmd(np.zeros((4, 2)), np.zeros((4, 3)), rng=rng)


def test_permuted_selections_select_as_many_as_asked_in_blocks(monkeypatch) -> None:
    monkeypatch.setattr("visionloop.monitoring.mmd.CHUNK_CELLS", 70)
    blocks = list(permuted_selections(10, 3, 17, np.random.default_rng(0)))
    assert [len(block) for block in blocks] == [7, 7, 3]
    assert (np.concatenate(blocks).sum(axis=1) == 3).all()


def test_column_test_is_scipys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=60), rng.normal(0.4, 1, 50)
    result = compare_column("luminance", np.append(first, np.nan), second)
    assert result.p_value == pytest.approx(stats.ks_2samp(first, second).pvalue)
    assert result.reference == pytest.approx(np.median(first))


@pytest.mark.parametrize("count", [0, 3])
def test_column_with_too_few_values_is_not_tested(count: int) -> None:
    result = compare_column("noise", np.zeros(count), np.ones(50))
    assert result.p_value is None
    assert "insufficient data" in result.note


def test_constant_column_is_not_tested() -> None:
    result = compare_column("blur", np.full(50, 2.0), np.full(50, 2.0))
    assert result.p_value is None
    assert "constant" in result.note


def test_class_mix_agrees_with_the_exact_distribution() -> None:
    """With one class a frame the permutation p-value is that of the contingency table."""
    first = np.eye(3, dtype=int)[np.repeat([0, 1, 2], [40, 30, 10])]
    second = np.eye(3, dtype=int)[np.repeat([0, 1, 2], [30, 32, 18])]
    result = compare_class_mix(first, second, rng=np.random.default_rng(0), permutations=9999)
    expected = stats.chi2_contingency([first.sum(axis=0), second.sum(axis=0)])
    assert result.statistic == pytest.approx(expected.statistic)
    assert result.p_value == pytest.approx(expected.pvalue, abs=0.02)


def test_class_mix_takes_the_boxes_of_a_frame_together() -> None:
    """Half of the frames hold ten boxes of one class each: chi-square over boxes would alarm."""
    alarms = naive = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        counts = np.zeros((60, 2), int)
        counts[np.arange(60), rng.integers(0, 2, 60)] = 10
        result = compare_class_mix(counts[:30], counts[30:], rng=rng, permutations=199)
        alarms += result.p_value is not None and result.p_value <= 0.05
        naive += stats.chi2_contingency([counts[:30].sum(0), counts[30:].sum(0)]).pvalue <= 0.05
    assert alarms <= 12
    assert naive > 40


def test_class_mix_without_classes_says_so() -> None:
    rng = np.random.default_rng(0)
    none = compare_class_mix(np.zeros((40, 2), int), np.zeros((40, 2), int), rng=rng)
    one = compare_class_mix(np.ones((40, 1), int), np.ones((40, 1), int), rng=rng)
    assert none.p_value is None
    assert "nothing" in none.note
    assert one.p_value is None
    assert "one class" in one.note


def test_holm_is_the_textbook_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_novelty_parts_what_the_reference_did_not_show() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(3, 1, (80, 16))
    known, new = rng.normal(3, 1, (40, 16)), rng.normal(3, 1, (40, 16)) * np.tile([1, -1], 8)
    found = measure_novelty(reference, np.concatenate([known, new]))
    assert found.reference.shape == (80,)
    assert found.ranks()[40:].min() == 1.0
    assert 0.3 < found.ranks()[:40].mean() < 0.7
    assert 0.45 <= found.share_beyond() <= 0.65


def test_novelty_leaves_the_frame_itself_out() -> None:
    """Every reference frame twice: the nearest neighbour has distance 0, the next has not."""
    rows = np.repeat(np.eye(4), 2, axis=0)
    found = measure_novelty(rows, rows, neighbours=1)
    assert found.reference == pytest.approx(np.zeros(8), abs=1e-3)
    alone = measure_novelty(np.eye(4), np.eye(4), neighbours=1)
    assert alone.reference == pytest.approx(np.full(4, np.sqrt(2)))
    assert alone.current == pytest.approx(np.zeros(4), abs=1e-3)
