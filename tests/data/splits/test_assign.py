"""Sharing out: fractions, classes on every side, memory, time; and what must never change."""

from __future__ import annotations

import hashlib
from collections import Counter

import pandas
import pytest

from visionloop.core.files import canonical_json, sha256_of_bytes
from visionloop.data.splits.assign import assign_splits
from visionloop.data.splits.groups import find_ties, name_groups
from visionloop.data.splits.params import SplitParams


def ids_of(count: int, start: int = 0) -> list[str]:
    return [hashlib.sha256(str(number).encode()).hexdigest() for number in range(start, count)]


def assign(ids, params, *, groups=None, earlier=None, strata=None, official=None, seed=0):
    frame = pandas.DataFrame({"sample_id": ids})
    if official is not None:
        frame["official_split"] = official
    sides = assign_splits(
        frame, groups or ids, params, seed=seed, earlier=earlier or {}, strata=strata or {}
    )
    return dict(zip(ids, sides, strict=True))


def test_the_hash_decides_as_it_always_did():
    ids = ids_of(300)
    strata = {one: "rare" if number % 60 == 0 else "common" for number, one in enumerate(ids)}
    official = ["test" if number % 9 == 0 else None for number in range(300)]
    groups = [ids[number // 3 * 3][:16] for number in range(300)]
    found = assign(ids, SplitParams(), groups=groups, strata=strata, official=official, seed=7)
    # The fingerprints of every frozen version rest on this.
    assert sha256_of_bytes(canonical_json(found))[:16] == "2fb0898b7f484d8a"


def test_a_test_set_is_drawn_only_where_none_is_reserved():
    ids = ids_of(1000)
    params = SplitParams(test_fraction=0.15, val_fraction=0.2)
    drawn = Counter(assign(ids, params).values())
    assert 0.12 < drawn["test"] / 1000 < 0.18
    assert 0.14 < drawn["val"] / 1000 < 0.20
    reserved = assign(ids, params, official=["test"] + [None] * 999)
    assert Counter(reserved.values())["test"] == 1
    plain = assign(ids, SplitParams())
    kept = assign(ids, params)
    assert all(kept[one] in (plain[one], "test") for one in ids)


def test_shares_gives_every_side_its_part_of_every_class():
    ids = ids_of(400)
    strata = {
        one: ("a", "b") if number % 5 == 0 else ("rare",) if number % 40 == 1 else ("a",)
        for number, one in enumerate(ids)
    }
    groups = [f"g{number // 4}" for number in range(400)]
    params = SplitParams(stratify="shares", test_fraction=0.2, val_fraction=0.25)
    sides = assign(ids, params, groups=groups, strata=strata)
    total, by_side = Counter(), Counter()
    for one, names in strata.items():
        for name in names:
            total[name] += 1
            by_side[name, sides[one]] += 1
    for name in ("a", "b"):
        assert by_side[name, "test"] / total[name] == pytest.approx(0.2, abs=0.04)
        assert by_side[name, "val"] / total[name] == pytest.approx(0.2, abs=0.04)
    assert {side for (name, side) in by_side if name == "rare"} == {"train", "val", "test"}


def test_shares_lets_later_samples_fill_up_and_moves_nothing():
    params = SplitParams(stratify="shares", test_fraction=0.2)
    first = ids_of(100)
    strata = dict.fromkeys(ids_of(300), "a")
    before = assign(first, params, strata=dict.fromkeys(first, "a"))
    after = assign(sorted(ids_of(300)), params, earlier=before, strata=strata)
    assert {one: after[one] for one in first} == before
    counts = Counter(after.values())
    assert counts["test"] == pytest.approx(60, abs=2)
    assert counts["val"] == pytest.approx(48, abs=2)


def test_a_drawn_test_set_may_grow_and_a_reserved_one_may_not():
    ids = ids_of(4)
    params = SplitParams(test_fraction=0.5)
    groups = ["one", "one", "two", "two"]
    earlier = {ids[0]: "test", ids[2]: "train"}
    found = assign(ids, params, groups=groups, earlier=earlier)
    assert [found[one] for one in ids] == ["test", "test", "train", "train"]
    was_train = assign(ids, params, groups=groups, earlier={ids[0]: "test", ids[1]: "train"})
    assert was_train[ids[1]] == "excluded"
    reserved = assign(ids, params, groups=groups, official=["test", None, None, None])
    assert reserved[ids[1]] == "excluded"


def test_a_camera_that_shoots_on_stays_together_until_it_pauses():
    times = ["06:00:00", "06:00:04", "06:00:08", "06:01:00", "06:00:05", "late"]
    cameras = ["left", "left", "left", "left", "right", "left"]
    frame = pandas.DataFrame(
        {
            "sample_id": ids_of(6),
            "camera": cameras,
            "site": "plant",
            "captured_at": [f"2026-01-05T{time}Z" for time in times],
        }
    )
    ties = find_ties(frame, None, SplitParams(time_gap_seconds=5.0))
    assert {(tie.first, tie.second) for tie in ties} == {(0, 1), (1, 2)}
    assert {tie.reason for tie in ties} == {"time"}
    assert len(set(name_groups(frame, ties))) == 4
    assert find_ties(frame, None, SplitParams()) == []


def test_cameras_and_sites_are_group_columns_like_any_other():
    frame = pandas.DataFrame({"sample_id": ids_of(4), "camera": ["a", "b", "a", None]})
    ties = find_ties(frame, None, SplitParams(group_columns=["camera"]))
    assert [(tie.first, tie.second, tie.reason) for tie in ties] == [(0, 2, "camera")]
