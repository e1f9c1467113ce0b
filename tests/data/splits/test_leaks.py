"""The leak report: it proves a tight split and names every pair of one that leaks."""

from __future__ import annotations

import json

import pytest

from visionloop.core.cli import run_command
from visionloop.core.errors import DataError
from visionloop.core.tables import read_table, write_table
from visionloop.data.cli import app
from visionloop.data.splits.groups import Tie
from visionloop.data.splits.leaks import derive_column, find_leaks, leaks, parse_group
from visionloop.data.splits.split import SPLITS, split


@pytest.fixture
def boards(fill, make, workspace):
    """24 pictures of 6 boards; the data set reserves every fourth picture for test."""
    fill(
        [
            make.raw_sample(
                make.png(make.picture(number)),
                "functional" if number % 2 else "defective",
                attributes={"file": f"{number // 4:05d}{number % 4:03d}.png"},
                official_split="test" if number in (3, 7, 20, 21, 22, 23) else None,
            )
            for number in range(24)
        ]
    )
    return workspace


def test_an_official_split_that_shares_boards_is_refused_and_each_pair_is_named(boards, capsys):
    place = ["leaks", "-w", str(boards.root), "--official", "--group", r"board=file:(\d{5})\d{3}"]
    assert run_command(lambda: app(place)) == 3
    assert "2 of 6 samples of test (33.3%) are tied to training" in capsys.readouterr().err
    stored = json.loads((boards.reports / "leaks" / "leaks.json").read_text())
    assert not stored["is_tight"] and stored["crossing_groups"] == 2
    assert stored["shares"] == {"test": pytest.approx(1 / 3)}
    assert {one["reason"] for one in stored["leaks"]} == {"board"}
    page = (boards.reports / "leaks" / "index.html").read_text()
    assert "2 groups cross" in page and page.count("data:image/jpeg") == 4
    assert run_command(lambda: app([*place, "--write-verdict-only"])) == 0


def test_our_own_split_is_proved_tight(boards, capsys):
    split(workspace=boards)
    assert run_command(lambda: app(["leaks", "-w", str(boards.root)])) == 0
    assert "none crosses" in capsys.readouterr().out
    assert "no group crosses" in (boards.reports / "split" / "index.html").read_text()
    # Somebody moves one of a group by hand.
    frame = read_table(boards.root / "data" / "splits.parquet", SPLITS)
    twin = frame.iloc[[0]].assign(sample_id=frame["sample_id"].iloc[0], split="test")
    write_table(boards.root / "data" / "splits.parquet", SPLITS, twin)
    assert leaks(workspace=boards).counts == {"test": 1}


def test_a_tie_over_others_and_over_excluded_ones_is_a_leak():
    import pandas

    samples = pandas.DataFrame({"sample_id": ["a" * 64, "b" * 64, "c" * 64, "d" * 64]})
    chain = [Tie(0, 1, "near-duplicate"), Tie(1, 2, "camera")]
    report = find_leaks(samples, ["train", "excluded", "test", "val"], chain)
    (leak,) = report.leaks
    assert (leak.sample_id[0], leak.train_sample_id[0]) == ("c", "a")
    assert leak.reason == "over others"
    assert report.leaking == {"val": 0, "test": 1} and report.crossing_groups == 1
    tight = find_leaks(samples, ["train", "train", "train", "val"], chain)
    assert tight.is_tight and tight.leaks == ()
    val_and_test = find_leaks(samples, ["val", "excluded", "test", "train"], chain)
    assert not val_and_test.is_tight and val_and_test.leaks == ()


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("board", "is not name=column:expression"),
        ("board=lost:(.)", "no column 'lost'"),
        ("board=file:(", "no regular expression"),
        ("board=file:x", "no group in brackets"),
        ("board=file:(zzz)", "fits no value"),
    ],
)
def test_a_wrong_group_column_is_told(given, problem):
    import pandas

    with pytest.raises(DataError, match=problem):
        name, source, pattern = parse_group(given)
        derive_column(pandas.DataFrame({"file": ["0001"]}), name, source=source, pattern=pattern)


def test_there_must_be_a_split_to_judge(fill, make, workspace):
    fill([make.raw_sample(make.png(make.picture(0)), "functional")])
    with pytest.raises(DataError, match="no split yet"):
        leaks(workspace=workspace)
    with pytest.raises(DataError, match="reserves no sample"):
        leaks(workspace=workspace, judged="official")
