"""Head detectors of the hard-hat pictures, out of fold, made with the project's own verbs.

181 pictures with 668 annotated heads (538 with a helmet, 130 without) are shared out in two
folds; near-duplicates stay together. Each fold's detector is imported, split, frozen, trained
and exported by the verbs of the project, from COCO weights, and never saw the other fold. The
packages are kept in ``results/redaction/``, so an interrupted run goes on. Ultralytics is
AGPL-3.0; ``hardhat.zip`` from ``VISIONLOOP_MIRROR``, weights from ``VISIONLOOP_WEIGHTS``.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import yaml
from numpy.typing import NDArray
from report import RESULTS

from visionloop.core.entities import Annotation
from visionloop.core.files import sha256_of_bytes, write_bytes
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.signing import new_key_pair

__all__ = [
    "FOLDS",
    "FoldPackage",
    "HeadPicture",
    "load_fold_packages",
    "load_pictures",
    "share_out",
]

FOLDS = 2
PASSES = 1000
"""Image passes of each training."""
PIXELS = 416
KEEP = RESULTS / "redaction"
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, eq=False)
class HeadPicture:
    """A picture: file content, pixels (H, W, 3) BGR, heads float32 (N, 4), is bare bool (N,)."""

    name: str
    content: bytes
    image: NDArray[np.uint8]
    heads: NDArray[np.float32]
    is_bare: NDArray[np.bool_]


@dataclass(frozen=True)
class FoldPackage:
    """A package, and the public key of the throw-away key that signed it."""

    path: Path
    public_key: Path


def load_pictures() -> list[HeadPicture]:
    """All pictures of ``hardhat.zip`` by name."""
    from visionloop.serving.images import decode_image

    pictures = []
    with zipfile.ZipFile(Path(os.environ["VISIONLOOP_MIRROR"]) / "hardhat.zip") as archive:
        for member in sorted(one for one in archive.namelist() if one.endswith(".xml")):
            stem = Path(member).stem
            content = archive.read(f"dataset/images/{stem}.jpg")
            rows = list(ElementTree.fromstring(archive.read(member)).iter("object"))
            xyxy = [
                [float(row.findtext(f"bndbox/{side}", "nan")) for side in SIDES] for row in rows
            ]
            bare = [row.findtext("name") == "No Safety Helmet" for row in rows]
            heads = np.array(xyxy, np.float32).reshape(-1, 4)
            image = decode_image(content, subject=stem)
            pictures.append(HeadPicture(stem, content, image, heads, np.array(bare, bool)))
    return pictures


def share_out(pictures: list[HeadPicture]) -> NDArray[np.int64]:
    """The fold of every picture: groups of near-duplicates, largest first, to the fold with
    the fewest heads so far."""
    from visionloop.data.splits.near_duplicates import find_near_duplicates, hash_image, join_groups

    hashes = [hash_image(one.image) for one in pictures]
    pairs = find_near_duplicates(hashes, max_distance=12, min_correlation=0.9)
    groups = join_groups(len(pictures), [(first, second) for first, second, _ in pairs])
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[int(group)].append(place)
    heads = np.zeros(FOLDS)
    folds = np.zeros(len(pictures), np.int64)
    for inside in sorted(members.values(), key=lambda rows: (-len(rows), rows[0])):
        fold = int(heads.argmin())
        folds[inside] = fold
        heads[fold] += sum(len(pictures[place].heads) for place in inside)
    say_step(f"{len(pairs)} near-duplicate pairs, heads by fold {heads.astype(int).tolist()}")
    return folds


def load_fold_packages(pictures: list[HeadPicture], folds: NDArray[np.int64]) -> list[FoldPackage]:
    """The package that answers each fold; trains what is not there yet."""
    packages = []
    for fold in range(FOLDS):
        place = Workspace(KEEP / f"fold-{fold}")
        public_key = place.root / "trusted.pub.pem"
        if not public_key.is_file():
            learned = [one for one, other in zip(pictures, folds, strict=True) if other != fold]
            say_step(f"fold {fold}: {len(learned)} pictures, {PASSES} passes")
            with tempfile.TemporaryDirectory() as name:
                private, public = new_key_pair(Path(name) / "keys")
                os.environ["VISIONLOOP_SIGNING_KEY"] = str(private)
                _train(place, learned)
                write_bytes(public_key, public.read_bytes())
        packages.append(FoldPackage(place.package, public_key))
    return packages


def _train(place: Workspace, pictures: list[HeadPicture]) -> None:
    from visionloop.data.datasets.imports import import_raw_samples
    from visionloop.data.splits.split import split
    from visionloop.data.versions.freeze import freeze
    from visionloop.training.export import export
    from visionloop.training.train import train

    _write_settings(place)
    samples = [_raw_sample(one) for one in pictures]
    import_raw_samples(samples, workspace=place, classes=["head"], name="heads", source="hardhat")
    split(workspace=place)
    freeze(workspace=place, replace=True)
    train(workspace=place)
    print(export(workspace=place).parity_summary)


def _raw_sample(picture: HeadPicture) -> object:
    from visionloop.data.datasets.table import RawSample

    sample_id = sha256_of_bytes(picture.content)
    rows = tuple(
        Annotation(sample_id, "head", (float(x1), float(y1), float(x2), float(y2)))
        for x1, y1, x2, y2 in picture.heads
    )
    return RawSample(
        content=picture.content,
        suffix="jpg",
        camera="hardhat",
        site="web",
        captured_at="2020-01-01T00:00:00Z",
        annotations=rows or (Annotation(sample_id, ""),),
        phase="commissioning",
    )


def _write_settings(place: Workspace) -> None:
    """``params.yaml`` and ``targets.yaml`` of the board recipe, for heads."""
    recipe = Path(__file__).parents[1] / "training" / "configs" / "pcb.yaml"
    content = yaml.safe_load(recipe.read_text())
    project = content["params"]["project"] | {"model": "heads", "classes": ["head"]}
    training = content["params"]["training"] | {
        "image_size": PIXELS,
        "image_passes": PASSES,
        "batch_size": 8,
        "learning_rate": 0.002,
        "allow_scratch": False,
        "export": {"min_confidence": 0.05, "max_iou": 0.6},
    }
    data = {
        "dataset": "elpv",  # not read: the samples are given
        "import": {"phases": ["commissioning"]},
        "version": "v1",
        "split": {"val_fraction": 0.1},
    }
    params = {
        "project": {"recipe": "heads", "seed": 0, **project},
        "data": data,
        "training": training,
    }
    place.root.mkdir(parents=True, exist_ok=True)
    place.params.write_text(yaml.safe_dump(params, sort_keys=False))
    targets = content["targets"]
    targets["quality"] |= {"per_class": {}, "slices": []}
    place.targets.write_text(yaml.safe_dump(targets, sort_keys=False))


def main() -> None:
    """Train what is not there yet."""
    import torch

    torch.set_num_threads(1)
    pictures = load_pictures()
    for package in load_fold_packages(pictures, share_out(pictures)):
        print(package.path)


if __name__ == "__main__":
    main()
