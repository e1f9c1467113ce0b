"""Shapes there and back: generated ones, the SDK's run lengths, and the server's own export."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionloop.core.config import load_project
from visionloop.data.formats import coco
from visionloop.labeling.client import connect
from visionloop.labeling.project import find_project, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.region_changes import compare
from visionloop.labeling.regions import Region, from_result, to_result
from visionloop.labeling.shapes import bounds, filled, from_mask, to_mask

CLASSES = ["open", "short", "spur"]
WIDTH, HEIGHT = 60, 40
sizes = st.tuples(st.integers(20, 4000), st.integers(20, 4000))
fraction = st.floats(0, 1)


@given(sizes, st.lists(st.tuples(fraction, fraction), min_size=3, max_size=12, unique=True))
def test_polygons_survive_percent_and_back(size, points) -> None:
    width, height = size
    ring = tuple(number for x, y in points for number in (x * width, y * height))
    box = bounds([ring])
    if box[2] - box[0] < 1e-3 or box[3] - box[1] < 1e-3:
        return
    region = Region("open", box, "a", None, (ring,))
    (back,), problems = from_result(to_result([region], width, height), width, height)
    assert not problems
    assert back.polygon[0] == pytest.approx(ring, abs=1e-8 * max(size))
    assert back.xyxy == pytest.approx(box, abs=1e-8 * max(size))
    assert compare([region], [back]) == (["accepted"], 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.integers(3, 40))
def test_masks_survive_label_studios_run_lengths(seed, width, height) -> None:
    """Blots without holes, as a brush leaves them."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        centre = int(rng.integers(width)), int(rng.integers(height))
        cv2.circle(mask, centre, int(rng.integers(1, 6)), 255, -1)
    whole = np.zeros_like(mask)
    parts, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(whole, parts, -1, 255, -1)
    pixels = np.repeat(whole[:, :, None], 4, axis=2).reshape(-1)
    from label_studio_sdk.converter.brush import encode_rle

    rings = from_mask(encode_rle(pixels), width, height)
    np.testing.assert_array_equal(filled(rings, width, height), whole)
    assert from_mask(to_mask(rings, width, height), width, height) == rings


def test_a_single_painted_pixel_is_no_error() -> None:
    mask = np.zeros((9, 9, 4), np.uint8)
    mask[4, 5] = 255
    from label_studio_sdk.converter.brush import encode_rle

    (ring,) = from_mask(encode_rle(mask.reshape(-1)), 9, 9)
    assert len(ring) >= 6
    assert set(ring[::2]) == {5.0}


def turned(picture: np.ndarray, turn: int) -> np.ndarray:
    codes = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(picture, codes[turn]) if turn else picture


@given(st.sampled_from([0, 90, 180, 270]), st.integers(0, 20), st.integers(0, 10),
       st.integers(3, 20), st.integers(3, 15))  # fmt: skip
def test_a_box_on_a_turned_image_is_where_it_was_seen(turn, x, y, width, height) -> None:
    """A bright patch, the picture turned as OpenCV turns it, and the patch's box in percent."""
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    picture[y : y + height, x : x + width] = 255
    shown = turned(picture, turn)
    rows, columns = np.nonzero(shown)
    down, across = shown.shape
    value = {
        "x": 100 * columns.min() / across,
        "y": 100 * rows.min() / down,
        "width": 100 * (columns.max() + 1 - columns.min()) / across,
        "height": 100 * (rows.max() + 1 - rows.min()) / down,
        "rotation": 0,
        "rectanglelabels": ["open"],
    }
    entry = to_result([Region("open", (1, 1, 2, 2), "a")], WIDTH, HEIGHT)[0]
    entry |= {"image_rotation": turn, "value": value}
    (region,), problems = from_result([entry], WIDTH, HEIGHT)
    assert not problems
    assert region.xyxy == pytest.approx((x, y, x + width, y + height))


def test_what_cannot_be_placed_is_told() -> None:
    box = to_result([Region("open", (1, 1, 5, 5), "a")], WIDTH, HEIGHT)[0]
    parts = ((1, 1, 5, 1, 5, 5), (9, 9, 12, 9, 12, 12))
    mask = to_result([Region("open", (1, 1, 12, 12), "a", None, parts)], WIDTH, HEIGHT)[0]
    assert mask["type"] == "brushlabels"
    damaged = {**mask, "value": {**mask["value"], "rle": mask["value"]["rle"][:9]}}
    cases = [
        ({**box, "item_index": 2}, "further page"),
        ({**box, "original_width": HEIGHT, "original_height": WIDTH}, "EXIF"),
        ({**box, "image_rotation": 45}, "turned by 45"),
        ({**mask, "image_rotation": 90}, "mask was drawn on a turned image"),
        (damaged, "a mask is damaged"),
    ]
    for entry, text in cases:
        regions, problems = from_result([entry], WIDTH, HEIGHT)
        assert not regions
        assert text in problems[0]


def generated(rng: np.random.Generator, count: int) -> list[Region]:
    """Boxes, polygons and masks of all sizes."""
    regions = []
    for number in range(count):
        x1, y1 = rng.uniform(0, WIDTH - 8), rng.uniform(0, HEIGHT - 8)
        x2, y2 = rng.uniform(x1 + 4, WIDTH), rng.uniform(y1 + 4, HEIGHT)
        name, key = CLASSES[int(rng.integers(3))], f"r{number}"
        ring = (x1, y1, x2, (y1 + y2) / 2, (x1 + x2) / 2, y2)
        kind = number % 3
        polygon = ((), (ring,), (_whole(ring), _whole(_shifted(ring))))[kind]
        box = (x1, y1, x2, y2) if kind == 0 else bounds(polygon)
        regions.append(Region(name, box, key, None, polygon))
    return regions


def _shifted(ring) -> tuple[float, ...]:
    return tuple(number - 6 for number in ring)


def _whole(ring) -> tuple[float, ...]:
    """At the centres of pixels, inside the image."""
    limits = (WIDTH - 1, HEIGHT - 1) * (len(ring) // 2)
    return tuple(float(np.clip(round(n), 0, most)) for n, most in zip(ring, limits, strict=True))


@pytest.fixture
def desk(neighbour):
    space = neighbour.boards
    text = space.params.read_text()
    if "interface" not in text:
        space.params.write_text(re.sub(r"labeling: \{", "labeling: {interface: polygons, ", text))
    setup(workspace=space)
    client = connect(space)
    project = find_project(client, load_project(space.params))["id"]
    # A mask beside polygons and boxes: all shapes in one project.
    config = client.get(f"/api/projects/{project}/")["label_config"]
    labels = "".join(f'<Label value="{name}"/>' for name in CLASSES)
    mask = f'<BrushLabels name="mask" toName="image">{labels}</BrushLabels>'
    config = config.replace("</View>", f"{mask}</View>")
    client.patch(f"/api/projects/{project}/", {"label_config": config})
    return neighbour, client, project


def test_generated_shapes_come_back_as_the_servers_own_export_has_them(desk) -> None:
    """120 shapes on 12 tasks in one import; read by the pull, as JSON, and as the server's COCO."""
    project_of, client, project = desk
    rng = np.random.default_rng(0)
    shapes = {one: generated(rng, 10) for one in project_of.ids[:12]}
    tasks = [
        {
            "data": {"image": f"/data/local-files/?d=images/{one}.png", "sample_id": one,
                     "look": "first"},
            "annotations": [{"result": to_result(regions, WIDTH, HEIGHT, origins={})}],
        }
        for one, regions in shapes.items()
    ]  # fmt: skip
    client.post(f"/api/projects/{project}/import", tasks)
    exported = client.get(f"/api/projects/{project}/export", exportType="JSON")
    assert len(exported) == len(shapes)
    for task in exported:
        wanted = shapes[task["data"]["sample_id"]]
        back, problems = from_result(task["annotations"][0]["result"], WIDTH, HEIGHT)
        assert not problems
        assert len(back) > 8  # a mask that was cut down to a line has no area
        drawn = {region.key: region for region in wanted}
        for have in back:
            want = drawn[have.key]
            assert have.class_name == want.class_name
            assert have.xyxy == pytest.approx(
                want.xyxy, abs=1.01 if len(want.polygon) > 1 else 1e-6
            )
    space = project_of.boards
    pull(workspace=space)
    mine = coco.load(space.studio_annotations)[1]
    theirs = _server_coco(client, project)
    boxes = {one: sorted(_boxes(rows)) for one, rows in theirs.items()}
    for one in shapes:
        own = sorted(row.xyxy for row in mine if row.sample_id == one and not _is_mask(row, shapes))
        assert len(own) == len(boxes[one])
        np.testing.assert_allclose(own, boxes[one], atol=1e-2)


def _is_mask(row, shapes) -> bool:
    """The server's COCO export leaves brush masks out."""
    masks = [region.xyxy for region in shapes[row.sample_id] if len(region.polygon) > 1]
    return any(np.allclose(row.xyxy, box, atol=1.01) for box in masks) and len(row.polygon) >= 1


def _boxes(rows) -> list[tuple[float, ...]]:
    return [(x, y, x + w, y + h) for x, y, w, h in (row["bbox"] for row in rows)]


def _server_coco(client, project) -> dict[str, list[dict]]:
    headers = {"Authorization": f"Bearer {client._fresh_access()}"}
    answer = httpx.get(f"{client.url}/api/projects/{project}/export", headers=headers, timeout=60,
                       params={"exportType": "COCO", "download_resources": "false"})  # fmt: skip
    answer.raise_for_status()
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(BytesIO(answer.content)).extractall(folder)
        content = json.loads((Path(folder) / "result.json").read_text())
    names = {
        row["id"]: re.search(r"([0-9a-f]{64})", row["file_name"])[1] for row in content["images"]
    }
    found: dict[str, list[dict]] = {name: [] for name in names.values()}
    for row in content["annotations"]:
        found[names[row["image_id"]]].append(row)
    return found
