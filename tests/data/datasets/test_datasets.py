"""The dataset table: solar cells, circuit boards from three sources, clear refusals."""

from __future__ import annotations

import functools
import http.server
import importlib.util
import threading
import zipfile

import cv2
import numpy as np
import pytest

from visionloop.core.errors import ConfigError, DataError, MissingExtraError, UnreachableError
from visionloop.data.datasets import deeppcb, deeppcb_download
from visionloop.data.datasets.deeppcb import DeepPcbDataset, parse_boxes
from visionloop.data.datasets.line import write_line
from visionloop.data.datasets.table import open_dataset, truth
from visionloop.data.synthesis.boards import GeneratedBoards, draw_template


@pytest.fixture
def elpv():
    pytest.importorskip("elpv_dataset", reason="the data package elpv-dataset is not installed")
    return open_dataset("elpv", 0)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.delenv("VISIONLOOP_MIRROR", raising=False)
    monkeypatch.setenv("VISIONLOOP_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_unknown_name_offers_the_nearest():
    with pytest.raises(ConfigError, match="elpv"):
        open_dataset("elvp", 0)


def test_missing_package_says_what_to_install(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "elpv_dataset" else find(name, *rest),
    )
    with pytest.raises(MissingExtraError) as caught:
        open_dataset("elpv", 0)
    assert "elpv-dataset" in str(caught.value) and "pip install" in str(caught.value)
    assert caught.value.exit_code == 2


def test_solar_cells_tell_the_story(elpv):
    phases: dict[str, list[str]] = {}
    for cell in elpv._cells:
        phases.setdefault(elpv._phase_of[cell.file], []).append(cell.cell_type)
    assert set(phases["commissioning"]) == set(phases["production_1"]) == {"mono"}
    assert set(phases["production_2"]) == {"poly"}
    assert phases["acceptance"].count("mono") >= 320 and phases["acceptance"].count("poly") >= 500
    assert sum(map(len, phases.values())) == 2624
    by_block: dict[str, set[str]] = {}
    for cell in elpv._cells:
        by_block.setdefault(cell.block, set()).add(elpv._phase_of[cell.file])
    assert all(len(found) == 1 for found in by_block.values())


def test_solar_samples_hide_what_nobody_annotated(elpv):
    dataset = open_dataset("elpv", 0, phase_sizes={"commissioning": 6, "production_1": 6})
    annotated = list(dataset.samples(["commissioning"]))
    hidden = list(dataset.samples(["production_1"]))
    assert len(annotated) == len(hidden) == 6
    assert all(len(row.annotations) == 1 for row in annotated)
    assert all(not row.annotations for row in hidden)
    assert all(row.attributes["defect_probability"] is None for row in hidden)
    for row in annotated:
        expected = "defective" if row.attributes["defect_probability"] > 0.5 else "functional"
        assert row.annotations[0].class_name == expected
        assert row.annotations[0].sample_id == row.sample_id
    times = [row.captured_at for row in [*annotated, *hidden]]
    assert times == sorted(times) and times[0].endswith("Z")
    known = truth(dataset)
    assert len(known) == 2624 and all(row.sample_id in known for row in hidden)


def test_the_seed_decides_and_only_the_seed(elpv):
    sizes = {"commissioning": 5}
    ids = [
        [
            row.sample_id
            for row in open_dataset("elpv", seed, phase_sizes=sizes).samples(["commissioning"])
        ]
        for seed in (0, 0, 1)
    ]
    assert ids[0] == ids[1] != ids[2]


def test_unknown_phase_is_refused(elpv):
    with pytest.raises(ConfigError, match="no phase 'comissioning'"):
        list(elpv.samples(["comissioning"]))
    with pytest.raises(ConfigError, match="no phase"):
        open_dataset("elpv", 0, phase_sizes={"prod": 3})


def test_boards_of_the_mirror(mirror, monkeypatch):
    monkeypatch.setenv("VISIONLOOP_MIRROR", str(mirror))
    dataset = open_dataset("deeppcb", 0)
    assert dataset.source == "mirror"
    samples = list(dataset.samples(["commissioning", "acceptance", "production_2"]))
    by_phase = {
        name: [row for row in samples if row.phase == name]
        for name in ("commissioning", "acceptance", "production_2")
    }
    assert {name: len(rows) for name, rows in by_phase.items()} == {
        "commissioning": 260,
        "acceptance": 150,
        "production_2": 161,
    }
    official = {name for name, test in dataset._boards.names().items() if test}
    assert all(
        dataset._phase_of[name] == "acceptance" for name in official & set(dataset._phase_of)
    )
    assert {row.attributes["layout"] for row in by_phase["commissioning"]} == {"open"}
    assert {row.attributes["layout"] for row in by_phase["production_2"]} == {"dense"}
    assert {row.attributes["layout"] for row in by_phase["acceptance"]} == {"open", "dense"}
    assert not any(row.annotations for row in by_phase["production_2"])
    boxes = [row.xyxy for sample in by_phase["commissioning"] for row in sample.annotations]
    assert len(boxes) > 1500 and all(0 <= x1 < x2 <= 640 for x1, _, x2, _ in boxes)
    assert len(dataset.truth()) == 1500


def test_a_changed_mirror_file_is_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "deeppcb.zip", "w") as archive:
        archive.writestr("test.txt", "")
    monkeypatch.setenv("VISIONLOOP_MIRROR", str(tmp_path))
    with pytest.raises(DataError, match="SHA-256"):
        open_dataset("deeppcb", 0)


def test_without_mirror_and_network_boards_are_generated(offline, capsys):
    dataset = open_dataset("deeppcb", 0, phase_sizes={"commissioning": 12})
    assert dataset.source == "generated"
    assert "boards are generated" in capsys.readouterr().err
    samples = list(dataset.samples(["commissioning"]))
    again = open_dataset("deeppcb", 0, phase_sizes={"commissioning": 12})
    assert [row.sample_id for row in samples] == [
        row.sample_id for row in again.samples(["commissioning"])
    ]
    assert len(samples) == 12
    assert {row.class_name for one in samples for row in one.annotations} <= set(deeppcb.CLASSES)


def test_every_changed_pixel_of_a_generated_board_lies_in_a_box():
    import random

    boards = GeneratedBoards(0)
    for name in ("00041003", "50600007"):
        image = cv2.imdecode(np.frombuffer(boards.image(name), np.uint8), cv2.IMREAD_GRAYSCALE)
        copper, _, _ = draw_template(random.Random(f"0:{name}"), dense=name.startswith("5"))
        changed = (image == 0) != (copper > 0)
        assert changed.any()
        for x1, y1, x2, y2, _ in boards.boxes(name):
            x1, y1, x2, y2 = (int(value) for value in (x1, y1, x2, y2))
            assert changed[y1:y2, x1:x2].any()
            changed[y1:y2, x1:x2] = False
        assert not changed.any()


def test_generated_boards_show_all_six_defects():
    boards = GeneratedBoards(1)
    kinds = {row[4] for number in range(25) for row in boards.boxes(f"00041{number:03d}")}
    assert kinds == set(deeppcb.CLASSES)


@pytest.fixture
def repository(tmp_path):
    """An archive laid out as the public repository, served by a real HTTP server."""
    folder = tmp_path / "served"
    folder.mkdir()
    image = np.full((640, 640), 255, np.uint8)
    image[100:200] = 0
    coded = cv2.imencode(".jpg", image)[1].tobytes()
    with zipfile.ZipFile(folder / "boards.zip", "w") as archive:
        for name in ("00041000", "12000001"):
            base = f"DeepPCB-x/PCBData/group{name[:5]}/{name[:5]}"
            archive.writestr(f"{base}/{name}_test.jpg", coded)
            archive.writestr(f"{base}_not/{name}.txt", "10 20 30 40 1\n")
        archive.writestr("DeepPCB-x/PCBData/trainval.txt", "group00041/00041/00041000.jpg x.txt\n")
        archive.writestr("DeepPCB-x/PCBData/test.txt", "group12000/12000/12000001.jpg x.txt\n")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/boards.zip", folder / "boards.zip"
    server.shutdown()


def test_download_is_checked_kept_and_read(repository, tmp_path, monkeypatch):
    url, path = repository
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = deeppcb_download.sha256_of_content(path)
    kept = deeppcb_download.download(url, content_sha256=expected)
    monkeypatch.setenv("VISIONLOOP_OFFLINE", "1")
    assert deeppcb_download.download(url, content_sha256=expected) == kept
    boards = deeppcb_download.DownloadedBoards(kept)
    assert boards.names() == {"00041000": False, "12000001": True}
    assert boards.boxes("00041000") == [(10.0, 20.0, 30.0, 40.0, "open")]
    image = cv2.imdecode(np.frombuffer(boards.image("12000001"), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(image)) == {0, 255}


def test_a_download_that_is_cut_off_is_not_taken_for_the_archive(repository, tmp_path, monkeypatch):
    url, path = repository
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    expected = deeppcb_download.sha256_of_content(path)
    monkeypatch.setenv("VISIONLOOP_FAILPOINT", "deeppcb.before_rename:interrupt:1")
    with pytest.raises(KeyboardInterrupt):
        deeppcb_download.download(url, content_sha256=expected)
    assert not list((tmp_path / "cache" / "visionloop").iterdir())
    monkeypatch.delenv("VISIONLOOP_FAILPOINT")
    kept = deeppcb_download.download(url, content_sha256=expected)
    assert deeppcb_download.sha256_of_content(kept) == expected


def test_download_of_other_content_is_not_kept(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(DataError, match="nothing was kept"):
        deeppcb_download.download(repository[0])
    assert not list((tmp_path / "cache" / "visionloop").iterdir())


def test_unreachable_host_ends_after_bounded_attempts(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(deeppcb_download.time, "sleep", lambda seconds: None)
    with pytest.raises(UnreachableError, match="does not answer"):
        deeppcb_download.download("http://127.0.0.1:9/boards.zip")


def test_box_files_with_bom_crlf_and_commas_are_read():
    text = "\ufeff1 2 3 4 1\r\n5,6,7,8,6\r\n"
    assert parse_boxes(text, subject="x") == [(1, 2, 3, 4, "open"), (5, 6, 7, 8, "pin-hole")]


def test_every_wrong_line_of_a_box_file_is_named():
    text = "1 2 3 4 9\nnan 2 3 4 1\n9 2 3 4 1\n1 2 3\n1 2 3 4 5\n-5 2 3 4 1"
    with pytest.raises(DataError) as caught:
        parse_boxes(text, subject="x.txt")
    assert len(caught.value.problems) == 5


def test_line_files_hold_the_original_bytes_in_order(offline, tmp_path):
    dataset = DeepPcbDataset(seed=0, phase_sizes={"production_2": 4})
    assert write_line(dataset, "production_2", tmp_path / "line") == 4
    assert write_line(dataset, "production_2", tmp_path / "line", limit=3) == 3
    files = sorted((tmp_path / "line").iterdir())
    expected = [row.content for row in dataset.samples(["production_2"])][:3]
    assert [path.read_bytes() for path in files] == expected
