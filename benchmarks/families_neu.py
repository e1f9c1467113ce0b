"""Detection families on NEU-DET: 1,800 pictures of steel, 6 classes, 224 px, 70,000 image passes.

Published YOLOv8: mAP50 .73 to .79. Pictures are dealt out 70 / 10 / 20 by class of their file (seed
0); the two that are one picture stay together. YOLOv8n starts from COCO; RT-DETR's weights cannot
be had offline, so the small one starts from random weights and its row says so.

    python benchmarks/families_neu.py [--minutes 40] [--report] [--runs yolov8n rtdetr-nano]
"""

from __future__ import annotations

import argparse
from pathlib import PurePosixPath

import numpy as np
from detector_runs import DetectorRun, run_all

from visionloop.core.privacy import set_quiet_environment
from visionloop.data.datasets.archive_dataset import open_archive_dataset
from visionloop.data.datasets.known import KNOWN

PASSES, TARGET = 70_000, 0.68
TOGETHER = {"patches_105": "patches_101"}
TRAINING = {
    "yolov8n": {"family": "yolo", "weights": "yolov8n", "batch_size": 16, "learning_rate": 0.001},
    "rtdetr-nano": {
        "family": "rtdetr",
        "weights": "rtdetr-v2-nano",
        "allow_scratch": True,
        "precision": "mixed",
        "batch_size": 16,
        "learning_rate": 0.0005,
    },
}


def main() -> None:
    """Train for as long as is allowed, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40.0, help="0: to the end")
    parser.add_argument("--report", action="store_true", help="only what is there already")
    parser.add_argument("--runs", nargs="+", default=["yolov8n"], choices=list(TRAINING))
    options = parser.parse_args()
    set_quiet_environment()
    samples = list(open_archive_dataset("neu-det"))
    stems = [PurePosixPath(str(one.attributes["file"])).stem for one in samples]
    groups = [TOGETHER.get(stem, stem) for stem in stems]
    share = {}
    for kind in sorted({stem.rpartition("_")[0] for stem in stems}):
        own = sorted({one for one in groups if one.rpartition("_")[0] == kind})
        order = np.random.default_rng([0, len(share)]).permutation(len(own))
        share |= {own[row]: place / len(own) for place, row in enumerate(order)}
    splits = [
        "train" if share[one] < 0.7 else "val" if share[one] < 0.8 else "test" for one in groups
    ]
    runs = [
        DetectorRun(
            name,
            splits,
            groups,
            {"mode": "full", "image_size": 224, "image_passes": PASSES, **TRAINING[name]},
            TARGET if name == "yolov8n" else None,
        )
        for name in options.runs
    ]
    run_all("families_neu", samples, KNOWN["neu-det"].classes, runs, options)


if __name__ == "__main__":
    main()
