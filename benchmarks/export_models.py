"""One trained package a model family, small budgets, for ``export.py`` and ``inference.py``.

The projects stay in ``results/export_models/``: trained once by the stage's own verbs, resumed
where they were cut off. ViT, ConvNeXt, RT-DETR and CLIP start from random weights (their hub
weights are not at hand), so their metrics are low; what export loses can still be measured.

    python benchmarks/export_models.py [--families yolo efficientnet ...]
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from family_runs import make_project, train_within
from report import RESULTS

from visionloop.core.entities import Annotation
from visionloop.core.errors import ConfigError
from visionloop.core.privacy import set_quiet_environment
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.data.datasets.table import RawSample

__all__ = ["MODELS", "prepare_model", "use_throwaway_keys"]

FOLDER = RESULTS / "export_models"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class ModelRow:
    """Data set, and what differs from the ``training`` block of ``params.yaml``."""

    data: str
    training: Mapping[str, Any]


FULL = {"mode": "full", "batch_size": 16, "allow_scratch": True}
PROBE = {"mode": "probe", "epochs": 12, "batch_size": 16, "allow_scratch": True}
MODELS: dict[str, ModelRow] = {
    "yolo": ModelRow(
        "deeppcb",
        {**FULL, "family": "yolo", "weights": "yolov8n", "image_size": 416, "image_passes": 8000,
         "learning_rate": 0.001},
    ),
    "efficientnet": ModelRow(
        "elpv",
        {**PROBE, "family": "efficientnet", "weights": "efficientnet-lite0", "image_size": 224},
    ),
    "convnext": ModelRow(
        "elpv",
        {**PROBE, "family": "convnext", "weights": "convnext-atto", "image_size": 96},
    ),
    "vit": ModelRow(
        "elpv", {**PROBE, "family": "vit", "weights": "vit-tiny", "image_size": 96}
    ),
    "patch": ModelRow(
        "magnetic-tile",
        {**FULL, "family": "patch", "weights": "efficientnet-lite0", "image_size": 128,
         "epochs": 1},
    ),
    "autoencoder": ModelRow(
        "magnetic-tile",
        {**FULL, "family": "autoencoder", "weights": "none", "image_size": 128, "epochs": 4,
         "learning_rate": 0.002},
    ),
    "clip": ModelRow(
        "magnetic-tile",
        {**FULL, "family": "clip", "weights": "clip-vit-b-32", "image_size": 64, "epochs": 1,
         "anomaly": {"layers": [0, 1]}},
    ),
    "rtdetr": ModelRow(
        "bccd",
        {**FULL, "family": "rtdetr", "weights": "rtdetr-v2-nano", "image_size": 256,
         "image_passes": 1200, "learning_rate": 0.0006, "batch_size": 8},
    ),
}  # fmt: skip
"""Family to what it is trained on."""

SAMPLES = {"deeppcb": 600, "bccd": 364, "elpv": 700, "magnetic-tile": 360}
"""So many samples of a data set are drawn, seed 0."""

TINY_CLIP = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def main() -> None:
    """Train and export what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", nargs="+", default=list(MODELS), choices=list(MODELS))
    options = parser.parse_args()
    set_quiet_environment()
    use_throwaway_keys()
    for family in options.families:
        prepare_model(family)


def use_throwaway_keys() -> None:
    """Sign and trust with a key pair of the benchmarks' own."""
    from visionloop.serving.signing import new_key_pair

    folder = Path(tempfile.gettempdir()) / f"visionloop-benchmark-keys-{os.getuid()}"
    if not folder.is_dir():
        new_key_pair(folder)  # not inside the repository: that is refused
    (private,) = (path for path in folder.iterdir() if "pub" not in path.name)
    (public,) = (path for path in folder.iterdir() if "pub" in path.name)
    os.environ["VISIONLOOP_SIGNING_KEY"] = str(private)
    os.environ["VISIONLOOP_TRUSTED_KEYS"] = str(public)


def prepare_model(family: str) -> Workspace:
    """The project of a family with its package; trained and exported if it is not there."""
    from visionloop.training.export import export

    workspace, row = Workspace(FOLDER / family), MODELS[family]
    _refuse_other_settings(workspace, row)
    if (workspace.package / "manifest.json").is_file():
        return workspace
    if family == "clip":
        _register_tiny_clip()
    if not workspace.params.is_file():
        make_data(workspace, row)
    say_step(f"{family}: training")
    if family == "clip":
        from visionloop.training.train import train

        train(workspace=workspace)  # here, where the tiny architecture is registered
    else:
        train_within(workspace, None)
    export(workspace=workspace)
    return workspace


def _refuse_other_settings(workspace: Workspace, row: ModelRow) -> None:
    """A project of an earlier table must not lend its figures to this one."""
    if not workspace.params.is_file():
        return
    known = yaml.safe_load(workspace.params.read_text())["training"]
    changed = [f"{key}: {known.get(key)}, now {value}" for key, value in row.training.items()
               if key != "anomaly" and known.get(key) != value]  # fmt: skip
    if changed:
        raise ConfigError(
            str(workspace.root),
            f"was trained with other settings ({'; '.join(changed)})",
            "remove the folder: it is trained again",
        )


def make_data(workspace: Workspace, row: ModelRow) -> None:
    """The project folder: samples, splits 60 / 20 / 20, targets that nothing is held to."""
    task, classes, samples, annotations, groups = read_data(row.data)
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(samples))[: SAMPLES[row.data]]
    known = sorted({groups[one] for one in chosen})
    drawn = dict(zip(known, rng.random(len(known)), strict=True))
    splits = [
        "train" if drawn[groups[one]] < 0.6 else "val" if drawn[groups[one]] < 0.8 else "test"
        for one in chosen
    ]
    make_project(
        workspace,
        [samples[one] for one in chosen],
        vision_task=task,
        classes=classes,
        annotations=[annotations[one] for one in chosen],
        splits=splits,
        groups=[groups[one] for one in chosen],
        training=dict(row.training),
    )
    targets = yaml.safe_load((ROOT / "targets.yaml").read_text())
    metric = {"detection": "map50", "anomaly": "auroc"}.get(task, "balanced_accuracy")
    targets["vision_task"], targets["quality"] = task, {"metric": metric, "minimum": 0.0}
    targets["parity"] |= {"max_difference": 0.01}
    workspace.targets.write_text(yaml.safe_dump(targets, sort_keys=False))


def read_data(
    name: str,
) -> tuple[str, Sequence[str], list[RawSample], list[list[Annotation]], list[str]]:
    """Vision task, classes, samples, their annotations and groups."""
    from visionloop.data.datasets.archive_dataset import open_archive_dataset
    from visionloop.data.datasets.elpv import ElpvDataset
    from visionloop.data.datasets.known import KNOWN

    if name == "elpv":
        dataset = ElpvDataset(seed=0)
        cells, truth = list(dataset.samples()), dataset.truth()
        kept = [[Annotation("", truth[one.sample_id][0].class_name)] for one in cells]
        groups = [one.sample_id for one in cells]
        return "classification", ("functional", "defective"), cells, kept, groups
    samples = list(open_archive_dataset(name))
    if name == "magnetic-tile":
        is_bad = [one.annotations[0].class_name != "Free" for one in samples]
        classes = ("normal", "defective")
        kept = [[Annotation("", classes[int(bad)])] for bad in is_bad]
        groups = [f"{number // 60}" for number in range(len(samples))]
        return "anomaly", classes, samples, kept, groups
    groups = [str(one.attributes.get("board", one.sample_id)) for one in samples]
    return "detection", KNOWN[name].classes, samples, [one.annotations for one in samples], groups


def _register_tiny_clip() -> None:
    """CLIP of open_clip's own shape with three layers of random weights."""
    from dataclasses import replace

    import open_clip
    import torch
    from safetensors.torch import save_file

    from visionloop.training import weights as table

    folder = FOLDER / "clip_weights"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vl-tiny.json").write_text(json.dumps(TINY_CLIP))
    open_clip.add_model_config(folder / "vl-tiny.json")
    torch.manual_seed(3)
    save_file(open_clip.create_model("vl-tiny", pretrained=None).state_dict(),
              folder / "tiny.safetensors")  # fmt: skip
    row = replace(
        table.WEIGHTS["clip-vit-b-32"], architecture="vl-tiny", files=("tiny.safetensors",)
    )
    table.WEIGHTS["clip-vit-b-32"] = row
    os.environ["VISIONLOOP_WEIGHTS"] = str(folder)


if __name__ == "__main__":
    main()
