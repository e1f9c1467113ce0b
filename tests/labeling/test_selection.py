"""Which samples are annotated next."""

from __future__ import annotations

import numpy as np
import pandas
import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.tables import REQUESTS, read_table, write_table
from visionloop.data.formats import coco
from visionloop.data.quality.exclusions import exclude
from visionloop.labeling.selection import SELECTION, select
from visionloop.labeling.state import PushRecord, save_push_record
from visionloop.labeling.strategies import NEEDS_PROBABILITIES, STRATEGIES


def chosen(project) -> list[str]:
    path = project.cells.studio_state / "selection.parquet"
    return read_table(path, SELECTION).sort_values("order")["sample_id"].tolist()


def call(name: str, vectors, probabilities, budget, seed=0):
    from visionloop.core.plugins import resolve

    return resolve(STRATEGIES, name, kind="strategy")(vectors, probabilities, budget, seed)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_chooses_as_many_as_asked_once_each_and_the_same_again(name) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 6)).astype(np.float32)
    vectors[40:60] = vectors[0]  # identical images leave clusters empty
    probabilities = rng.dirichlet((1, 1), 80).astype(np.float32)
    first = call(name, vectors, probabilities, 30)
    assert len(first) == len(set(first.tolist())) == 30
    assert first.dtype == np.int64
    assert call(name, vectors, probabilities, 30).tolist() == first.tolist()
    assert sorted(call(name, vectors, probabilities, 200).tolist()) == list(range(80))


def test_clustered_reaches_every_cluster() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(5, 16)) * 4
    which = np.repeat(np.arange(5), (100, 50, 20, 10, 5))
    vectors = (centres[which] + rng.normal(0, 0.3, (185, 16))).astype(np.float32)
    assert set(which[call("clustered", vectors, None, 5)]) == set(range(5))


def test_uncertain_takes_the_smallest_margin_first() -> None:
    rows = np.array([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]], np.float32)
    assert call("uncertain", np.zeros((3, 2), np.float32), rows, 2).tolist() == [1, 2]
    assert "uncertain" in NEEDS_PROBABILITIES


def test_annotated_and_pushed_samples_are_left_out(embedded) -> None:
    space, ids = embedded.cells, embedded.ids
    done = [Annotation(one, "functional") for one in ids[:10]]
    images = [coco.CocoImage(one, f"{one}.png", 60, 40) for one in ids[:10]]
    coco.save(space.studio_annotations, images, done, ["functional", "defective"])
    save_push_record(space, PushRecord(1, dict.fromkeys(ids[10:20], 1), {}))
    report = select(workspace=space, budget=100)
    assert report.selected == report.pool == 40
    assert sorted(chosen(embedded)) == ids[20:]


def test_what_people_excluded_is_not_asked_for(embedded) -> None:
    exclude(workspace=embedded.cells, names=embedded.ids[:3], reason="the lamp was off")
    report = select(workspace=embedded.cells, budget=100)
    assert report.pool == len(embedded.ids) - 3
    assert not set(chosen(embedded)) & set(embedded.ids[:3])


def test_requests_come_first_with_their_reasons(embedded) -> None:
    ids = embedded.ids[5:15]
    rows = {"sample_id": ids, "reason": "drifted", "priority": 1.0, "requested_by": "feedback"}
    path = embedded.cells.root / "data" / "requests.parquet"
    write_table(path, REQUESTS, pandas.DataFrame(rows))
    report = select(workspace=embedded.cells, budget=12)
    assert (report.selected, report.requested) == (12, 10)
    assert sorted(chosen(embedded)[:10]) == ids
    frame = read_table(report.path, SELECTION).sort_values("order")
    assert frame["reason"].tolist()[:10] == ["drifted"] * 10
    assert "clustered" in frame["reason"].tolist()[11]


def test_same_seed_same_choice(embedded) -> None:
    select(workspace=embedded.cells, strategy="random")
    first = chosen(embedded)
    select(workspace=embedded.cells, strategy="random")
    assert chosen(embedded) == first


def test_wrong_strategy_missing_embeddings_missing_package(project, embedded) -> None:
    with pytest.raises(ConfigError, match="did you mean 'clustered'"):
        select(workspace=embedded.cells, strategy="clusterd")
    with pytest.raises(DataError, match="no model package"):
        select(workspace=embedded.cells, strategy="uncertain")
    (embedded.cells.embeddings / "embeddings.npz").unlink()
    with pytest.raises(DataError):
        select(workspace=embedded.cells)


def test_nothing_left(embedded) -> None:
    save_push_record(embedded.cells, PushRecord(1, dict.fromkeys(embedded.ids, 1), {}))
    with pytest.raises(DataError, match="every sample is annotated"):
        select(workspace=embedded.cells)
