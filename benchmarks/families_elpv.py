"""Classification families on 2,624 solar cells (elpv): accuracy at p > .5, pooled over 4 folds.

The protocol of the published figures (CNN 88.4 %, SVM 82.4 %: Deitsch et al., 2019): a cell is
defective if people gave it a probability above one half. Folds are stratified by that and by the
kind of cell, drawn once (seed 0); of the three training folds an eighth chooses the epoch.
Both rows are trained by the stage's own verb: a head on frozen features, and every weight.

A file a (fold, row); a training that was cut off by ``--minutes`` goes on at its last epoch.

    python benchmarks/families_elpv.py [--folds 4] [--epochs 12] [--average-decay 0.99] [--report]
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from backbone import embed_files
from family_runs import make_project, train_within
from numpy.typing import NDArray
from report import RESULTS, make_row, save_results

from visionloop.core.entities import Annotation
from visionloop.core.files import read_json, write_json
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step, track
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.elpv import ElpvDataset
from visionloop.data.datasets.table import RawSample
from visionloop.serving.images import decode_image
from visionloop.serving.preprocess import make_batch
from visionloop.training.checkpoint import load_checkpoint
from visionloop.training.families.table import load_family

FOLDER = RESULTS / "families_elpv"
CLASSES = ("functional", "defective")
TARGET, PUBLISHED = 0.88, 0.884


def main() -> None:
    """Train what is missing, print the table, write ``results/families_elpv.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folds", type=int, default=4, help="of the four, so many are trained")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--average-decay", type=float, default=0.99, help="of the weights; 0 none")
    parser.add_argument("--minutes", type=float, default=0.0, help="end after so long; 0 never")
    parser.add_argument("--report", action="store_true", help="only what is there already")
    options = parser.parse_args()
    set_quiet_environment()
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    dataset = ElpvDataset(seed=0)
    cells, known = list(dataset.samples()), dataset.truth()
    truth = np.array([known[one.sample_id][0].class_name == "defective" for one in cells])
    kinds = [str(one.attributes["cell_type"]) for one in cells]
    folds = fold_of(truth, kinds)
    rows = [frozen_row(cells, truth, folds)] if not options.report else []
    right, count, done = 0, 0, 0
    for fold in range(options.folds):
        kind = f"whole-{options.epochs}-{options.image_size}-{options.average_decay:g}"
        path = FOLDER / f"{kind}-{fold}.json"
        if not path.is_file() and not options.report and time.monotonic() < end:
            run(cells, truth, folds, fold, options, end, path)
        if path.is_file():
            found = read_json(path)
            right, count, done = right + found["right"], count + found["count"], done + 1
    if count:
        claim = f"EfficientNet-Lite0, every weight, {options.epochs} epochs, {done} of 4 folds"
        rows.append(
            make_row(
                f"{claim}: accuracy", right / count, peer=PUBLISHED, peer_name="published CNN",
                target=TARGET,
            )
        )  # fmt: skip
    save_results("families_elpv", rows)


def fold_of(truth: NDArray[np.bool_], kinds: list[str]) -> NDArray[np.int64]:
    """The fold of each cell, 0 to 3; classes and kinds of cells are dealt out evenly."""
    rng = np.random.default_rng(0)
    folds = np.zeros(len(truth), np.int64)
    for stratum in sorted({(bool(t), k) for t, k in zip(truth, kinds, strict=True)}):
        rows = [
            n for n, one in enumerate(zip(truth, kinds, strict=True))
            if (bool(one[0]), one[1]) == stratum
        ]  # fmt: skip
        folds[rng.permutation(rows)] = np.arange(len(rows)) % 4
    return folds


def frozen_row(
    cells: list[RawSample], truth: NDArray[np.bool_], folds: NDArray[np.int64]
) -> dict[str, Any]:
    """A linear head on frozen features: the optimum that mode frozen finds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    path = FOLDER / "features.npy"
    if not path.is_file():
        FOLDER.mkdir(parents=True, exist_ok=True)
        np.save(path, embed_files([one.content for one in cells]))
    features = np.load(path)
    right = 0
    for fold in range(4):
        head = make_pipeline(StandardScaler(), LogisticRegression(C=1 / 500, max_iter=2000))
        head.fit(features[folds != fold], truth[folds != fold])
        right += int((head.predict(features[folds == fold]) == truth[folds == fold]).sum())
    claim = "EfficientNet-Lite0, frozen features, 4 folds: accuracy"
    return make_row(claim, right / len(truth), peer=PUBLISHED, peer_name="published CNN")


def run(
    cells: list[RawSample],
    truth: NDArray[np.bool_],
    folds: NDArray[np.int64],
    fold: int,
    options: argparse.Namespace,
    end: float,
    path: Path,
) -> None:
    """Train every weight without this fold, and answer for it; nothing is written if cut off."""
    workspace = Workspace(FOLDER / "work" / path.stem)
    if not workspace.params.is_file():
        prepare(workspace, cells, truth, folds, fold, options)
    say_step(f"fold {fold}: every weight")
    left = None if end == float("inf") else max(1.0, end - time.monotonic())
    if not train_within(workspace, left):
        return
    checkpoint = load_checkpoint(workspace.checkpoint)
    network = load_family("efficientnet", workspace.root).build(checkpoint)
    mine = np.flatnonzero(folds == fold)
    right = 0
    with torch.inference_mode():
        for start in track(range(0, len(mine), 16), f"answers of fold {fold}"):
            chosen = mine[start : start + 16]
            images = [decode_image(cells[one].content) for one in chosen]
            batch, _ = make_batch(images, checkpoint.facts.input)
            said = network(torch.from_numpy(batch))[0][:, 1].numpy() > 0.5
            right += int((said == truth[chosen]).sum())
    write_json(path, {"right": right, "count": len(mine), "metrics": checkpoint.facts.metrics})
    shutil.rmtree(workspace.root)


def prepare(
    workspace: Workspace,
    cells: list[RawSample],
    truth: NDArray[np.bool_],
    folds: NDArray[np.int64],
    fold: int,
    options: argparse.Namespace,
) -> None:
    """A project without this fold; of the rest an eighth chooses the epoch."""
    rest = np.random.default_rng([fold, 9]).permutation(np.flatnonzero(folds != fold))
    splits = ["val" if place < len(rest) // 8 else "train" for place in range(len(rest))]
    make_project(
        workspace,
        [cells[one] for one in rest],
        vision_task="classification",
        classes=CLASSES,
        annotations=[[Annotation("", CLASSES[int(truth[one])])] for one in rest],
        splits=splits,
        groups=[cells[one].sample_id for one in rest],
        training={
            "mode": "full",
            "epochs": options.epochs,
            "image_size": options.image_size,
            "batch_size": 16,
            "learning_rate": 0.0005,
            "weight_decay": 0.01,
            "average_decay": options.average_decay,
            "class_weight": "none",
            "label_smoothing": 0.05,
            "augment": {"strength": "medium"},
        },
    )


if __name__ == "__main__":
    main()
