"""Collection: what the edge kept becomes samples, once, with its attributes."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from visionloop.core.entities import ClassProbabilities, Frame, Prediction
from visionloop.core.errors import DataError
from visionloop.core.files import sha256_of_bytes
from visionloop.core.tables import SAMPLES, read_table
from visionloop.data.collection.collect import collect
from visionloop.serving.edge.record.records import add_frame
from visionloop.serving.edge.record.store import open_store


@pytest.fixture
def edge(make, workspace):
    """A database of the edge agent, written by its own functions: ``edge(contents)``."""

    def play(contents: list[bytes], *, kept: bool = True) -> list[str]:
        ids = []
        frames = workspace.edge / "frames"
        frames.mkdir(parents=True, exist_ok=True)
        with closing(open_store(workspace.edge / "outbox.db")) as connection, connection:
            for sequence, content in enumerate(contents):
                sample_id = sha256_of_bytes(content)
                name = f"frames/{sample_id}.png"
                if kept:
                    (workspace.edge / name).write_bytes(content)
                frame = Frame(
                    image=make.picture(sequence),
                    camera="line-2",
                    site="plant-1",
                    sequence=sequence,
                    captured_at="2026-04-06T06:00:00Z",
                    monotonic=0.0,
                    attributes={"cell_type": "poly"},
                )
                add_frame(
                    connection,
                    frame,
                    Prediction(ClassProbabilities(np.array([0.7, 0.3], np.float32))),
                    source="line",
                    sample_id=sample_id,
                    package="p" * 64,
                    statistics={},
                    image=name if kept else None,
                )
                ids.append(sample_id)
        return ids

    return play


def test_kept_frames_become_samples_with_attributes(edge, fill, make, workspace):
    known = make.png(make.picture(0))
    fill([make.raw_sample(known, "functional", attributes={"cell_type": "mono"})])
    ids = edge([known, *[make.png(make.picture(n)) for n in range(1, 5)]])
    report = collect(workspace=workspace)
    assert (report.added, report.known, report.gone, report.rejected) == (4, 1, 0, 0)
    frame = read_table(workspace.raw / "samples.parquet", SAMPLES).set_index("sample_id")
    assert set(frame.index) == set(ids)
    assert frame.loc[ids[0], "phase"] == "commissioning"
    assert frame.loc[ids[0], "cell_type"] == "mono"
    collected = frame[frame["phase"] == "collected"]
    assert set(collected["cell_type"]) == {"poly"} and set(collected["camera"]) == {"line-2"}
    assert (collected["contrast"] > 0).all()


def test_collecting_again_changes_nothing(edge, make, workspace):
    edge([make.png(make.picture(n)) for n in range(3)])
    assert collect(workspace=workspace).added == 3
    before = (workspace.raw / "samples.parquet").read_bytes()
    report = collect(workspace=workspace)
    assert (report.added, report.known) == (0, 3)
    assert (workspace.raw / "samples.parquet").read_bytes() == before


def test_frames_that_were_not_kept_or_are_damaged_are_counted(edge, make, workspace):
    ids = edge([make.png(make.picture(n)) for n in range(4)])
    (workspace.edge / "frames" / f"{ids[0]}.png").unlink()
    damaged = workspace.edge / "frames" / f"{ids[1]}.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    report = collect(workspace=workspace)
    assert (report.added, report.gone, report.rejected) == (2, 1, 1)
    assert not list(workspace.images.glob(f"{ids[1]}*"))


def test_without_an_edge_database_it_is_said(workspace):
    with pytest.raises(DataError, match=r"outbox\.db"):
        collect(workspace=workspace)
