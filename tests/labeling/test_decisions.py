from __future__ import annotations

import pytest

from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace
from visionloop.labeling.decisions import Decision, load_decisions, open_decisions
from visionloop.labeling.regions import Region


def decision(annotation: int, sample: str = "a", **changes) -> Decision:
    moment = f"2026-01-01T00:00:{annotation:02d}Z"
    given = {"look": "first", "annotator": "x", "created_at": moment, "decided_at": moment}
    return Decision(annotation, 10 * annotation, sample, **{**given, "lead_time": 1.5, **changes})


def test_what_is_put_comes_back_once_however_often_it_is_put(tmp_path) -> None:
    workspace = Workspace(tmp_path)
    box = Region("short", (1.0, 2.0, 3.5, 4.0), "k", 0.25)
    rows = [
        decision(2, "b", regions=[box], actions=["added"], draft=7, is_control=True),
        decision(1, "a", is_skipped=True, findings="f"),
    ]
    with open_decisions(workspace) as store:
        store.put(rows)
        store.put(rows[:1])
    assert load_decisions(workspace) == [rows[1], rows[0]]


def test_a_changed_annotation_replaces_the_earlier_row_and_a_deleted_one_goes(tmp_path) -> None:
    with open_decisions(Workspace(tmp_path)) as store:
        store.put([decision(1), decision(2), decision(3, "b")])
        changed = decision(1, regions=[Region("spur")], decided_at="2026-01-02T00:00:00Z")
        store.put([changed])
        assert [row for _, group in store.by_sample() for row in group][1] == changed
        store.forget(annotations=[2], tasks=[30])
        assert list(store) == [changed]
        assert (store.annotations_of([10]), store.tasks(), len(store)) == ({1}, {10}, 1)


def test_a_failed_put_keeps_nothing(tmp_path) -> None:
    with open_decisions(Workspace(tmp_path)) as store:
        with pytest.raises(TypeError):
            store.put([decision(1), None])
        assert len(store) == 0


def test_notes_are_kept(tmp_path) -> None:
    with open_decisions(Workspace(tmp_path)) as store:
        assert store.note("cursor") == ""
        store.set_note("cursor", "5")
    with open_decisions(Workspace(tmp_path)) as store:
        assert store.note("cursor") == "5"


def test_before_the_first_pull_the_next_step_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="nothing was pulled yet"):
        load_decisions(Workspace(tmp_path))
