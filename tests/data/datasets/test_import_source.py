"""Import of a folder or archive: refused or skipped row by row, killed and run again."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import cv2
import numpy as np
import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.files import sha256_of_file
from visionloop.core.tables import SAMPLES, read_table
from visionloop.data.datasets.import_source import import_source
from visionloop.data.formats import coco

CLASSES = ["open", "short"]


@pytest.fixture
def boards(workspace, make):
    make.set_params(workspace, vision_task="detection", classes=CLASSES)
    return workspace


@pytest.fixture
def yolo_set(tmp_path, make):
    """A YOLO folder of five pictures, one object each."""
    folder = tmp_path / "set"
    for number in range(5):
        split = "test" if number == 4 else "train"
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        (folder / "images" / split / f"{number}.png").write_bytes(make.png(make.picture(number)))
        row = f"{number % 2} 0.5 0.5 0.25 0.5\n"
        (folder / "labels" / split / f"{number}.txt").write_text(row)
    (folder / "data.yaml").write_text("names: [open, short]\n")
    return folder


def is_untouched(workspace) -> bool:
    return not workspace.raw.exists()


def run(workspace, *words, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "visionloop.data", *map(str, words), "-w", workspace.root]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_a_folder_comes_in_with_splits_and_metadata(boards, yolo_set):
    report = import_source(workspace=boards, source=yolo_set, camera="cam-7", site="north")
    assert (report.format, report.added, report.annotations) == ("yolo", 5, 5)
    assert "data.yaml names classes" in report.reason
    frame = read_table(boards.raw / "samples.parquet", SAMPLES)
    assert set(frame["camera"]) == {"cam-7"} and set(frame["site"]) == {"north"}
    assert sorted(frame["official_split"]) == ["test", "train", "train", "train", "train"]
    assert set(frame["file"]) == {f"images/train/{n}.png" for n in range(4)} | {"images/test/4.png"}
    _, annotations, classes = coco.load(boards.raw / "annotations.json")
    assert classes == CLASSES and {row.xyxy for row in annotations} == {(24, 16, 40, 48)}
    page = report.page.read_text()
    assert "imported" in page and "data:image/jpeg" in page and "<script" not in page


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_archives_give_the_same_samples_as_their_folder(boards, yolo_set, tmp_path, kind):
    path = tmp_path / f"set.{kind}"
    names = sorted(one for one in yolo_set.rglob("*") if one.is_file())
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for one in names:
                archive.write(one, one.relative_to(yolo_set))
    else:
        with tarfile.open(path, "w:gz" if kind == "tar.gz" else "w") as archive:
            for one in names:
                archive.add(one, one.relative_to(yolo_set))
    assert import_source(workspace=boards, source=path).added == 5
    before = (boards.raw / "annotations.json").read_bytes()
    again = import_source(workspace=boards, source=yolo_set)
    assert (again.added, again.known) == (0, 5)
    assert (boards.raw / "annotations.json").read_bytes() == before


def test_d4_a_wrong_row_refuses_everything_and_names_each_row(boards, yolo_set):
    (yolo_set / "labels/train/1.txt").write_text("1 0.5 0.5 0.2 0.2\n0 nan 0.5 0.1 0.1\n")
    (yolo_set / "labels/train/2.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    done = run(boards, "import", yolo_set)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "labels/train/1.txt, line 2: '0 nan 0.5 0.1 0.1'" in done.stderr
    assert "class 7 is not 0 to 1" in done.stderr and "--on-error skip" in done.stderr
    assert is_untouched(boards)
    report = json.loads((boards.reports / "import" / "set.json").read_text())
    assert report["verdict"] == "refused"
    assert [(row["file"], row["place"], row["kind"]) for row in report["faults"]] == [
        ("labels/train/1.txt", "line 2", "not_finite"),
        ("labels/train/2.txt", "line 1", "unknown_class"),
    ]


def test_d4_skip_leaves_out_the_row_and_no_more(boards, yolo_set):
    (yolo_set / "labels/train/1.txt").write_text("1 0.5 0.5 0.2 0.2\n0 nan 0.5 0.1 0.1\n")
    (yolo_set / "labels/train/2.txt").write_text("7 0.5 0.5 0.2 0.2\n")
    done = run(boards, "import", yolo_set, "--on-error", "skip")
    assert done.returncode == 0, done.stderr
    assert "left out: 2 wrong rows" in done.stdout and "5 samples added" in done.stdout
    _, annotations, _ = coco.load(boards.raw / "annotations.json")
    assert len(annotations) == 4  # the sample whose only row was wrong is not "nothing there"
    assert all(row.class_name for row in annotations)


def test_d1_pictures_that_are_damaged_are_left_out_not_trained_on(boards, yolo_set, make):
    jpeg = cv2.imencode(".jpg", make.picture(9, size=256))[1].tobytes()
    whole = (yolo_set / "images/train/0.png").read_bytes()
    (yolo_set / "images/train/0.png").write_bytes(whole[:-40])
    (yolo_set / "images/train/1.png").write_bytes(b"")
    (yolo_set / "images/train/2.png").write_bytes(jpeg)
    (yolo_set / "images/train/3.png").rename(yolo_set / "images/train/3.jpg")
    (yolo_set / "images/train/3.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    with pytest.raises(DataError) as caught:
        import_source(workspace=boards, source=yolo_set)
    text = str(caught.value)
    assert is_untouched(boards) and len(caught.value.problems) == 4
    for words in ("0.png: is truncated", "1.png: is empty", "2.png: is a JPEG", "3.jpg: is trunc"):
        assert words in text
    report = import_source(workspace=boards, source=yolo_set, on_error="skip")
    assert (report.added, report.faults) == (1, 4)
    assert [path.suffix for path in boards.images.iterdir()] == [".png"]


def bomb(width: int, height: int) -> bytes:
    """A PNG of one grey level, in very few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    packer = zlib.compressobj(9)
    line = bytes(1 + width)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_d2_a_bomb_is_refused_by_its_header_in_little_memory(boards, yolo_set):
    content = bomb(16_000, 16_000)
    assert len(content) < 400_000
    (yolo_set / "images/train/0.png").write_bytes(content)
    code = (
        "from pathlib import Path;"
        "from visionloop.core.workspace import Workspace;"
        "from visionloop.data.datasets.import_source import import_source;"
        f"report = import_source(workspace=Workspace(Path({str(boards.root)!r})),"
        f" source=Path({str(yolo_set)!r}), on_error='skip');"
        # Not ru_maxrss: that begins with what the process that started this one held.
        "status = Path('/proc/self/status').read_text().split();"
        "peak = int(status[status.index('VmHWM:') + 1]) // 1024;"
        "print(report.added, report.faults, peak)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    added, faults, peak = map(int, done.stdout.split())
    assert (added, faults) == (4, 1)
    assert peak < 600, f"{peak} MiB; decoded, the picture alone has 768"
    found = json.loads((boards.reports / "import" / "set.json").read_text())["faults"]
    assert "16000 x 16000 pixels" in found[0]["reason"]


def test_d3_an_archive_that_is_not_safe_leaves_no_trace(boards, tmp_path):
    path = tmp_path / "in" / "bad.zip"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.yaml", "names: [open]")
        archive.writestr("../../evil.txt", "x")
    before = sorted(tmp_path.rglob("*"))
    done = run(boards, "import", path)
    assert done.returncode == 2 and "leads out of the archive's folder" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["import.sample:kill:3", "files.before_rename:kill:7"])
def test_killed_half_way_the_same_command_completes_with_nothing_doubled(boards, yolo_set, place):
    killed = run(boards, "import", yolo_set, VISIONLOOP_FAILPOINT=place)
    assert killed.returncode == -signal.SIGKILL
    again = run(boards, "import", yolo_set)
    assert again.returncode == 0, again.stderr
    frame = pandas.read_parquet(boards.raw / "samples.parquet")
    _, annotations, _ = coco.load(boards.raw / "annotations.json")
    assert len(frame) == len(annotations) == 5
    names = {path.name for path in boards.images.glob("[!.]*")}
    assert names == set(frame["file_name"])
    assert all(sha256_of_file(boards.images / name) == name[:64] for name in names)


def test_unknown_classes_are_counted_and_the_way_out_is_named(boards, yolo_set, make):
    make.set_params(boards, vision_task="detection", classes=["open", "spur"])
    with pytest.raises(DataError) as caught:
        import_source(workspace=boards, source=yolo_set)
    assert caught.value.problems == ("2 rows: class 'short' is not one of project.classes",)
    assert "--classes from-source" in caught.value.next_step
    assert is_untouched(boards)


def test_classes_from_source_are_written_into_the_parameters(boards, yolo_set, make):
    make.set_params(boards, vision_task="detection", classes=["spur", "short"])
    text = boards.params.read_text()
    assert "  classes:\n  - spur\n" in text  # a list in block style
    report = import_source(workspace=boards, source=yolo_set, classes="from-source")
    assert report.classes == ("open", "short")
    assert load_project(boards.params).classes == ["open", "short"]
    kept = [line for line in text.splitlines() if line not in ("  - spur", "  - short")]
    changed = boards.params.read_text().splitlines()
    assert [line.partition(" [")[0] for line in changed] == kept
    (yolo_set / "data.yaml").write_text("names: [spur, 'no, pin']\n")
    for name in yolo_set.glob("images/train/*.png"):
        name.write_bytes(make.png(make.picture(50 + int(name.stem))))
    again = import_source(workspace=boards, source=yolo_set, classes="from-source")
    assert again.classes == ("open", "short", "spur", "no, pin")  # those in use stay in front


def test_another_vision_task_is_refused_with_the_way_out(workspace, yolo_set):
    with pytest.raises(DataError, match="holds boxes, but project"):
        import_source(workspace=workspace, source=yolo_set)
    assert is_untouched(workspace)


def test_wrong_options_are_refused(boards, yolo_set):
    with pytest.raises(ConfigError, match="did you mean 'yolo'"):
        import_source(workspace=boards, source=yolo_set, format_name="yollo")
    with pytest.raises(ConfigError, match="from-source"):
        import_source(workspace=boards, source=yolo_set, classes="all")
    assert run(boards, "import", yolo_set, "--on-error", "stop").returncode == 2
    assert run(boards, "import", "--classes", "from-source").returncode == 2
    assert is_untouched(boards)


def test_masks_come_in_as_outlines_and_stay_beside_the_images(boards, tmp_path, make):
    folder = tmp_path / "set"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for number in range(2):
        mask = np.zeros((64, 64), np.uint8)
        mask[10:20, 30:50] = number
        (folder / "images" / f"{number}.png").write_bytes(make.png(make.picture(number)))
        (folder / "masks" / f"{number}.png").write_bytes(make.png(mask))
    (folder / "classes.txt").write_text("open\nshort\n")
    report = import_source(workspace=boards, source=folder)
    assert (report.format, report.added) == ("mask", 2)
    frame = pandas.read_parquet(boards.raw / "samples.parquet")
    for name in frame["mask_file"]:
        assert sha256_of_file(boards.raw / name) == name.removeprefix("masks/")[:64]
    _, annotations, _ = coco.load(boards.raw / "annotations.json")
    found = {row.class_name: row for row in annotations}
    assert set(found) == {"", "open"}
    assert found["open"].xyxy == (30, 10, 50, 20) and len(found["open"].polygon[0]) == 8


def test_soft_classes_come_in_with_their_probabilities(workspace, tmp_path, make):
    folder = tmp_path / "set"
    folder.mkdir()
    lines = ["file,captured_at,lot,functional,defective"]
    for number in range(3):
        (folder / f"{number}.png").write_bytes(make.png(make.picture(number)))
        lines.append(
            f"{number}.png,2026-05-0{number + 1}T00:00:00Z,L{number},{3 - number},{number}"
        )
    (folder / "people.csv").write_text("\n".join(lines))
    report = import_source(workspace=workspace, source=folder)
    assert (report.format, report.added, report.faults) == ("csv", 3, 0)
    frame = pandas.read_parquet(workspace.raw / "samples.parquet")
    assert sorted(frame["lot"]) == ["L0", "L1", "L2"]
    assert sorted(frame["captured_at"])[0] == "2026-05-01T00:00:00Z"
    _, annotations, _ = coco.load(workspace.raw / "annotations.json")
    shares = sorted(row.probabilities for row in annotations)
    assert shares[1] == (("functional", pytest.approx(2 / 3)), ("defective", pytest.approx(1 / 3)))


def test_a_picture_turned_by_exif_is_not_taken_in_with_boxes(boards, yolo_set, make):
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    Image.fromarray(make.picture(7)[:32]).save(content, "JPEG", exif=exif)
    (yolo_set / "images/train/0.png").unlink()
    (yolo_set / "images/train/0.jpg").write_bytes(content.getvalue())
    with pytest.raises(DataError, match="turned by its EXIF"):
        import_source(workspace=boards, source=yolo_set)


def test_params_name_the_sources(workspace, make, yolo_set, capsys):
    """``visionloop data import`` without an argument, as DVC calls it."""
    from visionloop.core.cli import run_command
    from visionloop.data.cli import app

    listed = [{"path": str(yolo_set), "camera": "north", "site": "plant-1"}]
    block = {"phases": ["commissioning"], "sources": listed}
    make.set_params(workspace, vision_task="detection", classes=CLASSES, **{"import": block})
    for added in (5, 0):
        words = ["import", "--workspace", str(workspace.root)]
        assert run_command(lambda words=words: app(words)) == 0
        assert f"{added} samples added" in capsys.readouterr().out
    samples = read_table(workspace.raw / "samples.parquet", SAMPLES)
    assert len(samples) == 5
    assert set(samples["camera"]) == {"north"}
