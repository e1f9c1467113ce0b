"""Splits: no group on both sides, the official test respected, sticky from round to round."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from visionloop.core.errors import DataError
from visionloop.core.files import sha256_of_bytes
from visionloop.core.tables import read_table
from visionloop.data.splits.assign import assign_splits
from visionloop.data.splits.groups import find_groups
from visionloop.data.splits.near_duplicates import cluster, find_near_duplicates, hash_image
from visionloop.data.splits.params import SplitParams
from visionloop.data.splits.split import SPLITS, split


def slightly_darker(image: np.ndarray) -> np.ndarray:
    return cv2.convertScaleAbs(image, alpha=0.93, beta=2)


def splits_of(workspace) -> dict[str, str]:
    frame = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    return dict(zip(frame["sample_id"], frame["split"], strict=True))


def test_hashes_see_the_same_view_and_tell_others_apart(make):
    image = make.picture(1, size=300)
    views = [
        image,
        slightly_darker(image),
        cv2.resize(image, (200, 200), interpolation=cv2.INTER_AREA),
        np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype("uint8"),
        cv2.cvtColor(image, cv2.COLOR_BGR2GRAY),
    ]
    others = [make.picture(number, size=300) for number in range(2, 40)]
    hashes = [hash_image(one) for one in [*views, *others]]
    pairs = find_near_duplicates(hashes, max_distance=4)
    assert {second for first, second, _ in pairs if first == 0} == {1, 2, 3, 4}
    assert all(second < len(views) for _, second, _ in pairs)
    roots = cluster(len(hashes), pairs)
    assert set(roots[: len(views)]) == {0}
    assert list(roots[len(views) :]) == list(range(len(views), len(hashes)))


def test_even_images_are_alike_and_do_not_fail():
    hashes = [hash_image(np.full((32, 32, 3), level, np.uint8)) for level in (0, 0, 255)]
    assert len(find_near_duplicates(hashes, max_distance=0)) == 3
    assert find_near_duplicates(hashes[:1], max_distance=4) == []


def test_no_group_crosses_and_test_is_respected(fill, make, workspace):
    samples = []
    for number in range(40):
        image = make.picture(number)
        is_test = number % 4 == 0
        samples.append(
            make.raw_sample(
                make.png(image),
                "defective" if number % 3 else "functional",
                official_split="test" if is_test else None,
            )
        )
        if number % 5 == 0:
            twin = make.png(slightly_darker(image))
            samples.append(make.raw_sample(twin, "functional"))
    fill(samples)
    report = split(workspace=workspace)
    assert report.near_duplicate_pairs == 8 and report.crossing == 0
    frame = read_table(workspace.root / "data" / "splits.parquet", SPLITS)
    inside = frame[frame["split"] != "excluded"]
    assert inside.groupby("group")["split"].nunique().max() == 1
    found = splits_of(workspace)
    for sample in samples:
        if sample.official_split == "test":
            assert found[sample.sample_id] == "test"
    # numbers 0 and 20 are test and have a twin that training must not see
    assert report.counts["excluded"] == 2
    assert report.counts["test"] == 10
    assert report.counts["val"] > 0 and report.counts["train"] > report.counts["val"]


def test_group_columns_are_never_torn_apart(fill, make, workspace):
    make.set_params(workspace, split={"group_columns": ["lot"]})
    fill(
        [
            make.raw_sample(
                make.png(make.picture(number)),
                "functional" if number % 2 else "defective",
                attributes={"lot": f"lot-{number // 4}" if number < 36 else None},
                official_split="test" if number == 0 else None,
            )
            for number in range(40)
        ]
    )
    report = split(workspace=workspace)
    assert report.groups == 9 + 4  # empty values are no group
    assert report.largest_group == 4
    assert report.counts["excluded"] == 3


def test_a_missing_group_column_is_named(fill, make, workspace):
    make.set_params(workspace, split={"group_columns": ["lott", "camera"]})
    fill([make.raw_sample(make.png(make.picture(0)), "functional")])
    with pytest.raises(DataError, match="no column 'lott'"):
        split(workspace=workspace)


def test_splits_are_the_same_for_the_same_seed_and_sticky_later(fill, make, workspace):
    def sample(number):
        return make.raw_sample(make.png(make.picture(number)), "functional")

    fill([sample(number) for number in range(30)])
    split(workspace=workspace)
    first = splits_of(workspace)
    (workspace.root / "data" / "splits.parquet").unlink()
    split(workspace=workspace)
    assert splits_of(workspace) == first
    fill([sample(number) for number in range(60)])
    assert split(workspace=workspace).moved == 0
    grown = splits_of(workspace)
    assert {one: grown[one] for one in first} == first
    # Not even without a memory do later samples change earlier ones.
    (workspace.root / "data" / "splits.parquet").unlink()
    split(workspace=workspace)
    assert splits_of(workspace) == grown


def test_a_sample_moves_only_when_it_would_leak(fill, make, workspace):
    image = make.picture(0)
    fill([make.raw_sample(make.png(make.picture(n)), "functional") for n in range(10)])
    split(workspace=workspace)
    before = splits_of(workspace)
    twin = make.raw_sample(make.png(slightly_darker(image)), "functional", official_split="test")
    fill([twin])
    report = split(workspace=workspace)
    after = splits_of(workspace)
    moved = {one for one in before if after[one] != before[one]}
    assert moved == {make.raw_sample(make.png(image)).sample_id}
    assert {after[one] for one in moved} == {"excluded"}
    assert after[twin.sample_id] == "test"
    assert report.counts["excluded"] == 1


def test_chance_leaves_no_class_out_of_val():
    import pandas

    for seed in range(20):
        ids = [sha256_of_bytes(bytes([number])) for number in range(12)]
        samples = pandas.DataFrame({"sample_id": ids, "file_name": ids})
        strata = {one: "rare" if number < 2 else "common" for number, one in enumerate(ids)}
        groups = find_groups(samples, [], SplitParams())
        sides = assign_splits(samples, groups, SplitParams(), seed=seed, earlier={}, strata=strata)
        for name in ("rare", "common"):
            found = {side for one, side in zip(ids, sides, strict=True) if strata[one] == name}
            assert found == {"train", "val"}, (seed, name)


def test_real_cells_hold_near_duplicates_that_stay_together(make, workspace, fill):
    pytest.importorskip("elpv_dataset", reason="the data package elpv-dataset is not installed")
    from visionloop.data.datasets.table import open_dataset

    dataset = open_dataset("elpv", 0, phase_sizes={"commissioning": 120, "acceptance": 120})
    fill(dataset.samples(["commissioning", "acceptance"]))
    report = split(workspace=workspace)
    assert report.crossing == 0
    assert report.counts["test"] == 120
