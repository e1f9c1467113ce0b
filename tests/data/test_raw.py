"""``data/raw`` with several writers: an import must not undo what a collection added."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from visionloop.core.entities import Annotation
from visionloop.data.raw import RawStore, read_samples


def row(name: str, **columns) -> dict:
    numbers = dict.fromkeys(("luminance", "contrast", "blur", "noise"), 1.0)
    texts = dict.fromkeys(("camera", "site", "captured_at"), "x")
    return {
        "sample_id": name,
        "file_name": f"{name}.png",
        "width": 4,
        "height": 4,
        **texts,
        **numbers,
        **columns,
    }


def ids(workspace) -> list[str]:
    return list(read_samples(workspace)["sample_id"])


def test_samples_that_came_since_the_store_was_read_stay(workspace):
    RawStore(workspace).save([row("a"), row("b")], [Annotation("a", "x")], ["x"])
    slow = RawStore.load(workspace)
    RawStore.load(workspace).save([row("c", lens_state="clear")], [Annotation("c", "x")], ["x"])
    slow.frame = slow.frame[slow.frame["sample_id"] != "b"]  # it removes one on purpose
    slow.save([row("d")], [], ["x"])
    assert ids(workspace) == ["a", "c", "d"]
    assert {one.sample_id for one in RawStore.load(workspace).annotations} == {"a", "c"}
    assert read_samples(workspace).set_index("sample_id").loc["c", "lens_state"] == "clear"


def test_a_store_of_nothing_does_not_undo_the_first_collection(workspace):
    empty = RawStore.load(workspace)
    RawStore.load(workspace).save([row("a")], [], ["x"])
    empty.save([row("b")], [], ["x"])
    assert ids(workspace) == ["a", "b"]


def test_two_processes_at_once(workspace):
    code = (
        "import sys; sys.path.insert(0, sys.argv[3]); from pathlib import Path; import test_raw; "
        "from visionloop.core.workspace import Workspace; from visionloop.data.raw import RawStore;"
        "place = Workspace(Path(sys.argv[1])); "
        "[RawStore.load(place).save([test_raw.row(f'{sys.argv[2]}{n}')], [], ['x']) "
        "for n in range(8)]"
    )
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", code, str(workspace.root)]
    writers = [subprocess.Popen([*command, name, here]) for name in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert ids(workspace) == [f"{name}{n}" for name in "ab" for n in range(8)]
