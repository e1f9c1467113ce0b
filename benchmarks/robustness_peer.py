"""The stage's trainer with Ultralytics' own default augmentation, for ``robustness.py``.

The family ``yolo`` switches Ultralytics' augmentation off and puts ours in its place; here that is
undone, and nothing else: same loop, optimiser, learning rate, choice of the epoch. Ultralytics is
AGPL-3.0.

    python benchmarks/robustness_peer.py train -w FOLDER
"""

from __future__ import annotations

import sys
from typing import Any

from visionloop.core.cli import run_command
from visionloop.training.families import yolo_training

OURS = ("augmentations", "hsv_h", "hsv_s", "hsv_v", "fliplr", "flipud", "degrees", "mixup",
        "cutmix", "copy_paste", "erasing", "shear", "perspective", "scale", "translate",
        "mosaic")  # fmt: skip
"""Options that the family sets; without them Ultralytics' defaults hold."""


def main() -> None:
    """Run the verb; ``training.augment.strength: none`` leaves the pictures to Ultralytics."""
    options = yolo_training._options

    def with_defaults(job: Any, run_folder: str) -> dict[str, Any]:
        return {name: value for name, value in options(job, run_folder).items() if name not in OURS}

    yolo_training._options = with_defaults
    from visionloop.training.cli import app

    sys.exit(run_command(app))


if __name__ == "__main__":
    main()
