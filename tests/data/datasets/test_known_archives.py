"""The known archives: counts that everybody can check, pairing, and oddities found unaided."""

from __future__ import annotations

from collections import Counter

import pytest

from visionloop.core.errors import ConfigError, DataError
from visionloop.data.datasets.archive_dataset import (
    ArchiveDataset,
    open_archive_dataset,
    read_source,
)
from visionloop.data.datasets.known import KNOWN, known_archive_of
from visionloop.data.datasets.oddities import facts_of, find_oddities
from visionloop.data.formats.pictures import Picture
from visionloop.data.formats.sources import open_source
from visionloop.serving.images import decode_image


@pytest.fixture
def opened(mirror, monkeypatch):
    """Open a known archive of the mirror; skipped if the mirror lacks it."""

    def open_it(name: str, vision_task: str = "") -> ArchiveDataset:
        monkeypatch.setenv("VISIONLOOP_MIRROR", str(mirror))
        if not (mirror / KNOWN[name].file).exists():
            pytest.skip("VISIONLOOP_MIRROR names no folder of data set archives")
        return open_archive_dataset(name, vision_task=vision_task)

    return open_it


@pytest.mark.parametrize(
    ("name", "pictures", "annotations", "splits"),
    [
        ("deeppcb", 1500, 10_013, {"train": 1000, "test": 500}),
        ("neu-det", 1800, 4189, {None: 1770, "val": 30}),
        ("hardhat", 181, 668, {None: 181}),
        ("bccd", 364, 4886, {"train": 205, "val": 87, "test": 72}),
        ("magnetic-tile", 1344, 1344, {None: 1344}),
    ],
)
def test_counts_are_those_of_the_publication(opened, name, pictures, annotations, splits):
    dataset = opened(name)
    found: Counter[str] = Counter()
    official: Counter[str | None] = Counter()
    samples = list(dataset)
    for sample in samples:
        official[sample.official_split] += 1
        found.update(row.class_name for row in sample.annotations)
        assert all(row.sample_id == sample.sample_id for row in sample.annotations)
    assert official == splits and sum(official.values()) == pictures
    assert sum(found.values()) == annotations and set(found) == set(dataset.classes)
    wrong = [fault for fault in dataset.faults if not fault.is_note]
    assert [fault.kind for fault in wrong] == ["degenerate_box"] * 2 * (name == "bccd")
    if name == "magnetic-tile":
        assert [note.kind for note in dataset.faults] == ["empty_mask"] * 4
        assert {sample.attributes["exposure"] for sample in samples} == set(range(7))
        assert all(sample.mask for sample in samples)
    if name == "deeppcb":
        assert all(sample.attributes["board"] in sample.attributes["file"] for sample in samples)


def test_tiles_read_for_detection_have_outlines_and_empty_masks_are_not_nothing(opened):
    dataset = opened("magnetic-tile", "detection")
    said = Counter()
    for sample in dataset:
        free = sample.attributes["file"].startswith("MT_Free")
        said[(free, tuple(sorted({row.class_name for row in sample.annotations})))] += 1
        assert all(row.polygon for row in sample.annotations if row.class_name)
    assert said.pop((True, ("",))) == 952
    assert said.pop((False, ())) == 4  # filed under Uneven, but nothing is drawn
    assert sum(said.values()) == 388 and all(not free for free, _ in said)


def test_people_of_cifar10h_and_cifar10n_meet_their_pictures(opened):
    many = list(opened("cifar10h"))
    assert len(many) == 10_000
    agree = [row.annotations[0].class_name == row.attributes["stated_class"] for row in many]
    # The paper: people's most frequent answer is the published class for over 99 % of pictures.
    assert sum(agree) > 9_900
    assert all(
        row.attributes["stated_class"] == row.attributes["file"].split("/")[1] for row in many
    )
    total = [sum(share for _, share in row.annotations[0].probabilities) for row in many]
    assert min(total) == pytest.approx(1) == max(total)
    # "Pervasive Label Errors in Test Sets" counts 54 of them.
    assert sum(row.attributes["is_verified_error"] for row in many) == 54
    assert 0 < sum(row.attributes["verified_class"] != "" for row in many) < 54
    noisy = list(opened("cifar10n"))
    wrong = {
        "aggregate": [row.annotations[0].class_name for row in noisy],
        "worse": [row.attributes["worse"] for row in noisy],
        "random1": [row.attributes["random1"] for row in noisy],
    }
    stated = [row.attributes["stated_class"] for row in noisy]
    shares = {
        name: sum(one != two for one, two in zip(rows, stated, strict=True)) / len(noisy)
        for name, rows in wrong.items()
    }
    # The paper: 9.03 %, 40.21 % and 17.23 % over all 50,000; these are the first fifth.
    assert shares["aggregate"] == pytest.approx(0.09, abs=0.015)
    assert shares["worse"] == pytest.approx(0.40, abs=0.02)
    assert shares["random1"] == pytest.approx(0.17, abs=0.02)


def test_unknown_names_and_missing_archives_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="did you mean 'neu-det'"):
        open_archive_dataset("neu-dat")
    monkeypatch.setenv("VISIONLOOP_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match=r"bccd\.zip"):
        open_archive_dataset("bccd")
    monkeypatch.delenv("VISIONLOOP_MIRROR")
    with pytest.raises(DataError, match="VISIONLOOP_MIRROR"):
        open_archive_dataset("bccd")
    assert known_archive_of("some/where/cifar10_test.zip") == "cifar10-test"
    assert known_archive_of("mine.zip") == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "count", "words"),
    [
        ("neu-det", "foreign_class", 123, "123 pictures hold a box of another class"),
        ("neu-det", "same_picture_other_annotations", 2, "patches_101.jpg and patches_105.jpg"),
        ("deeppcb", "shared_prefix", 168, "(34%) share the first 5 digits"),
        ("magnetic-tile", "setting_in_name", 1344, "'exp' of the file names takes 6 values"),
        ("magnetic-tile", "empty_mask", 4, "4 empty masks"),
        ("bccd", "degenerate_box", 2, "2 rows without area"),
        ("hardhat", "mirrored_border", 175, "of 181 pictures have borders padded"),
    ],
)
def test_known_oddities_are_found_by_checks_that_know_no_set(opened, name, kind, count, words):
    dataset = opened(name)
    facts = [facts_of(raw, decode_image(raw.content)) for raw in dataset]
    (oddity,) = [row for row in find_oddities(facts, dataset.faults) if row.kind == kind]
    assert len(oddity.files) == count and words in oddity.reason


def test_tiles_are_normal_or_not_where_anomalies_are_looked_for(opened):
    dataset = opened("magnetic-tile", "anomaly")
    said = Counter(row.class_name for one in dataset for row in one.annotations)
    assert said == {"normal": 952, "defective": 392}


def test_a_tile_as_a_scene_has_its_exposure_and_its_defect(opened):
    dataset = opened("magnetic-tile", "scene")
    said: Counter[str] = Counter()
    for one in dataset:
        names = {row.class_name for row in one.annotations}
        exposures = [name for name in names if name.startswith("exposure")]
        stated = one.attributes["exposure"]
        assert exposures == ([f"exposure{stated}"] if stated else [])
        said.update(names)
    assert (said["Blowhole"], said["Uneven"], said["Free"]) == (115, 103, 0)


def test_every_annotation_of_a_scene_says_where_it_stands(opened):
    dataset = opened("magnetic-tile", "scene")
    ((part, path),) = dataset.parts()
    with open_source(path) as files:
        read = list(read_source(files, dataset.row.format, "scene", part))
    pictures = [one for one in read if isinstance(one, Picture)]
    assert len(pictures) == 1344
    for one in pictures:
        assert len(one.places) == len(one.annotations) and all(one.places)
