"""What 1,000 boards of DeepPCB cost to annotate, starting from no model.

By hand; the peer's way (boxes above 0.5 shown, every board and box checked); ours. The
simulated annotator's prices and habits are those of ``visionloop.labeling``: it overlooks 3 %
of the objects, three times as many things beside a draft and six times as many at a glance; of
what one person overlooked, the next one overlooks 3 in 10 and more. Our figures hold every look
of every person, corrections, control boards and the sample that a second person checks. Ours
looks as often as it takes to leave no more mistakes than drawing by hand does.

Two simplifications: detectors learn from the truth, not from what a simulated annotator said
(they are trained once for all annotators), and training time costs nobody anything. Detectors and
what they answer: ``label_cost_models.py`` (trains once, about an hour). Ours was tuned on detector
seed 1 alone.

    python benchmarks/label_cost.py [--model-seeds 0 1] [--annotators 5] [--sensitive 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
from label_cost_models import IMAGES, SEEDS, TRAININGS, load_answers, load_boards
from label_cost_policies import (
    Answers,
    Course,
    Settings,
    by_hand,
    our_way,
    peer_way,
    regions_above,
    truth_of,
)
from label_cost_template import draft_by_template
from report import make_row, save_results

from visionloop.core.geometry import match_boxes
from visionloop.core.progress import track
from visionloop.labeling.habits import HUMAN
from visionloop.labeling.prices import Prices
from visionloop.labeling.regions import Region

PRICES = Prices()
LAST = 500
"""The boards of the second target: those annotated last."""
OTHERS = {
    "people trust drafts twice as much as the policy believes": {
        "beside_drafts": 6.0,
        "at_a_glance": 12.0,
    },
    "what one overlooks, the next one overlooks 6 times in 10": {"alike": 0.6},
}

Truths = list[tuple[list[list[Region]], Answers]]
Policy = Callable[[list[list[Region]], Answers, Prices, int], Course]


def main() -> None:
    """Simulate, print the table, write ``results/label_cost.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model-seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--annotators", type=int, default=5)
    parser.add_argument("--sensitive", type=int, default=2, help="annotators for other prices")
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
    if options.sensitive:
        rows += sensitivity_rows(sets, people[: options.sensitive])
    rows += template_rows(options.model_seeds[0], people[:1])
    save_results(
        "label_cost",
        rows,
        model_seeds=options.model_seeds,
        annotators=options.annotators,
        seconds_an_image_by_hand=float(np.mean([course.seconds.mean() for course in hand])),
        ways=[dict(course.ways) for course in ours],
        detectors=[quality_of_detectors(*one) for one in sets],
    )


def hands(truth: list[list[Region]], prices: Prices, seed: int) -> Course:
    """By hand, by people with human habits."""
    return by_hand(truth, prices, HUMAN, seed)


def peers(truth: list[list[Region]], answers: Answers, prices: Prices, seed: int) -> Course:
    """The peer's way, by the same people."""
    return peer_way(truth, answers, prices, HUMAN, seed)


def our_way_of(habits: dict[str, float] | None = None, **settings: Any) -> Policy:
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
    for name, last, target in ((f"all {IMAGES:,}", None, 0.45), (f"the last {LAST}", LAST, 0.30)):
        beside = float(np.mean(share(peer, hand, last)))
        claim = f"cost of {name} boards as a share of drawing them by hand"
        rows.append(_row(claim, share(ours, hand, last), target, peer=beside))
    rows.append(_row("cost of all boards as a share of the peer's", share(ours, peer), 0.60))
    rows.append(_row(f"the same of the last {LAST}", share(ours, peer, LAST), None))
    return rows


def share(ours: list[Course], other: list[Course], last: int | None = None) -> list[float]:
    """Seconds of each course, or of its last boards, as a share of the other's."""
    since = -last if last else 0
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
    """Each price halved and doubled, and people unlike those that the policy believes in."""
    rows = []
    cases = [(one.name, factor) for one in fields(Prices) for factor in (0.5, 2.0)]
    for name, factor in track(cases, "prices"):
        prices = PRICES.scaled(factor, name)
        hand = [hands(truth, prices, person) for truth, _ in sets for person in people]
        ours, peer = (run(sets, people, one, prices) for one in (our_way_of(), peers))
        claim = f"{name} {factor} times as dear: cost as a share of drawing by hand"
        beside = float(np.mean(share(peer, hand)))
        rows.append(_row(f"{claim}, all", share(ours, hand), None, peer=beside))
        rows.append(_row(f"{claim}, last {LAST}", share(ours, hand, LAST), None))
    hand = [hands(truth, PRICES, person) for truth, _ in sets for person in people]
    truths = [truth for truth, _ in sets for _ in people]
    for claim, habits in OTHERS.items():
        ours = run(sets, people, our_way_of(habits))
        rows.append(_row(f"{claim}: cost, all", share(ours, hand), None))
        f1 = [
            agreement(one.regions, truth, 0.5)["f1"]
            for one, truth in zip(ours, truths, strict=True)
        ]
        rows.append(make_row(f"{claim}: F1", float(np.mean(f1)), spread=(min(f1), max(f1))))
    return rows


def template_rows(model_seed: int, people: range) -> list[dict[str, Any]]:
    """Drafts by template difference, each box looked at: no model, another premise."""
    boards = load_boards(model_seed)
    truth = truth_of(boards)
    drawn = min(TRAININGS)
    drafts: Answers = dict.fromkeys(TRAININGS, draft_by_template(boards, drawn))
    hand = [hands(truth, PRICES, person) for person in people]
    ours = [peers(truth, drafts, PRICES, person) for person in people]
    claim = "apart: templates at hand, drafts by difference, cost of all as a share of by hand"
    return [_row(claim, share(ours, hand), None)]


def quality_of_detectors(truth: list[list[Region]], answers: Answers) -> dict[str, float]:
    """Share of the objects found at confidence 0.25 with the right class, by training."""
    found = {}
    for count in TRAININGS:
        images = sorted(answers[count])
        said = [regions_above(answers[count][image], np.full(6, 0.25)) for image in images]
        for iou in (0.5, 0.8):
            parts = agreement(said, [truth[image] for image in images], iou)
            found.update({f"{count}: {name} at IoU {iou}": value for name, value in parts.items()})
    return found


if __name__ == "__main__":
    main()
