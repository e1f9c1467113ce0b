"""Redaction: nothing of what is hidden comes back, and what fails is withheld."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from visionloop.core.errors import ConfigError, InputError, PackageError
from visionloop.data.cli import app
from visionloop.data.collection.obscure import MODES, kept_bits, obscure, widen
from visionloop.data.collection.redact import encode_redacted, redact
from visionloop.data.collection.redaction import Redactor
from visionloop.serving.images import decode_image

HEAD = (24, 20, 16, 16, 0, 0.9)
"""Centre, size, class, confidence in 64 x 64 pixels."""
TOOL = (50, 50, 10, 10, 1, 0.9)
FAINT = (50, 14, 12, 12, 0, 0.06)
BOX = np.array([[40, 30, 100, 95]], np.float32)


def heads(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Smooth pictures of heads' size that differ as heads do: (count, size, size, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (count, 5, 5, 3)).astype(np.float32)
    return np.stack(
        [cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse]
    )


def scene(inside: np.ndarray | None = None, seed: int = 9) -> np.ndarray:
    """A picture (128, 160, 3) with something in BOX."""
    picture = np.clip(heads(1, 160, seed)[0][:128], 0, 255).astype(np.uint8)
    if inside is not None:
        x1, y1, x2, y2 = BOX[0].astype(int)
        picture[y1:y2, x1:x2] = np.clip(cv2.resize(inside, (x2 - x1, y2 - y1)), 0, 255)
    return picture


def hide(picture: np.ndarray, mode: str, cells: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return obscure(picture, BOX, mode=mode, cells=cells, generator=generator)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_of_the_inside_survives(mode) -> None:
    """Whatever was in the box, the same comes out: there is nothing to recover."""
    results = [hide(scene(one), mode, 0) for one in heads(4, 64)]
    assert all(np.array_equal(results[0], other) for other in results[1:])
    x1, y1, x2, y2 = BOX[0].astype(int)
    outside = np.ones((128, 160), bool)
    outside[y1:y2, x1:x2] = False
    assert np.array_equal(results[0][outside], scene()[outside])


@pytest.mark.parametrize("mode", MODES)
def test_heads_cannot_be_named_again(mode) -> None:
    """Who has all 300 originals is right as often as by chance; plain blurring tells him all."""
    originals = heads(300, 64)
    x1, y1, x2, y2 = BOX[0].astype(int)
    hidden = [hide(scene(one), mode, 0, seed=n)[y1:y2, x1:x2] for n, one in enumerate(originals)]
    blurred = [cv2.GaussianBlur(one, (0, 0), 16) for one in originals]
    assert name_heads(hidden, blurred) <= 5 / 300  # chance is 1; over 5 once in 1,700
    blurred_by_hand = [np.rint(one) for one in blurred]
    assert name_heads(blurred_by_hand, blurred) > 0.9


def name_heads(hidden, guesses) -> float:
    first = np.stack([cv2.resize(one.astype(np.float32), (32, 32)) for one in hidden])
    second = np.stack([cv2.resize(one.astype(np.float32), (32, 32)) for one in guesses])
    first, second = first.reshape(len(first), -1), second.reshape(len(second), -1)
    distance = ((first[:, None] - second[None]) ** 2).sum(axis=2)
    return float((distance.argmin(axis=1) == np.arange(len(first))).mean())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cells", [1, 2, 4])
def test_kept_cells_bound_what_is_kept(mode, cells) -> None:
    """With the same cells two pictures come out the same, and cells hold few levels."""
    rng = np.random.default_rng(1)
    fine = np.clip(heads(1, 64)[0], 60, 190)
    detail = rng.choice([-25.0, 25.0], (60, 64, 3)).astype(np.float32)
    detail[1::2] = -detail[::2]  # cancels in every cell
    columns, rows = 60, 65
    one = cv2.resize(fine, (columns, rows))
    other = one.copy()
    other[:60] += detail[:, :60]
    results = [hide(scene(one), mode, cells), hide(scene(other), mode, cells)]
    x1, y1, x2, y2 = BOX[0].astype(int)
    first, second = (one[y1:y2, x1:x2].astype(int) for one in results)
    assert abs(scene(one).astype(int) - scene(other)).max() > 20
    assert (abs(first - second).max(axis=2) > 0).mean() < 0.2  # a cell at the edge of a level
    assert kept_bits(columns, rows, cells) <= cells * cells * 9
    if mode == "pixelate":
        assert len(np.unique(first.reshape(-1, 3), axis=0)) <= cells * cells
        assert set(np.unique(first)) <= {16 + 32 * level for level in range(8)}


def test_a_second_head_does_not_shine_into_the_first() -> None:
    """Surroundings are taken from what is outside of all boxes."""
    boxes = np.array([[40, 30, 100, 95], [95, 30, 150, 95]], np.float32)
    results = []
    for colour in (0, 255):
        picture = scene()
        picture[30:95, 40:150] = colour
        generator = np.random.default_rng(0)
        results.append(obscure(picture, boxes, mode="blur", cells=0, generator=generator))
    assert np.array_equal(*results)


def test_a_box_over_everything_becomes_grey() -> None:
    whole = np.array([[0, 0, 160, 128]], np.float32)
    generator = np.random.default_rng(0)
    hidden = obscure(scene(), whole, mode="blur", cells=0, generator=generator)
    assert abs(hidden.mean() - 127.5) < 12 and hidden.std() < 25


def test_boxes_are_widened_and_stay_inside() -> None:
    xyxy = np.array([[10, 10, 20, 30], [-50, 5, 4, 9], [200, 5, 220, 9]], np.float32)
    assert widen(xyxy, 0.1, width=100, height=31).tolist() == [[8, 8, 22, 31], [0, 0, 10, 15]]


class TestRedactor:
    @pytest.fixture
    def package(self, signed, write_detector, tmp_path) -> Path:
        folder = tmp_path / "package"
        write_detector(folder, [HEAD, TOOL, FAINT], ["head", "tool"], "")
        return folder

    def test_only_the_named_classes_are_hidden(self, package) -> None:
        picture = np.tile(scene(), (2, 2, 1))[:128, :128]
        before = picture.copy()
        hidden, boxes = Redactor(package, ["head"], "pixelate", 0.05, 0.0).redact(picture)
        assert np.array_equal(picture, before)
        changed = (hidden != picture).any(axis=2)
        assert [box.tolist() for box in boxes] == [[32, 24, 64, 56], [88, 16, 112, 40]]
        inside = np.zeros((128, 128), bool)
        inside[24:56, 32:64] = inside[16:40, 88:112] = True
        assert not changed[~inside].any() and changed[inside].mean() > 0.9

    def test_confidence_and_margin_decide(self, package) -> None:
        picture = scene()[:128, :128]
        _, sure = Redactor(package, ["head"], "blur", 0.5, 0.25).redact(picture)
        assert [box.tolist() for box in sure] == [[24, 16, 72, 64]]
        _, both = Redactor(package, ["head", "tool"], "blur", 0.01, 0).redact(picture)
        assert len(both) == 3

    def test_noise_is_not_repeated(self, package) -> None:
        redactor = Redactor(package, ["head"])
        assert not np.array_equal(redactor.redact(scene())[0], redactor.redact(scene())[0])

    def test_wrong_settings_are_all_named(self, package) -> None:
        with pytest.raises(ConfigError) as wrong:
            Redactor(package, ["face"], "smear", 0.0, 5.0, cells=9)  # type: ignore[arg-type]
        text = str(wrong.value)
        assert len(wrong.value.problems) == 5
        assert "no class 'face' (it has head, tool)" in text and "mode 'smear'" in text

    def test_an_unsigned_package_hides_nothing(self, package) -> None:
        (package / "manifest.json").write_text("{}")
        with pytest.raises(PackageError):
            Redactor(package, ["head"])


class TestFolder:
    @pytest.fixture
    def package(self, signed, write_detector, tmp_path) -> Path:
        folder = tmp_path / "package"
        write_detector(folder, [HEAD], ["head"], "")
        return folder

    @pytest.fixture
    def pictures(self, tmp_path) -> Path:
        """Three pictures, one in a sub-folder, one with an EXIF thumbnail."""
        folder = tmp_path / "in"
        (folder / "night").mkdir(parents=True)
        for number, name in enumerate(("a.png", "night/b.png")):
            cv2.imwrite(str(folder / name), scene(seed=number))
        exif = Image.Exif()
        exif[0x010E] = "taken by Jane Roe"
        Image.fromarray(scene(seed=3)).save(folder / "c.jpg", exif=exif, comment="Jane")
        (folder / "names.txt").write_text("Jane Roe")
        return folder

    def run(self, workspace, pictures, package, **options):
        out = pictures.parent / "out"
        return redact(
            workspace=workspace, pictures=pictures, out=out, package=package, classes=["head"],
            **options,
        )  # fmt: skip

    def test_a_folder_may_leave(self, workspace, pictures, package) -> None:
        before = hashes(pictures)
        report = self.run(workspace, pictures, package)
        assert hashes(pictures) == before
        assert sorted(hashes(report.out)) == ["a.png", "c.jpg", "night/b.png"]
        assert (report.passed_on, report.boxes, report.without_box) == (3, 3, 0)
        assert report.other_files == 1 and not report.withheld
        for name in ("a.png", "night/b.png"):
            hidden = cv2.imread(str(report.out / name))
            # 16 of 64 pixels wide is 40 of 160, and the margin 10 on each side.
            changed = (hidden != cv2.imread(str(pictures / name))).any(axis=2)
            assert changed[28:60, 44:76].mean() > 0.9 and not changed[90:].any()
        content = json.loads((report.page.parent / "redact.json").read_text())
        assert content["passed_on"] == 3 and content["most_bits_kept_of_a_box"] == 0
        names = {row["name"]: row["sha256"] for row in content["pictures"]}
        assert names == hashes(report.out)
        assert not list(pictures.parent.glob(".out*"))

    def test_only_pixels_go_along(self, workspace, pictures, package) -> None:
        assert b"Jane Roe" in (pictures / "c.jpg").read_bytes()
        content = (self.run(workspace, pictures, package).out / "c.jpg").read_bytes()
        assert b"Jane" not in content and b"Exif" not in content
        assert not Image.open(io.BytesIO(content)).getexif()

    def test_what_cannot_be_processed_is_withheld(self, workspace, pictures, package) -> None:
        whole = (pictures / "a.png").read_bytes()
        (pictures / "half.png").write_bytes(whole[: len(whole) // 2])
        (pictures / "text.jpg").write_text("hello")
        (pictures / "link.png").symlink_to(pictures / "a.png")
        report = self.run(workspace, pictures, package)
        assert sorted(hashes(report.out)) == ["a.png", "c.jpg", "night/b.png"]
        assert sorted(report.withheld) == ["half.png", "link.png", "text.jpg"]
        assert "truncated" in report.withheld["half.png"]
        page = report.page.read_text()
        assert "3 withheld" in page and "half.png" in page

    def test_a_failing_model_passes_nothing_on(
        self, workspace, pictures, signed, write_detector, tmp_path
    ) -> None:
        """Boxes that are not numbers: an answer nobody can redact by."""
        package = tmp_path / "broken"
        write_detector(package, [(float("nan"), 20, 16, 16, 0, 0.9)], ["head"], "")
        report = self.run(workspace, pictures, package)
        assert report.passed_on == 0 and sorted(report.withheld) == [
            "a.png",
            "c.jpg",
            "night/b.png",
        ]
        assert not hashes(report.out)

    def test_folders_that_would_mix_are_refused(self, workspace, pictures, package) -> None:
        for out in (pictures, pictures / "out", pictures.parent):
            with pytest.raises(InputError):
                redact(
                    workspace=workspace, pictures=pictures, out=out, package=package,
                    classes=["head"],
                )  # fmt: skip
        with pytest.raises(InputError, match="holds no PNG or JPEG"):
            self.run(workspace, package, package)

    def test_killed_and_run_again_it_is_complete(self, workspace, pictures, package) -> None:
        out = pictures.parent / "out"
        command = [
            sys.executable, "-m", "visionloop.data", "redact", str(pictures), str(out),
            "--package", str(package), "--classes", "head", "-w", str(workspace.root),
        ]  # fmt: skip
        for place in ("redact.picture:kill:2", "redact.before_rename:kill:1"):
            killed = dict(os.environ, VISIONLOOP_FAILPOINT=place)
            assert subprocess.run(command, env=killed, capture_output=True).returncode == -9
            assert not out.exists()
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "going on: 3 pictures are done" in done.stderr
        assert "3 pictures with 3 boxes redacted" in done.stdout
        assert len(hashes(out)) == 3 and not list(out.parent.glob(".out*"))

    def test_what_was_taken_away_meanwhile_does_not_leave(
        self, workspace, pictures, package, monkeypatch
    ) -> None:
        """Interrupted; then one original is removed and one is damaged."""
        monkeypatch.setenv("VISIONLOOP_FAILPOINT", "redact.before_rename:interrupt:1")
        with pytest.raises(KeyboardInterrupt):
            self.run(workspace, pictures, package)
        monkeypatch.delenv("VISIONLOOP_FAILPOINT")
        (pictures / "a.png").unlink()
        (pictures / "c.jpg").write_bytes(b"damaged")
        report = self.run(workspace, pictures, package)
        assert list(hashes(report.out)) == ["night/b.png"] and list(report.withheld) == ["c.jpg"]

    def test_other_settings_begin_anew(self, workspace, pictures, package) -> None:
        staging = pictures.parent / ".out.redacting"
        (staging / "pictures").mkdir(parents=True)
        (staging / "settings.sha256").write_text("those of another run")
        cv2.imwrite(str(staging / "pictures" / "left.png"), scene())
        assert "left.png" not in hashes(self.run(workspace, pictures, package).out)

    def test_the_command_asks_for_real_settings(self, workspace, pictures, package) -> None:
        options = ["--package", str(package), "--classes", "face", "-w", str(workspace.root)]
        done = CliRunner().invoke(app, ["redact", str(pictures), str(pictures) + "2", *options])
        assert isinstance(done.exception, ConfigError)
        assert not Path(str(pictures) + "2").exists()


def test_a_redacted_file_is_made_of_pixels() -> None:
    for suffix in (".png", ".jpg"):
        coded = encode_redacted(scene(), suffix)
        assert decode_image(coded, suffix=suffix).shape == (128, 160, 3)


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
