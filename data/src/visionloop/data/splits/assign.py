"""Which group goes to train, val or test.

Three rules, in this order. What the data set reserves is test, and whatever else is in a group
with it is *excluded*. What an earlier round decided stays, unless that would tear a group apart.
New groups are shared out: by a hash of the group (``presence``: no memory needed, and samples
that come later change nothing even if the record is lost), or so that every side gets its share
of every class (``shares``: iterative stratification of Sechidis et al., "On the stratification of
multi-label data", 2011, over groups, rarest class first, counting what earlier rounds placed).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from visionloop.data.splits.params import SplitParams
from visionloop.data.synthesis.mark import is_synthetic

if TYPE_CHECKING:
    import pandas

__all__ = ["assign_splits"]

NO_CLASS = ""
Members = dict[str, list[str]]
"""Group to its sample ids."""
Strata = Mapping[str, str | Sequence[str]]
"""Sample id to a class, or to all its classes."""


@dataclass
class _Round:
    """One sharing out: what is known before, and the sides found so far."""

    params: SplitParams
    seed: int
    earlier: Mapping[str, str]
    classes: dict[str, tuple[str, ...]]
    test_fraction: float
    side: dict[str, str] = field(default_factory=dict)


def assign_splits(
    samples: pandas.DataFrame,
    groups: list[str],
    params: SplitParams,
    *,
    seed: int,
    earlier: dict[str, str],
    strata: Strata,
) -> list[str]:
    """The split of every sample: train, val, test or excluded.

    Parameters
    ----------
    samples : DataFrame
    groups : list of str
        Group of each sample.
    params : SplitParams
    seed : int
    earlier : dict of sample id to split
        Of an earlier round; kept unless a group would cross.
    strata : mapping of sample id to class or classes
        Where they are known: chance alone must not leave train or val without a class.
    """
    ids = list(samples["sample_id"])
    official = list(samples.get("official_split", [None] * len(ids)))
    made = {one for one, synthetic in zip(ids, is_synthetic(samples), strict=True) if synthetic}
    reserved = {one for one, value in zip(ids, official, strict=True) if value == "test"} - made
    is_test = [one in reserved or (earlier.get(one) == "test" and one not in made) for one in ids]
    tested = {group for group, test in zip(groups, is_test, strict=True) if test}
    members: Members = {}
    for one, group in zip(ids, groups, strict=True):
        if group not in tested:
            members.setdefault(group, []).append(one)
    now = _Round(params, seed, earlier, _as_tuples(strata), _test_fraction(params, reserved))
    _keep_earlier(now, members)
    for_train = {group for group, inside in members.items() if made & set(inside)}
    now.side |= dict.fromkeys(for_train, "train")
    if params.stratify == "shares":
        _fill_shares(now, members, ids)
    else:
        _draw_sides(now, members)
    _fill_empty_sides(now, members)
    now.side |= dict.fromkeys(for_train, "train")  # never measured on, and neither are its sources
    held = {group for one, group in zip(ids, groups, strict=True) if one in reserved}
    return [
        "excluded"
        if one in made and group in tested
        else _split_of(one, group, test, tested, held, now)
        for one, group, test in zip(ids, groups, is_test, strict=True)
    ]


def _split_of(
    one: str, group: str, is_test: bool, tested: set[str], held: set[str], now: _Round
) -> str:
    if is_test:
        return "test"
    if group not in tested:
        return now.side[group]
    # A test set that we drew ourselves may grow; one that the data set reserves may not.
    grows = group not in held and one not in now.earlier and now.test_fraction > 0
    return "test" if grows else "excluded"


def _test_fraction(params: SplitParams, reserved: set[str]) -> float:
    return 0.0 if reserved else params.test_fraction


def _as_tuples(strata: Strata) -> dict[str, tuple[str, ...]]:
    return {
        one: (value,) if isinstance(value, str) else tuple(value) for one, value in strata.items()
    }


def _keep_earlier(now: _Round, members: Members) -> None:
    """A group keeps its side of an earlier round: that of most of its samples."""
    for group, inside in members.items():
        votes = Counter(
            now.earlier[one] for one in inside if now.earlier.get(one) in ("train", "val")
        )
        if votes:
            now.side[group] = max(("train", "val"), key=lambda name: (votes[name], name == "train"))


def _draw_sides(now: _Round, members: Members) -> None:
    for group in members:
        if group in now.side:
            continue
        if _draw(now.seed, f"test:{group}") < now.test_fraction:
            now.side[group] = "test"
        else:
            is_val = _draw(now.seed, group) < now.params.val_fraction
            now.side[group] = "val" if is_val else "train"


def _fill_empty_sides(now: _Round, members: Members) -> None:
    """A class that chance left out of train or val gives that side its next group."""
    for _, found in sorted(_groups_by_class(now, members).items()):
        found = [group for group in found if now.side[group] != "test"]
        sides = {now.side[group] for group in found}
        movable = [group for group in found if not now.earlier.keys() & set(members[group])]
        if len(found) < 2 or len(sides) == 2 or not movable:
            continue
        missing = "val" if sides == {"train"} else "train"
        pick = min if missing == "val" else max
        now.side[pick(movable, key=lambda group: _draw(now.seed, group))] = missing


def _groups_by_class(now: _Round, members: Members) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for group, inside in members.items():
        present = {name for one in inside for name in now.classes.get(one, ())}
        for name in sorted(present):
            found.setdefault(name, []).append(group)
    return found


def _fill_shares(now: _Round, members: Members, ids: list[str]) -> None:
    """Share out new groups so that every side comes nearest to its share of every class."""
    shares = _shares(now)
    counts = {group: _count_classes(now, inside) for group, inside in members.items()}
    total: Counter[str] = Counter()
    for one_count in counts.values():
        total.update(one_count)
    placed = {name: Counter[str]() for name in shares}
    for group, name in now.side.items():
        placed[name].update(counts[group])
    for one in ids:  # test of earlier rounds counts as placed, too
        if now.earlier.get(one) == "test" and "test" in placed:
            found = _count_classes(now, [one])
            placed["test"].update(found)
            total.update(found)
    open_groups = set(members) - set(now.side)
    for name in sorted(total, key=lambda one: (total[one], one)):
        wanting = [group for group in open_groups if counts[group][name]]
        for group in sorted(wanting, key=lambda one: (-counts[one][name], _draw(now.seed, one))):
            side = _most_wanting(shares, placed, total, counts[group], name)
            now.side[group] = side
            placed[side].update(counts[group])
            open_groups.discard(group)


def _shares(now: _Round) -> dict[str, float]:
    rest = 1 - now.test_fraction
    shares = {"train": rest * (1 - now.params.val_fraction), "val": rest * now.params.val_fraction}
    return {**shares, "test": now.test_fraction} if now.test_fraction else shares


def _count_classes(now: _Round, inside: list[str]) -> Counter[str]:
    return Counter(name for one in inside for name in now.classes.get(one) or (NO_CLASS,))


def _most_wanting(
    shares: Mapping[str, float],
    placed: Mapping[str, Counter[str]],
    total: Counter[str],
    count: Counter[str],
    name: str,
) -> str:
    """The side that would be left furthest below its share; ties go by all classes together."""

    def want(side: str) -> tuple[float, float]:
        after = {
            one: shares[side] * total[one] - placed[side][one] - count[one] / 2 for one in count
        }
        return after[name] / shares[side], sum(after.values()) / shares[side]

    return max(sorted(shares), key=want)


def _draw(seed: int, group: str) -> float:
    """A number in [0, 1) that only seed and group decide."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
