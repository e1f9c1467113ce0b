"""D4: every row that is wrong is named with file, place and reason, and the rest is read."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from visionloop.core.errors import DataError
from visionloop.data.formats.pictures import Fault, LoadOptions, Picture
from visionloop.data.formats.sources import open_source
from visionloop.data.formats.table import FORMATS, guess_format, open_format

WIDTH, HEIGHT = 40, 30


def write(folder, files: dict[str, str | bytes], pictures=("images/a.png",)) -> None:
    for name in pictures:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((HEIGHT, WIDTH), np.uint8))
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def load(folder, name: str) -> tuple[list[Picture], list[Fault], list[Fault]]:
    """Pictures, faults, notes."""
    with open_source(folder) as files:
        rows = list(open_format(name).load(files, LoadOptions()))
    faults = [row for row in rows if isinstance(row, Fault)]
    pictures = [row for row in rows if isinstance(row, Picture)]
    return pictures, [one for one in faults if not one.is_note], [o for o in faults if o.is_note]


YAML = "names: [open, short]\n"


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("0 nan 0.5 0.1 0.1", "not_finite"),
        ("0 inf 0.5 0.1 0.1", "not_finite"),
        ("0 0.5 0.5 0 0.1", "degenerate_box"),
        ("0 0.5 0.5 -0.1 0.1", "swapped_corners"),
        ("0 -0.5 0.5 0.1 0.1", "outside"),
        ("0 0.99 0.5 0.5 0.1", "outside"),
        ("0 20 15 10 10", "outside"),
        ("2 0.5 0.5 0.1 0.1", "unknown_class"),
        ("-1 0.5 0.5 0.1 0.1", "unknown_class"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown_class"),
        ("open 0.5 0.5 0.1 0.1", "syntax"),
        ("0 0.5 0.5 0.1", "syntax"),
        ("0 0.5 0.5 0.1 0.1 0.9", "syntax"),
        ("0 0.1 0.1 0.2 0.2 0.3", "syntax"),
        ("0 0.1 0.1 0.2 0.2 1.5 0.3", "outside"),
        ("0", "syntax"),
    ],
)
def test_d4_yolo_lines(tmp_path, line, kind):
    text = f"0 0.5 0.5 0.2 0.2\n{line}\n1 0.5 0.5 0.2 0.2\n"
    write(tmp_path, {"data.yaml": YAML, "labels/a.txt": text})
    (picture,), (fault,), _ = load(tmp_path, "yolo")
    assert (fault.file, fault.place, fault.kind) == ("labels/a.txt", "line 2", kind)
    assert [row.class_name for row in picture.annotations] == ["open", "short"]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("9 2 3 4 1", "swapped_corners"),
        ("1 2 1 4 1", "degenerate_box"),
        ("nan 2 3 4 1", "not_finite"),
        ("-9 2 3 4 1", "outside"),
        ("1 2 90 4 1", "outside"),
        ("1 2 3 4 7", "unknown_class"),
        ("1 2 3 4 0", "unknown_class"),
        ("1 2 3 1", "syntax"),
        ("1 2 3 4 1 5", "syntax"),
        ("1 2 three 4 1", "syntax"),
    ],
)
def test_d4_deeppcb_lines(tmp_path, line, kind):
    write(tmp_path, {"labels/a.txt": f"1 1 5 5 1\n{line}\n1,1,6,6,2\n"})
    (picture,), (fault,), _ = load(tmp_path, "deeppcb")
    assert (fault.place, fault.kind) == ("line 2", kind)
    assert [row.class_name for row in picture.annotations] == ["open", "short"]


def voc(*objects: str, size=(WIDTH, HEIGHT), name="a.png") -> str:
    inside = "".join(f"<object>{one}</object>" for one in objects)
    return (
        f"<annotation><filename>{name}</filename><size><width>{size[0]}</width>"
        f"<height>{size[1]}</height></size>{inside}</annotation>"
    )


def box(x1, y1, x2, y2, name="open") -> str:
    return (
        f"<name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox>"
    )


@pytest.mark.parametrize(
    ("thing", "kind"),
    [
        (box("nan", 1, 5, 5), "not_finite"),
        (box(9, 1, 5, 5), "swapped_corners"),
        (box(5, 5, 5, 5), "degenerate_box"),
        (box(-5, 1, 5, 5), "outside"),
        (box(1, 1, 500, 5), "outside"),
        (box(1, 1, "", 5), "syntax"),
        (box("one", 1, 5, 5), "syntax"),
        (box(1, 1, 5, 5, name=""), "unknown_class"),
        ("<name>open</name>", "syntax"),
    ],
)
def test_d4_voc_objects(tmp_path, thing, kind):
    write(tmp_path, {"Annotations/a.xml": voc(box(1, 1, 5, 5), thing, box(2, 2, 6, 6))})
    (picture,), (fault,), _ = load(tmp_path, "voc")
    assert fault.kind == kind and fault.place.startswith("object[2]")
    assert len(picture.annotations) == 2


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (voc(size=(80, 60)), "size_mismatch"),
        (voc(name="elsewhere.png").replace("a.png", ""), None),
        ("<annotation><object>", "syntax"),
        ("<html></html>", "syntax"),
        ("", "syntax"),
        (b"\xff\xfe\x00", "syntax"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "syntax"),
    ],
)
def test_d4_voc_files(tmp_path, content, kind):
    write(tmp_path, {"Annotations/a.xml": content})
    _, faults, _ = load(tmp_path, "voc")
    assert [fault.kind for fault in faults] == ([kind] if kind else [])


def coco(annotations, images=None, categories=None) -> str:
    return json.dumps(
        {
            "images": images or [{"id": 1, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
            "categories": categories or [{"id": 1, "name": "open"}],
            "annotations": annotations,
        }
    )


GOOD = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ({**GOOD, "id": 2, "bbox": [float("nan"), 1, 5, 5]}, "not_finite"),
        ({**GOOD, "id": 2, "bbox": [1, 1, -5, 5]}, "swapped_corners"),
        ({**GOOD, "id": 2, "bbox": [1, 1, 0, 5]}, "degenerate_box"),
        ({**GOOD, "id": 2, "bbox": [-9, 1, 5, 5]}, "outside"),
        ({**GOOD, "id": 2, "bbox": [1, 1, 500, 5]}, "outside"),
        ({**GOOD, "id": 2, "bbox": [1, 1, 5]}, "syntax"),
        ({**GOOD, "id": 2, "bbox": "1 1 5 5"}, "syntax"),
        ({**GOOD, "id": 2, "bbox": [1, 1, True, 5]}, "syntax"),
        ({**GOOD, "id": 2, "category_id": 9}, "unknown_class"),
        ({"id": 2, "image_id": 1, "bbox": [1, 1, 5, 5]}, "unknown_class"),
        ({**GOOD, "id": 2, "image_id": 9}, "missing_image"),
        ({**GOOD, "id": 2, "image_id": [9]}, "syntax"),
        ({**GOOD, "id": 2, "segmentation": [[1, 1, 5, 5]]}, "degenerate_box"),
        ({**GOOD, "id": 2, "segmentation": [[1, 1, 5, 5, 99, 9]]}, "outside"),
        ({**GOOD, "id": 2, "segmentation": [["a", 1, 5, 5, 9, 9]]}, "syntax"),
        ({**GOOD, "bbox": [2, 2, 5, 5]}, "duplicate_id"),
        ("row", "syntax"),
    ],
)
def test_d4_coco_rows(tmp_path, row, kind):
    write(tmp_path, {"all.json": coco([GOOD, row])})
    (picture,), (fault,), _ = load(tmp_path, "coco")
    assert fault.kind == kind and fault.place.startswith("annotations[1]")
    assert [one.xyxy for one in picture.annotations] == [(1, 1, 6, 6)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (coco([GOOD], images=[{"id": 1, "file_name": "b.png"}]), "missing_image"),
        (coco([], images=[{"id": 1, "file_name": "a.png"}] * 2), "duplicate_id"),
        (coco([GOOD], images=[{"id": 1, "file_name": "a.png", "width": 9}]), "size_mismatch"),
        (coco([], categories=[{"id": 1, "name": "x"}, {"id": 1, "name": "y"}]), "duplicate_id"),
        (coco([], categories=[{"id": 1}]), "syntax"),
        ('{"images": 1, "annotations": [], "categories": []}', "syntax"),
        ("[" * 100_000, "syntax"),
        ("{", "syntax"),
        ("", "syntax"),
        ("[]", "syntax"),
        (b"\xff\xfe", "syntax"),
    ],
)
def test_d4_coco_files(tmp_path, text, kind):
    write(tmp_path, {"all.json": text})
    _, faults, _ = load(tmp_path, "coco")
    assert faults[0].kind == kind and faults[0].file == "all.json"


def test_d4_coco_masks_in_run_lengths_keep_their_box(tmp_path):
    row = {**GOOD, "segmentation": {"counts": "abc", "size": [HEIGHT, WIDTH]}}
    write(tmp_path, {"all.json": coco([row])})
    (picture,), faults, notes = load(tmp_path, "coco")
    assert not faults and [note.kind for note in notes] == ["unread_mask"]
    assert picture.annotations[0].xyxy == (1, 1, 6, 6) and not picture.annotations[0].polygon


def labelme(*shapes, **fields) -> str:
    size = {"imageWidth": WIDTH, "imageHeight": HEIGHT}
    return json.dumps({"shapes": shapes, "imagePath": "a.png", **size, **fields})


def shape(points, kind="rectangle", label="open"):
    return {"label": label, "points": points, "shape_type": kind}


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (shape([[1, 1], [float("nan"), 5]]), "not_finite"),
        (shape([[1, 1], [1, 5]]), "degenerate_box"),
        (shape([[1, 1], [500, 5]]), "outside"),
        (shape([[1, 1]]), "syntax"),
        (shape("1 1 5 5"), "syntax"),
        (shape([]), "syntax"),
        (shape([[1, 1], [5, 5]], label=""), "unknown_class"),
        (shape([[1, 1], [5, 5]], kind="polygon"), "degenerate_box"),
        (shape([[1, 1], [5, 5], [5, float("inf")]], kind="polygon"), "not_finite"),
        (shape([[1, 1], [5, 5]], kind="circle"), "unknown_shape"),
        ("shape", "syntax"),
    ],
)
def test_d4_labelme_shapes(tmp_path, wrong, kind):
    write(tmp_path, {"images/a.json": labelme(shape([[6, 6], [1, 1]]), wrong)})
    (picture,), (fault,), _ = load(tmp_path, "labelme")
    assert fault.kind == kind
    assert [row.xyxy for row in picture.annotations] == [(1, 1, 6, 6)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (labelme(imagePath="b.png").replace("a.png", "b.png"), None),
        (labelme(imageWidth=9), "size_mismatch"),
        ('{"shapes": 1, "imagePath": "a.png"}', "syntax"),
        ("{", "syntax"),
    ],
)
def test_d4_labelme_files(tmp_path, text, kind):
    write(tmp_path, {"images/a.json": text})
    _, faults, _ = load(tmp_path, "labelme")
    assert [fault.kind for fault in faults] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("a.png,nan,1", "not_finite"),
        ("a.png,0.5,0.6", "bad_probability"),
        ("a.png,-0.5,1.5", "bad_probability"),
        ("a.png,one,0.5", "not_finite"),
        ("b.png,0.5,0.5", "missing_image"),
        (",0.5,0.5", "missing_image"),
        ("c.png,0.5,0.5", "duplicate_id"),
        ("a.png,0.5", "syntax"),
        ("a.png,0.5,0.5,1", "syntax"),
    ],
)
def test_d4_csv_lines(tmp_path, line, kind):
    text = f"file,open,short\nc.png,0.25,0.75\n{line}\nd.png,12,36\n"
    pictures = [f"images/{name}.png" for name in "acd"]
    write(tmp_path, {"samples.csv": text}, pictures)
    found, (fault,), _ = load(tmp_path, "csv")
    assert (fault.file, fault.place, fault.kind) == ("samples.csv", "line 3", kind)
    kept = [row for one in found for row in one.annotations]
    assert [row.probabilities for row in kept] == [(("open", 0.25), ("short", 0.75))] * 2


def test_d4_csv_without_a_file_column_and_with_doubled_columns(tmp_path):
    write(tmp_path, {"samples.csv": "name,open\na.png,1\n"})
    assert [fault.place for fault in load(tmp_path, "csv")[1]] == ["line 1"]
    write(tmp_path, {"samples.csv": "file,open,open\na.png,1,0\n"})
    assert [fault.kind for fault in load(tmp_path, "csv")[1]] == ["duplicate_id"]


@pytest.mark.parametrize("name", ["deeppcb", "yolo", "csv", "coco", "labelme", "voc"])
def test_d4_byte_order_mark_and_crlf_are_noted_and_read(tmp_path, name):
    texts = {
        "deeppcb": ("labels/a.txt", "1 1 6 6 1\n"),
        "yolo": ("labels/a.txt", "0 0.5 0.5 0.2 0.2\n"),
        "csv": ("samples.csv", "file,class\na.png,open\n"),
        "coco": ("all.json", coco([GOOD]) + "\n"),
        "labelme": ("images/a.json", labelme(shape([[1, 1], [6, 6]])) + "\n"),
        "voc": ("Annotations/a.xml", voc(box(1, 1, 6, 6)) + "\n"),
    }
    file, text = texts[name]
    content = b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()
    write(tmp_path, {"data.yaml": YAML, file: content})
    (picture,), faults, notes = load(tmp_path, name)
    assert not faults and [row.class_name for row in picture.annotations] == ["open"]
    if name != "voc":  # XML says itself how it is encoded
        assert [note.kind for note in notes] == ["encoding", "encoding"]


def test_d4_a_rounding_is_cut_back_with_a_note(tmp_path):
    write(tmp_path, {"labels/a.txt": f"1 1 {WIDTH + 1} 5 1\n"})
    (picture,), faults, (note,) = load(tmp_path, "deeppcb")
    assert not faults and note.kind == "clipped" and note.place == "line 1"
    assert picture.annotations[0].xyxy == (1, 1, WIDTH, 5)


@pytest.mark.parametrize("name", ["deeppcb", "yolo", "voc", "labelme"])
def test_d4_row_files_without_picture_and_second_files(tmp_path, name):
    texts = {
        "deeppcb": ("labels/{}.txt", "1 1 5 5 1"),
        "yolo": ("labels/{}.txt", "0 0.5 0.5 0.2 0.2"),
        "voc": ("Annotations/{}.xml", voc(box(1, 1, 5, 5))),
        "labelme": ("json/{}.json", labelme(shape([[1, 1], [5, 5]]))),
    }
    place, text = texts[name]
    gone = text.replace("a.png", "gone.png")
    files = {place.format("a"): text, place.format("gone"): gone, "data.yaml": YAML}
    other = "more/a" + place[-4:] if not place.endswith("json") else "more/a.json"
    write(tmp_path, {**files, other: text})
    pictures, faults, _ = load(tmp_path, name)
    assert len(pictures) == 1
    assert sorted(fault.kind for fault in faults) == ["duplicate_id", "missing_image"]


def test_d4_masks_of_other_size_depth_kind_and_class(tmp_path):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[2:5, 3:9] = 1
    pictures = [f"images/{name}.png" for name in "abcde"]
    write(tmp_path, {"classes.txt": "open\n"}, pictures)
    (tmp_path / "masks").mkdir()
    bad = {"b": mask[:9], "c": np.stack([mask] * 3, 2), "d": mask * 7, "a": mask, "e": mask * 255}
    for name, values in bad.items():
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), values)
    found, faults, _ = load(tmp_path, "mask")
    assert [fault.kind for fault in faults] == ["size_mismatch", "bad_image", "unknown_class"]
    by_name = {one.file: one.annotations for one in found}
    assert by_name["images/a.png"][0].xyxy == (3, 2, 9, 5)
    assert by_name["images/d.png"] == ()
    assert by_name["images/e.png"][0].class_name == ""  # 255 says: unknown


@pytest.mark.parametrize("name", FORMATS)
def test_d1_damaged_and_foreign_pictures_are_named(tmp_path, name):
    """Truncated to its first bytes, empty, or in a format that is not read."""
    content = {
        "coco": ("all.json", coco([], images=[{"id": 1, "file_name": "a.png"}])),
        "labelme": ("images/a.json", labelme()),
        "voc": ("Annotations/a.xml", voc()),
        "yolo": ("labels/a.txt", ""),
        "deeppcb": ("labels/a.txt", ""),
        "csv": ("samples.csv", "file,class\na.png,open\n"),
        "mask": ("classes.txt", "open\n"),
        "imagefolder": ("x.txt", ""),
    }
    file, text = content[name]
    pictures = ["open/a.png"] if name == "imagefolder" else ["images/a.png"]
    pictures += ["masks/a.png"] if name == "mask" else []
    for damage in (b"", b"\x89PNG\r\n\x1a\n", b"<html>"):
        write(tmp_path, {"data.yaml": YAML, file: text}, pictures)
        (tmp_path / pictures[0]).write_bytes(damage)
        found, faults, _ = load(tmp_path, name)
        assert not found and [fault.kind for fault in faults] == ["bad_image"]
        assert faults[0].file == pictures[0]
    if name not in ("deeppcb",):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "images" / "z.bmp").write_bytes(b"BM")
        assert any("z.bmp" in str(fault) for fault in load(tmp_path, name)[1])


def test_a_source_like_nothing_offers_the_table(tmp_path):
    write(tmp_path, {"notes.txt": "hello"})
    with open_source(tmp_path) as files, pytest.raises(DataError, match="--format: coco, yolo"):
        guess_format(files)


def test_a_folder_with_a_link_that_leads_out_is_refused(tmp_path):
    write(tmp_path / "set", {})
    (tmp_path / "secret.png").write_bytes(b"x")
    (tmp_path / "set" / "images" / "b.png").symlink_to(tmp_path / "secret.png")
    with open_source(tmp_path / "set") as files, pytest.raises(DataError, match="leads out"):
        guess_format(files)


def test_of_two_pictures_with_one_name_the_nearer_is_meant_or_none(tmp_path):
    row = "1 1 5 5 1\n"
    write(tmp_path, {"labels/a.txt": row}, ["test/a.png", "temp/a.png"])
    pictures, (fault,), _ = load(tmp_path, "deeppcb")
    assert not pictures and fault.kind == "missing_image"
    rows = {f"labels/{split}/a.txt": "0 0.5 0.5 0.25 0.25\n" for split in ("train", "val")}
    folder = tmp_path / "yolo"
    write(folder, {"data.yaml": YAML, **rows}, ["images/train/a.png", "images/val/a.png"])
    pictures, faults, _ = load(folder, "yolo")
    assert not faults and [one.split for one in pictures] == ["train", "val"]
    assert [one.places[0] for one in pictures] == [f"{name}, line 1" for name in rows]
