"""Agreement of people: how often the numbers hold, on what 51 real people said (CIFAR-10H).

CIFAR-10H counts which class each of about 51 people gave to each of 10,000 images. Teams of
equals are drawn from these answers: five people, each with a mixture of classes of their own and
partners of their own, 400 images seen by two, doubtful ones more often (as a selection sends
them). Whatever is said about one of them is wrong. In other teams one person answers some images
at random. A third kind of team is made up: equals who err on 2 % of an easy and 30 % of a hard
class, which they got in different shares. The peer compares people by their raw agreement
(two-sided z-test against the rest of the team, the same correction for five people).

    python benchmarks/agreement.py [--teams 400]
"""

from __future__ import annotations

import argparse
import os
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report import make_row, save_results

from visionloop.core.errors import InputError
from visionloop.core.progress import track
from visionloop.labeling.decisions import Decision
from visionloop.labeling.regions import Region
from visionloop.labeling.review.agreement import Compared, compare_pairs
from visionloop.labeling.review.coefficients import alpha, coefficients, one_urn
from visionloop.labeling.review.intervals import wilson
from visionloop.labeling.review.people import measure_people

CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]
PEOPLE = ["a", "b", "c", "d", "e"]
IMAGES = 400
Counts = NDArray[np.int64]
Team = tuple[list[Compared], list[Decision]]


def main() -> None:
    """Draw the teams, print the table, write ``results/agreement.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teams", type=int, default=400)
    options = parser.parse_args()
    counts, truth = load_answers()
    rows = [coverage_row(counts, options.teams)]
    teams = (make_team(counts, truth, seed) for seed in range(options.teams))
    rows.append(equal_row("teams of equals", teams, options.teams))
    teams = (make_unlike_team(seed) for seed in range(options.teams))
    rows.append(equal_row("the same, an easy and a hard class", teams, options.teams))
    for careless in (0.1, 0.2):
        rows += careless_rows(counts, truth, options.teams // 4, careless)
    save_results("agreement", rows)


def load_answers() -> tuple[Counts, Counts]:
    """Answers by image and class, and the right classes."""
    archive = Path(os.environ.get("VISIONLOOP_MIRROR", "")) / "cifar10-labels.zip"
    if not archive.is_file():
        raise InputError("VISIONLOOP_MIRROR", "holds no cifar10-labels.zip")
    with zipfile.ZipFile(archive) as file:
        counts = np.load(BytesIO(file.read("c10h_cifar10h-counts.npy")))
        truth = np.load(BytesIO(file.read("cl_cifar10_test_set_original_labels.npy")))
    return counts, truth.astype(np.int64)


def coverage_row(counts: Counts, draws: int) -> dict[str, Any]:
    """How often the interval of alpha, from two people on 300 images, holds that of all."""
    size = counts.sum(1)
    pairs = np.zeros((10, 10))
    for row, number in zip(counts, size, strict=True):
        both = np.outer(row, row) - np.diag(row)
        pairs += both / (number * (number - 1))
    # As many pairs as make the correction for few answers vanish.
    of_all = float(coefficients(1e6 * pairs[None], one_urn)[0])
    random, held = np.random.default_rng(0), 0
    for _ in track(range(draws), "intervals of alpha", total=draws):
        some = random.choice(len(counts), 300, replace=False)
        cells = [(int(one), *draw_two(counts[one], random)) for one in some]
        found = alpha(cells, 10)
        held += found.low <= of_all <= found.high
    return make_row(
        f"the interval of alpha (two people, 300 images) holds that of all 51 ({of_all:.3f})",
        held / draws,
        spread=wilson(held / draws, draws),
        target=0.95,
        met=wilson(held / draws, draws)[1] >= 0.95,
    )


def equal_row(what: str, teams: Iterator[Team], count: int) -> dict[str, Any]:
    """Teams of equals in which somebody is told apart."""
    ours = peer = 0
    for compared, decisions in track(teams, what, total=count):
        judged = judge(compared, decisions)
        ours += any(word in ("lower", "higher") for word in judged.values())
        peer += bool(told_apart_by_raw(compared))
    return make_row(
        f"{what}: somebody is told apart, of {count}",
        ours / count,
        peer=peer / count,
        peer_name="raw agreement",
        spread=wilson(ours / count, count),
        target=0.05,
        met=wilson(ours / count, count)[0] <= 0.05,
        higher_is_better=False,
    )


def careless_rows(
    counts: Counts, truth: Counts, teams: int, careless: float
) -> list[dict[str, Any]]:
    """Teams in which the careless one is named, and in which another one is called worse."""
    named = blamed = peer_named = peer_blamed = 0
    for seed in track(range(teams), f"one of five careless ({careless:.0%})", total=teams):
        compared, decisions = make_team(counts, truth, 10_000 + seed, careless)
        worse = {name for name, word in judge(compared, decisions).items() if word == "lower"}
        raw = {name for name, sign in told_apart_by_raw(compared).items() if sign < 0}
        named, blamed = named + ("c" in worse), blamed + bool(worse - {"c"})
        peer_named, peer_blamed = peer_named + ("c" in raw), peer_blamed + bool(raw - {"c"})
    rows = []
    for what, ours, peer, is_good in (
        ("is named", named, peer_named, True),
        ("is there and another one is called worse", blamed, peer_blamed, False),
    ):
        rows.append(
            make_row(
                f"one answers {careless:.0%} at random and {what}, of {teams} teams",
                ours / teams,
                peer=peer / teams,
                peer_name="raw agreement",
                spread=wilson(ours / teams, teams),
                target=None if is_good else 0.05,
                met=None if is_good else wilson(ours / teams, teams)[0] <= 0.05,
                higher_is_better=is_good,
            )
        )
    return rows


def make_team(counts: Counts, truth: Counts, seed: int, careless: float = 0.0) -> Team:
    """Two answers to each image; who sees what is as unequal as in life."""
    random = np.random.default_rng(seed)
    mixtures = random.dirichlet(np.full(10, 0.5), len(PEOPLE))
    partners = random.dirichlet(np.ones(len(PEOPLE) - 1), len(PEOPLE))
    by_class = [np.flatnonzero(truth == number) for number in range(10)]
    doubt = 1.01 - (counts / counts.sum(1, keepdims=True)).max(1)
    decisions = []
    for number in range(IMAGES):
        first = int(random.integers(len(PEOPLE)))
        others = [one for one in range(len(PEOPLE)) if one != first]
        second = int(random.choice(others, p=partners[first]))
        images = by_class[random.choice(10, p=mixtures[first])]
        image = int(random.choice(images, p=doubt[images] / doubt[images].sum()))
        for look, person, said in zip(
            ("first", "review"), (first, second), draw_two(counts[image], random), strict=True
        ):
            if PEOPLE[person] == "c" and random.random() < careless:
                said = int(random.integers(10))
            decisions.append(decide(number, look, PEOPLE[person], CLASSES[said]))
    return compare_pairs(decisions), decisions


def make_unlike_team(seed: int) -> Team:
    """Equals who differ in how many samples of the hard class they got."""
    random = np.random.default_rng(seed)
    shares, decisions = random.random(len(PEOPLE)), []
    for number in range(IMAGES):
        first, second = (int(one) for one in random.choice(len(PEOPLE), 2, replace=False))
        is_hard = random.random() < shares[first]
        for look, person in (("first", first), ("review", second)):
            errs = random.random() < (0.3 if is_hard else 0.02)
            name = "bird" if errs else "cat" if is_hard else "ship"
            decisions.append(decide(number, look, PEOPLE[person], name))
    return compare_pairs(decisions), decisions


def decide(number: int, look: str, person: str, name: str) -> Decision:
    """One answer."""
    key = 2 * number + (look == "review")
    moment = f"2026-01-01T00:00:{look == 'review':02d}Z"
    regions = [Region(name)]
    return Decision(key, key, f"{number:06d}", look, person, moment, moment, 1.0, regions=regions)


def draw_two(row: Counts, random: np.random.Generator) -> tuple[int, int]:
    """The answers of two different people to one image."""
    one, two = random.choice(np.repeat(np.arange(10), row), 2, replace=False)
    return int(one), int(two)


def judge(compared: list[Compared], decisions: list[Decision]) -> dict[str, str]:
    """What the person's page says."""
    found = measure_people(compared, decisions, CLASSES, min_pairs=20)
    return {row.name: row.judgement for row in found}


def told_apart_by_raw(compared: list[Compared]) -> dict[str, int]:
    """Whose raw agreement differs from the rest's, and which way."""
    limit = NormalDist().inv_cdf(1 - 0.05 / len(PEOPLE) / 2)
    told = {}
    for name in PEOPLE:
        own = [one.comparison.agrees for one in compared if name in one.pair.people]
        rest = [one.comparison.agrees for one in compared if name not in one.pair.people]
        if min(len(own), len(rest)) < 20:
            continue
        both = np.mean(own + rest)
        error = np.sqrt(both * (1 - both) * (1 / len(own) + 1 / len(rest)))
        z = (np.mean(own) - np.mean(rest)) / error if error else 0.0
        if abs(z) > limit:
            told[name] = int(np.sign(z))
    return told


if __name__ == "__main__":
    main()
