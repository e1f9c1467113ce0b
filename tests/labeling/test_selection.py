"""Which samples are annotated next."""

from __future__ import annotations

import pandas
import pytest

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.tables import REQUESTS, SAMPLES, read_table, write_table
from visionloop.data.formats import coco
from visionloop.data.quality.exclusions import exclude
from visionloop.labeling.ledger import Entry, open_ledger
from visionloop.labeling.selection import SELECTION, select


def chosen(project) -> list[str]:
    path = project.cells.studio_state / "selection.parquet"
    return read_table(path, SELECTION).sort_values("order")["sample_id"].tolist()


def note_first_looks(space, ids: list[str]) -> None:
    with open_ledger(space) as ledger:
        ledger.add(Entry(task, one, "first") for task, one in enumerate(ids))


def test_annotated_and_pushed_samples_are_left_out(embedded) -> None:
    space, ids = embedded.cells, embedded.ids
    done = [Annotation(one, "functional") for one in ids[:10]]
    images = [coco.CocoImage(one, f"{one}.png", 60, 40) for one in ids[:10]]
    coco.save(space.studio_annotations, images, done, ["functional", "defective"])
    note_first_looks(space, ids[10:20])
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
    assert "typical" in frame["reason"].tolist()[11]


def test_same_seed_same_choice(embedded) -> None:
    select(workspace=embedded.cells, strategy="random")
    first = chosen(embedded)
    select(workspace=embedded.cells, strategy="random")
    assert chosen(embedded) == first


def test_wrong_strategy_missing_embeddings_missing_package(project, embedded) -> None:
    with pytest.raises(ConfigError, match="did you mean 'typical'"):
        select(workspace=embedded.cells, strategy="typicl")
    with pytest.raises(DataError, match="no model package"):
        select(workspace=embedded.cells, strategy="margin")
    (embedded.cells.embeddings / "embeddings.npz").unlink()
    with pytest.raises(DataError):
        select(workspace=embedded.cells)


def test_nothing_left(embedded) -> None:
    note_first_looks(embedded.cells, embedded.ids)
    with pytest.raises(DataError, match="every sample is annotated"):
        select(workspace=embedded.cells)


@pytest.fixture
def trusted(key_pair, monkeypatch) -> None:
    """Packages of the test's key are trusted."""
    monkeypatch.setenv("VISIONLOOP_TRUSTED_KEYS", str(key_pair[1]))


def test_margin_asks_the_package_and_takes_its_doubtful_samples(
    embedded, new_package, trusted
) -> None:
    new_package(embedded.cells.package, 4.0)
    select(workspace=embedded.cells, strategy="margin", budget=10)
    from_boundary = {one: abs(level - 127.5) for one, level in embedded.levels.items()}
    nearest = sorted(embedded.ids, key=from_boundary.__getitem__)
    assert set(chosen(embedded)) <= set(nearest[:12])


def test_for_boards_the_boxes_decide(embedded, new_detector, trusted) -> None:
    new_detector(embedded.boards.package)
    report = select(workspace=embedded.boards, strategy="boxes", budget=10)
    ids = read_table(report.path, SELECTION).sort_values("order")["sample_id"]
    taken = [embedded.levels[one] for one in ids]
    others = [level for one, level in embedded.levels.items() if one not in set(ids)]
    assert max(abs(one / 255 - 0.53) for one in taken) < 0.15
    assert max(abs(one / 255 - 0.53) for one in others) > 0.25


def test_disagreement_needs_a_champion_and_another_package(embedded, new_package, trusted) -> None:
    new_package(embedded.cells.package, 4.0)
    with pytest.raises(DataError, match="compares two packages"):
        select(workspace=embedded.cells, strategy="disagreement")


def test_the_mix_takes_every_camera_alike(embedded) -> None:
    path = embedded.cells.raw / "samples.parquet"
    frame = read_table(path, SAMPLES)
    frame["camera"] = ["rare" if number < 6 else "usual" for number in range(len(frame))]
    write_table(path, SAMPLES, frame)
    select(workspace=embedded.cells, strategy="mix", budget=10)
    rare = set(frame["sample_id"][:6])
    assert 4 <= len(rare & set(chosen(embedded))) <= 6
