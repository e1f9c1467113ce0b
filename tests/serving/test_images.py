"""Damaged images are refused with a reason, before OpenCV guesses or swells."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from visionloop.core.errors import DataError
from visionloop.serving.images import read_header, read_image

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)


def encode(suffix: str, *options: int) -> bytes:
    return bytes(cv2.imencode(suffix, PICTURE, list(options))[1])


def refusal(path) -> str:
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG"])
def test_good_images_are_read(tmp_path, suffix):
    path = tmp_path / f"good{suffix}"
    path.write_bytes(encode(suffix.lower()))
    image = read_image(path)
    assert image.shape == (48, 64, 3)
    assert image.dtype == np.uint8
    if suffix == ".png":
        assert np.array_equal(image, PICTURE)


def test_progressive_and_restart_jpegs_are_read(tmp_path):
    for number, options in enumerate(
        [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)]
    ):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(encode(".jpg", *options))
        assert read_image(path).shape == (48, 64, 3)


def test_grey_and_16_bit_images_become_8_bit_colour(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), PICTURE[:, :, 0])
    cv2.imwrite(str(tmp_path / "deep.png"), PICTURE.astype(np.uint16) * 257)
    assert read_image(tmp_path / "grey.png").shape == (48, 64, 3)
    assert np.array_equal(read_image(tmp_path / "deep.png"), PICTURE)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9, 0.999])
def test_truncated_images_are_refused(tmp_path, suffix, share):
    content = encode(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(len(content) * share)])
    text = refusal(path)
    assert "truncated" in text or "neither" in text


def test_a_jpeg_whose_thumbnail_has_an_end_is_still_truncated(tmp_path):
    """The end marker inside an APP1 segment is not the end of the image."""
    content = encode(".jpg")
    thumbnail = b"Exif\0\0" + encode(".jpg")[:200] + b"\xff\xd9"
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path = tmp_path / "thumbnail.jpg"
    path.write_bytes(content[:2] + segment + content[2 : len(content) // 2])
    assert "truncated" in refusal(path)


def test_a_damaged_png_is_refused(tmp_path):
    content = bytearray(encode(".png"))
    content[len(content) // 2] ^= 0xFF
    path = tmp_path / "damaged.png"
    path.write_bytes(content)
    assert "checksum" in refusal(path)


def test_zero_bytes_missing_and_text_are_refused(tmp_path):
    empty, text = tmp_path / "empty.png", tmp_path / "notes.png"
    empty.write_bytes(b"")
    text.write_text("these are notes")
    assert "0 bytes" in refusal(empty)
    assert "neither a PNG nor a JPEG" in refusal(text)
    assert "cannot be read" in refusal(tmp_path / "missing.png")


@pytest.mark.parametrize(("content", "name"), [(".png", "a.jpg"), (".jpg", "a.png")])
def test_renamed_images_are_refused(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(encode(content))
    assert "rename the file" in refusal(path)


def bomb(width: int, height: int) -> bytes:
    """A PNG of one colour: a few kilobytes that claim gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    rows = zlib.compress(bytes((width + 1) * 100), 9)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_from_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(30_000, 30_000))
    program = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "from visionloop.core.errors import DataError\n"
        "from visionloop.serving.images import read_image\n"
        "try:\n    read_image(sys.argv[1])\nexcept DataError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "30000 x 30000 pixels, more than 64 megapixels" in done.stdout


def test_a_jpeg_that_claims_too_much_is_refused():
    content = bytearray(encode(".jpg"))
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(DataError, match="megapixels"):
        read_header(bytes(content))
