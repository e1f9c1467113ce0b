"""What 1,000 boards of DeepPCB cost to annotate, starting from no model.

By hand; the peer's way (boxes above 0.5 shown, every board and box checked); ours. The
simulated annotator's prices and habits are those of ``visionloop.labeling``: it overlooks 3 %
of the objects, three times as many things beside a draft and six times as many at a glance.
Our figures hold glances, verification, corrections, control boards and the second person's
checks. Detectors and what they answer: ``label_cost_models.py`` (trains once, about an hour).

    python benchmarks/label_cost.py [--model-seeds 0 1] [--annotators 5]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from label_cost_models import SEEDS, TRAININGS, load_answers, load_boards
from label_cost_policies import Answers, Course, Settings, by_hand, our_way, peer_way, truth_of
from report import make_row, save_results

from visionloop.core.geometry import match_boxes
from visionloop.labeling.habits import HUMAN
from visionloop.labeling.prices import Prices
from visionloop.labeling.regions import Region

PRICES = Prices()
LAST = 500
"""The boards of the second target: those annotated last."""
WARIER = {"beside_drafts": 6.0, "at_a_glance": 12.0}
"""People who trust drafts twice as much as the policy believes."""

Truths = list[tuple[list[list[Region]], Answers]]
Policy = Callable[[list[list[Region]], Answers, Prices, int], Course]


def main() -> None:
    """Simulate, print the table, write ``results/label_cost.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--annotators", type=int, default=5)
    options = parser.parse_args()
    sets: Truths = []
    for seed in options.model_seeds:
        boards = load_boards(seed)
        sets.append((truth_of(boards), load_answers(seed, boards)))
    people = range(options.annotators)
    hand = [hands(truth, Prices(), person) for truth, _ in sets for person in people]
    ours = run(sets, people, our_way_of())
    peer = run(sets, people, peers)
    rows = cost_rows(hand, ours, peer) + quality_rows(sets, people, hand, ours, peer)
    rows += sensitivity_rows(sets, people)
    save_results(
        "label_cost",
        rows,
        model_seeds=options.model_seeds,
        annotators=options.annotators,
        ways=[dict(course.ways) for course in ours],
        detectors=[quality_of_detectors(*one) for one in sets],
    )


def hands(truth: list[list[Region]], prices: Prices, seed: int) -> Course:
    """By hand, by people with human habits."""
    return by_hand(truth, prices, HUMAN, seed)


def peers(truth: list[list[Region]], answers: Answers, prices: Prices, seed: int) -> Course:
    """The peer's way, by the same people."""
    return peer_way(truth, answers, prices, HUMAN, seed)


def our_way_of(habits: dict[str, float] | None = None, **settings: float) -> Policy:
    """Our way, with other habits or settings."""

    def policy(truth: list[list[Region]], answers: Answers, prices: Prices, seed: int) -> Course:
        mine = replace(HUMAN, **(habits or {}))
        return our_way(truth, answers, prices, mine, seed, Settings(**settings))

    return policy


def run(
    sets: Truths, people: Sequence[int] | range, policy: Policy, prices: Prices = PRICES
) -> list[Course]:
    """A course for every detector seed and annotator seed."""
    return [policy(truth, answers, prices, person) for truth, answers in sets for person in people]


def cost_rows(hand: list[Course], ours: list[Course], peer: list[Course]) -> list[dict[str, Any]]:
    """The targets."""
    rows = []
    for name, since, target in (("all 1,000", 0, 0.45), (f"the last {LAST}", -LAST, 0.30)):
        shares = share(ours, hand, since)
        claim = f"cost of {name} boards as a share of drawing by hand"
        rows.append(_row(claim, shares, target, peer=float(np.mean(share(peer, hand, since)))))
    versus = share(ours, peer, 0)
    rows.append(_row("cost of all 1,000 boards as a share of the peer's", versus, 0.60))
    rows.append(_row("the same, the last 500", share(ours, peer, -LAST), None))
    return rows


def share(ours: list[Course], other: list[Course], since: int) -> list[float]:
    """Seconds of each course as a share of the other's."""
    return [
        float(one.seconds[since:].sum() / two.seconds[since:].sum())
        for one, two in zip(ours, other, strict=True)
    ]


def _row(
    claim: str, values: list[float], target: float | None, *, peer: float | None = None
) -> dict[str, Any]:
    name = "peer's way" if peer is not None else ""
    spread = (min(values), max(values))
    return make_row(
        claim, float(np.mean(values)), peer=peer, peer_name=name, spread=spread, target=target,
        higher_is_better=False,
    )  # fmt: skip


def quality_rows(
    sets: Truths,
    people: range,
    hand: list[Course],
    ours: list[Course],
    peer: list[Course],
) -> list[dict[str, Any]]:
    """Annotations against the truth; ours must be at least as good as those by hand."""
    truths = [truth for truth, _ in sets for _ in people]
    rows = []
    for iou in (0.5, 0.75):
        f1 = {
            name: [
                agreement(one.regions, truth, iou)["f1"]
                for one, truth in zip(courses, truths, strict=True)
            ]
            for name, courses in (("hand", hand), ("ours", ours), ("peer", peer))
        }
        gain = [mine - theirs for mine, theirs in zip(f1["ours"], f1["hand"], strict=True)]
        for name, peer_name in (("hand", "by hand"), ("peer", "peer's way")):
            rows.append(
                make_row(
                    f"F1 of the annotations against the truth at IoU {iou}",
                    float(np.mean(f1["ours"])),
                    peer=float(np.mean(f1[name])),
                    peer_name=peer_name,
                    spread=(min(f1["ours"]), max(f1["ours"])),
                    met=bool(np.mean(gain) >= 0) if name == "hand" else None,
                )
            )
    return rows


def agreement(
    said: Sequence[Sequence[Region]], truth: Sequence[Sequence[Region]], min_iou: float
) -> dict[str, float]:
    """Precision, recall and F1 of boxes with the right class, over all boards."""
    right = given = wanted = 0
    for mine, true in zip(said, truth, strict=True):
        pairs = match_boxes(_boxes(mine), _boxes(true), min_iou=min_iou)
        right += sum(mine[row].class_name == true[column].class_name for row, column, _ in pairs)
        given, wanted = given + len(mine), wanted + len(true)
    return {
        "f1": 2 * right / (given + wanted),
        "precision": right / given,
        "recall": right / wanted,
    }


def _boxes(regions: Sequence[Region]) -> Any:
    return np.array([region.xyxy for region in regions], np.float32).reshape(-1, 4)


def sensitivity_rows(sets: Truths, people: range) -> list[dict[str, Any]]:
    """Each price halved and doubled; people who trust drafts twice as much."""
    rows = []
    for name in (one.name for one in fields(Prices)):
        for factor in (0.5, 2.0):
            prices = Prices().scaled(factor, name)
            hand = [hands(truth, prices, person) for truth, _ in sets for person in people]
            ours, peer = run(sets, people, our_way_of(), prices), run(sets, people, peers, prices)
            claim = f"price of {name} times {factor}: share of drawing by hand, all and last {LAST}"
            rows.append(_row(claim, share(ours, hand, 0), None, peer=np.mean(share(peer, hand, 0))))
            rows.append(_row(f"{claim} (last)", share(ours, hand, -LAST), None))
    return rows


def quality_of_detectors(truth: list[list[Region]], answers: Answers) -> dict[str, float]:
    """Share of the objects found at confidence 0.25 with the right class, by training."""
    from label_cost_policies import _regions

    found = {}
    for count in TRAININGS:
        images = sorted(answers[count])
        said = [_regions(answers[count][image], np.full(6, 0.25)) for image in images]
        for iou in (0.5, 0.8):
            parts = agreement(said, [truth[image] for image in images], iou)
            found.update({f"{count}: {name} at IoU {iou}": value for name, value in parts.items()})
    return found


if __name__ == "__main__":
    main()
