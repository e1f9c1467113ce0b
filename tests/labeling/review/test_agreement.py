"""The arithmetic of agreement, against formulas written down another way."""

from __future__ import annotations

import itertools
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.agreement import compare_pairs, measure, weak_classes
from visionloop.labeling.review.coefficients import (
    alpha,
    coefficients,
    kappa,
    one_against_rest,
    one_urn,
    own_habits,
)
from visionloop.labeling.review.intervals import mean, share, wilson
from visionloop.labeling.review.pairs import find_pairs

CLASSES = ["x", "y", "z"]
answers = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=4, max_size=40)


def alpha_by_definition(units: list[list[int]]) -> float:
    """Krippendorff (2011), nominal: from pairs inside units and pairs of all values."""
    units = [unit for unit in units if len(unit) > 1]
    values = list(itertools.chain(*units))
    seen = sum(
        sum(a != b for a, b in itertools.permutations(unit, 2)) / (len(unit) - 1) for unit in units
    )
    count = Counter(values)
    by_chance = sum(a * b for a, b in itertools.permutations(count.values(), 2))
    return 1 - (len(values) - 1) * seen / by_chance


def decide(number, sample, look, person, *regions, skipped=False) -> Decision:
    moment = f"2026-01-01T00:{number // 60 % 60:02d}:{number % 60:02d}Z"
    return Decision(
        number, number, sample, look, person, moment, moment, 1.0,
        regions=list(regions), is_skipped=skipped,
    )  # fmt: skip


def pair(sample, first, second, people=("a", "b")) -> list[Decision]:
    number = 2 * int(sample)
    return [
        decide(number, sample, "first", people[0], *first),
        decide(number + 1, sample, "review", people[1], *second),
    ]


@given(answers)
@settings(deadline=None, max_examples=25)
def test_coefficients_follow_their_definitions(rows) -> None:
    cells = [(number, one, two) for number, (one, two) in enumerate(rows)]
    table = np.zeros((1, 3, 3))
    for one, two in rows:
        table[0, one, two] += 1
    if len({*itertools.chain(*rows)}) < 2:
        assert kappa(cells, 3).value is alpha(cells, 3).value is None
        return
    wanted = alpha_by_definition([list(row) for row in rows])
    assert alpha(cells, 3).value == pytest.approx(wanted, abs=1e-9)
    assert coefficients(table, one_urn)[0] == pytest.approx(wanted, abs=1e-9)
    count, first, second = len(rows), Counter(a for a, _ in rows), Counter(b for _, b in rows)
    chance = sum(first[name] * second[name] for name in range(3)) / count**2
    if chance < 1:
        seen = sum(a == b for a, b in rows) / count
        wanted = (seen - chance) / (1 - chance)
        assert kappa(cells, 3).value == pytest.approx(wanted, abs=1e-9)
        assert coefficients(table, own_habits)[0] == pytest.approx(wanted, abs=1e-9)


def test_a_known_example_of_cohens_kappa() -> None:
    """50 grant proposals: both yes 20, both no 15, only one of them yes 5 and 10."""
    rows = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    found = kappa([(number, *row) for number, row in enumerate(rows)], 2)
    assert found.value == pytest.approx(0.4)
    # The textbook's large-sample interval: standard error .127.
    assert (found.low, found.high) == pytest.approx((0.4 - 0.25, 0.4 + 0.25), abs=0.05)


def test_a_known_interval_of_wilson() -> None:
    """Newcombe (1998), table I: 15 of 148, and 0 of 20."""
    assert wilson(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_an_interval_holds_as_often_as_it_says_also_where_samples_hold_many_boxes() -> None:
    """Samples differ in how hard they are, so their boxes are not independent."""
    random = np.random.default_rng(0)
    held = wrong = 0
    for _ in range(400):
        hard = random.beta(1.6, 0.4, 60)  # mean .8
        total = random.integers(1, 9, 60)
        agreed = random.binomial(total, hard)
        found = share(agreed, total)
        held += found.low <= 0.8 <= found.high
        low, high = wilson(found.value, found.total)
        wrong += low <= 0.8 <= high
    assert 0.92 <= held / 400 <= 0.98
    assert wrong / 400 < 0.85  # as if the boxes were independent


def test_perfect_agreement_of_few_is_not_certain() -> None:
    assert share([1, 1, 1], [1, 1, 1]).low == pytest.approx(wilson(1.0, 3)[0])
    few = kappa([(0, 0, 0), (1, 1, 1), (2, 0, 0), (3, 1, 1)], 2)
    assert few.value == 1
    assert few.low < 0.2


def test_mean_of_overlaps() -> None:
    found = mean([[0.5, 0.7], [0.9], [0.6]])
    assert found.value == pytest.approx(0.675)
    assert 0.5 <= found.low < found.value < found.high <= 0.9


def test_f1_overlap_and_classes_of_boxes() -> None:
    a, b, c = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0), (20.0, 0.0, 30.0, 10.0)
    shifted = (2.0, 0.0, 12.0, 10.0)  # IoU 80 / 120
    rows = [
        *pair("1", [Region("x", a), Region("y", b)], [Region("x", shifted), Region("z", b)]),
        *pair("2", [Region("x", c)], []),
        *pair("3", [], []),
        *pair("4", [Region("y", a)], [Region("y", a)]),
    ]
    found = measure(compare_pairs(rows), CLASSES)
    assert (found.images.agreed, found.images.total) == (2, 4)
    assert (found.statements.agreed, found.statements.total) == (4, 7)  # F1 = 2·2 / (4 + 3)
    assert found.iou.value == pytest.approx((80 / 120 + 1) / 2)
    assert found.kappa.total == 3  # objects that both saw: classes x x, y z, y y
    assert found.kappa.value == pytest.approx((2 / 3 - 1 / 3) / (1 - 1 / 3))
    assert {row.name: (row.statements.agreed, row.statements.total) for row in found.classes} == {
        "x": (2, 3), "y": (2, 3), "z": (0, 1)
    }  # fmt: skip


def test_only_answers_of_two_people_are_pairs_and_the_last_of_each_counts() -> None:
    x, y = Region("x"), Region("y")
    rows = [
        decide(1, "1", "first", "a", x), decide(2, "1", "review", "a", x),
        decide(3, "2", "first", "a", x), decide(4, "2", "review", "b", skipped=True),
        decide(5, "3", "first", "a", x), decide(6, "3", "second", "b", y),
        decide(7, "4", "first", "a", y), decide(9, "4", "first", "a", x),
        decide(8, "4", "review", "b", x), decide(10, "4", "review", "a", y),
    ]  # fmt: skip
    (only,) = find_pairs(rows)
    assert (only.sample_id, only.first.annotation, only.second.annotation) == ("4", 9, 8)


def test_weak_classes_need_enough_samples() -> None:
    rows = []
    for number in range(30):
        name = "x" if number < 20 else "y"
        other = "z" if number % 2 else name
        rows += pair(str(number + 1), [Region(name)], [Region(other)])
    compared = compare_pairs(rows)
    weak = weak_classes(compared, below=0.8, min_samples=12)
    assert set(weak) == {"x", "z"}
    assert weak["x"] == pytest.approx(20 / 30)  # 10 pairs alike are 20 of 30 statements


@pytest.fixture(scope="module")
def fifty_people(request) -> np.ndarray:
    """CIFAR-10H: how many of about 51 people gave each class to each of 10,000 images."""
    import os

    archive = Path(os.environ.get("VISIONLOOP_MIRROR", "nowhere")) / "cifar10-labels.zip"
    if not archive.is_file():
        pytest.skip("VISIONLOOP_MIRROR has no cifar10-labels.zip")
    with zipfile.ZipFile(archive) as file:
        return np.load(BytesIO(file.read("c10h_cifar10h-counts.npy")))


def draw_pairs(counts, random) -> list[tuple[int, int, int]]:
    """Two different people's answers to each image."""
    cells = []
    for number, row in enumerate(counts):
        answers_ = np.repeat(np.arange(10), row)
        one, two = random.choice(answers_, 2, replace=False)
        cells.append((number, int(one), int(two)))
    return cells


def test_alpha_of_real_people_by_the_closed_formula(fifty_people) -> None:
    import krippendorff

    counts = fifty_people.astype(float)
    size = counts.sum(1)
    seen = ((size**2 - (counts**2).sum(1)) / (size - 1)).sum() / size.sum()
    said = counts.sum(0)
    by_chance = 1 - (said * (said - 1)).sum() / (size.sum() * (size.sum() - 1))
    closed = 1 - seen / by_chance
    library = krippendorff.alpha(value_counts=fifty_people, level_of_measurement="nominal")
    assert library == pytest.approx(closed, abs=1e-9)
    assert 0.89 < closed < 0.93


def test_two_of_fifty_real_people_an_image_estimate_the_alpha_of_all(fifty_people) -> None:
    """A second opinion on some images tells, inside its interval, what fifty on all would."""
    counts = fifty_people[:3000]
    truth = alpha_by_definition([list(np.repeat(np.arange(10), row)) for row in counts[:300]])
    size = counts.sum(1)
    all_pairs = (counts * (counts - 1)).sum() / (size * (size - 1)).sum()
    random, held, inside = np.random.default_rng(0), 0, 0
    for _ in range(20):
        cells = draw_pairs(counts[:300], random)
        found = alpha(cells, 10)
        held += found.low <= truth <= found.high
        table = one_against_rest(cells, 3)
        assert kappa(table, 2).value < found.value + 0.1  # cats are no easier than the rest
        same = share([one == two for _, one, two in draw_pairs(counts, random)], np.ones(3000))
        inside += same.low <= all_pairs <= same.high
    assert held >= 17
    assert inside >= 17
