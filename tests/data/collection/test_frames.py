"""What is judged on one frame: whether it is new, the lens, the exposure."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from visionloop.data.collection.cameras import DiversityParams
from visionloop.data.collection.diversity import KeptPictures, Look
from visionloop.data.collection.exposure import read_exposure
from visionloop.data.collection.lens import judge_lens
from visionloop.data.collection.params import LensParams
from visionloop.data.splits.near_duplicates import hash_image
from visionloop.data.synthesis.conditions.table import apply_condition


def look(image, embedding=None) -> Look:
    vector = None if embedding is None else np.asarray(embedding, np.float32)
    return Look(hash_image(image), vector)


def test_the_same_view_with_noise_or_other_light_is_too_similar(make):
    kept, params = KeptPictures(10), DiversityParams()
    image = make.picture(1)
    assert kept.resembles(look(image), params) == ""
    kept.add(look(image))
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    noisy = np.clip(image + noise, 0, 255).astype(np.uint8)
    darker = (image * 0.8).astype(np.uint8)
    assert kept.resembles(look(noisy), params) == "hash"
    assert kept.resembles(look(darker), params) == "hash"
    assert kept.resembles(look(make.picture(2)), params) == ""
    assert kept.resembles(look(noisy), DiversityParams(hash_bits=None)) == ""


def test_two_even_pictures_are_alike_and_the_embedding_decides_after_the_hash(make):
    kept, params = KeptPictures(10), DiversityParams(embedding_distance=0.1)
    kept.add(look(np.full((64, 64, 3), 90, np.uint8)))
    assert kept.resembles(look(np.full((64, 64, 3), 140, np.uint8)), params) == "hash"
    kept.add(look(make.picture(1), [1, 0, 0]))
    assert kept.resembles(look(make.picture(2), [5, 0.5, 0]), params) == "embedding"
    assert kept.resembles(look(make.picture(2), [1, 2, 0]), params) == ""
    assert kept.resembles(look(make.picture(2), [0, 0, 0]), params) == ""


def test_only_the_newest_are_compared(make):
    kept, params = KeptPictures(100), DiversityParams(hash_bits=0, correlation=0.999)
    for number in range(150):
        kept.add(look(make.picture(number)))
    assert len(kept) == 100
    assert kept.resembles(look(make.picture(149)), params) == "hash"
    assert kept.resembles(look(make.picture(50)), params) == "hash"
    assert kept.resembles(look(make.picture(49)), params) == ""


def test_the_lens_is_judged():
    scene = _scene()
    params = LensParams()
    assert judge_lens(scene, params) == "clear"
    assert judge_lens(apply_condition(scene, "fog", 5, 0), params) == "fogged"
    assert judge_lens(apply_condition(scene, "defocus", 5, 0), params) == "dirty"
    assert judge_lens((scene * 0.15).astype(np.uint8), params) == "dark"
    assert judge_lens(np.clip(scene.astype(int) + 150, 0, 255).astype(np.uint8), params) == (
        "overexposed"
    )
    assert judge_lens(np.full((50, 60), 120, np.uint8), params) == "clear"


def _scene() -> np.ndarray:
    """Shapes of every size, as in a picture of a hall: detail down to the pixel."""
    generator = np.random.default_rng(5)
    scene = np.full((480, 640, 3), 120, np.uint8)
    for _ in range(400):
        size = int(4 + 60 * generator.random() ** 3)
        x, y = int(generator.integers(0, 640)), int(generator.integers(0, 480))
        grey = int(generator.integers(40, 200))
        cv2.rectangle(scene, (x, y), (x + size, y + size), (grey, grey, grey), -1)
    return scene


def test_exposure_is_read_where_the_file_names_it():
    exif = Image.Exif()
    exif[0x010F] = "maker"  # Pillow writes no EXIF into a PNG without a tag of the first level
    exif.get_ifd(0x8769)[0x829A] = 0.008
    exif.get_ifd(0x8769)[0x8827] = 200
    for kind in ("JPEG", "PNG"):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, kind, exif=exif)
        found = read_exposure(file.getvalue())
        assert found["exposure_s"] == pytest.approx(0.008) and found["iso"] == 200
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    assert read_exposure(file.getvalue()) == {} == read_exposure(None) == read_exposure(b"no image")
