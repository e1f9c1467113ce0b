"""Processors of a container: the quota counts, not what the machine has."""

from __future__ import annotations

import os

import pytest

from visionloop.serving.processors import count_processors

ALL = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("150000 100000\n", min(2, ALL)),
        ("6400000 100000\n", ALL),
        ("max 100000\n", ALL),
        ("nonsense\n", ALL),
    ],
)
def test_quota_of_version_two(tmp_path, text, expected) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert count_processors(tmp_path) == expected


@pytest.mark.parametrize(("quota", "expected"), [("100000", 1), ("-1", ALL)])
def test_quota_of_version_one(tmp_path, quota, expected) -> None:
    folder = tmp_path / "cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert count_processors(tmp_path) == expected


def test_without_control_groups(tmp_path) -> None:
    assert count_processors(tmp_path) == ALL
