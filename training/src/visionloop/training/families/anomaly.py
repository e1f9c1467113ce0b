"""What anomaly families share: normal pictures alone, and a limit from an asked false-alarm rate.

A network maps a picture to a *raw map* of non-negative distances from what is normal. The raw
value of a picture is the mean of the largest part of its map. With ``limit``, the raw value that
so many held-out normal pictures stay below as was asked, the confidence is
``raw / (raw + limit)``: one half at the limit, whatever the family.

The limit is a conformal one in which every group of held-out pictures has one vote; see
``false_alarm_limit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from visionloop.core.errors import ConfigError, DataError
from visionloop.core.progress import say_step, track
from visionloop.serving.images import read_image
from visionloop.serving.manifest import ImageInput, ModelOutputs
from visionloop.serving.preprocess import make_batch
from visionloop.training.checkpoint import Checkpoint
from visionloop.training.families.anomaly_picture import draw_anomalies
from visionloop.training.families.false_alarm_limit import HeldOut, choose_limit
from visionloop.training.families.table import TrainedModel, TrainingJob
from visionloop.training.onnx_files import export_traced
from visionloop.training.resume import EpochRow

__all__ = [
    "AnomalyFamily",
    "AnomalyForExport",
    "AnomalySplit",
    "finish",
    "largest",
    "normal_split",
    "raw_values",
    "refuse_heads",
]

OUTPUTS = ModelOutputs(
    answer="probabilities", embedding="embedding", heatmap="heatmap", kind="probabilities"
)
BATCH = 16
LEAST_NORMAL = 2


class AnomalyFamily:
    """What is alike in all of them: the answers, and how they are exported."""

    vision_task = "anomaly"
    outputs = OUTPUTS

    def export(self, network: torch.nn.Module, checkpoint: Checkpoint, path: Path) -> None:
        """ONNX with any batch size; what was learned is constants of the graph."""
        spec = checkpoint.facts.input
        names = ["probabilities", "embedding", "heatmap"]
        export_traced(network, path, height=spec.height, width=spec.width, outputs=names)


@dataclass(frozen=True, eq=False)
class AnomalySplit:
    """Pictures of one split.

    Attributes
    ----------
    paths : sequence of Path
    is_anomalous : bool array (N,)
    groups : str array (N,)
        Pictures of one group are alike.
    """

    paths: Sequence[Path]
    is_anomalous: NDArray[np.bool_]
    groups: NDArray[np.str_]

    @property
    def normal(self) -> list[Path]:
        """The normal ones."""
        return [p for p, bad in zip(self.paths, self.is_anomalous, strict=True) if not bad]

    @property
    def normal_groups(self) -> NDArray[np.str_]:
        """The groups of the normal ones."""
        return self.groups[~self.is_anomalous]


class AnomalyForExport(torch.nn.Module):  # type: ignore[misc]
    """Images to (probabilities (B, 2) of normal and not, embedding (B, D), heatmap (B, h, w)).

    Parameters
    ----------
    network : Module
        float32 (B, 3, H, W) to (raw map (B, h, w), embedding (B, D)).
    top_share : float
        Part of the map whose mean is the raw value of the picture; at least one place.
    limit : float
    """

    def __init__(self, network: torch.nn.Module, *, top_share: float, limit: float) -> None:
        super().__init__()
        self.network, self.top_share = network, top_share
        self.register_buffer("limit", torch.tensor(float(limit)))

    def raw(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Raw values (B,), raw map and embedding."""
        places, embedding = self.network(image)
        return largest(places, self.top_share).mean(dim=1), places, embedding

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """float32 (B, 3, H, W) to (probabilities, embedding, heatmap)."""
        raw, places, embedding = self.raw(image)
        confidence = raw / (raw + self.limit)
        probabilities = torch.stack([1 - confidence, confidence], dim=1)
        return probabilities, embedding, places / (places + self.limit)


def largest(places: torch.Tensor, share: float) -> torch.Tensor:
    """The largest values of maps (B, h, w), so large a part of them; at least one, (B, count)."""
    count = max(1, round(share * int(places.shape[1]) * int(places.shape[2])))
    return places.flatten(1).topk(count, dim=1).values


def normal_split(job: TrainingJob, name: str) -> AnomalySplit:
    """The pictures of a split and which are anomalous.

    Raises
    ------
    DataError
        If the train split has too few normal pictures to learn from.
    """
    rows = job.version.split(name)
    paths = [job.version.images / file_name for file_name in rows["file_name"]]
    bad = job.version.class_ids(rows["sample_id"].tolist()) == 1
    groups = np.array(rows["group"].astype(str).tolist(), dtype=np.str_)
    found = AnomalySplit(paths, np.asarray(bad, np.bool_), groups)
    if name == "train":
        normal = len(found.normal)
        if normal < LEAST_NORMAL:
            raise DataError(
                f"dataset version {job.version.name}",
                f"the train split has {normal} pictures of class '{job.project.classes[0]}'; "
                f"at least {LEAST_NORMAL} are learned from",
                "annotate normal pictures, then visionloop data freeze",
            )
        if left := int(found.is_anomalous.sum()):
            say_step(f"{left} anomalous train pictures are left out: normal ones alone are learned")
    return found


def raw_values(
    network: AnomalyForExport,
    pictures: Sequence[Path] | Sequence[NDArray[np.uint8]],
    spec: ImageInput,
    what: str,
) -> NDArray[np.float64]:
    """The raw value of each picture, a file or uint8 (H, W, 3) BGR: (N,)."""
    values = []
    with torch.inference_mode():
        for start in track(range(0, len(pictures), BATCH), what):
            part = pictures[start : start + BATCH]
            images = [read_image(one) if isinstance(one, Path) else one for one in part]
            batch, _ = make_batch(images, spec)
            values.append(network.raw(torch.from_numpy(batch))[0].numpy())
    return np.concatenate(values).astype(np.float64) if values else np.zeros(0)


def refuse_heads(job: TrainingJob) -> None:
    """Anomaly families have no mode but ``full``.

    Raises
    ------
    ConfigError
        If another one is asked for.
    """
    if job.params.mode != "full":
        raise ConfigError(
            f"training.mode '{job.params.mode}'",
            f"is not for training.family '{job.params.family}'",
            "set training.mode: full",
        )


def finish(
    job: TrainingJob,
    network: torch.nn.Module,
    spec: ImageInput,
    architecture: dict[str, Any],
    row: EpochRow,
    others: HeldOut | None = None,
) -> TrainedModel:
    """Set the limit by held-out normal pictures, measure, draw, and hand the model over.

    Parameters
    ----------
    network : Module
        float32 (B, 3, H, W) to (raw map, embedding), in evaluation mode.
    architecture : dict
        From which the family builds it again; the limit is added.
    row : dict
        Of the epoch, to which the figures are added.
    others : HeldOut or None
        Normal train pictures, each judged without its own group; they have votes too.

    Raises
    ------
    DataError
        If there is no normal picture that was not learned from.
    """
    params = job.params.anomaly
    whole = AnomalyForExport(network, top_share=params.top_share, limit=1.0).eval()
    val = normal_split(job, "val")
    values = raw_values(whole, val.paths, spec, "held-out pictures")
    normal = values[~val.is_anomalous]
    if not len(normal):
        raise DataError(
            f"dataset version {job.version.name}",
            "the val split has no normal picture: the limit is set by pictures that were not "
            "learned from",
            "annotate more normal pictures, or give the val split a share: data.split",
        )
    held_out = HeldOut(normal, val.normal_groups)
    held_out = held_out if others is None else held_out + others
    limit, why = choose_limit(held_out, params.false_alarm_rate)
    if why:
        say_step(why)
    whole.limit.fill_(max(limit, 1e-12))
    metrics = {**row, "limit": limit, "held_out_normal": float(len(held_out.values)),
               "held_out_groups": float(held_out.group_count),
               "asked_false_alarm_rate": params.false_alarm_rate,
               "val_false_alarm_rate": float((normal > limit).mean())}  # fmt: skip
    if val.is_anomalous.any():
        metrics["val_auroc"] = area_under_roc(values, val.is_anomalous)
        metrics["val_recall"] = float((values[val.is_anomalous] > limit).mean())
    draw_anomalies(
        job.workspace.reports / "training" / "anomaly.png", whole, val.paths, values,
        val.is_anomalous, spec, limit=limit, rate=params.false_alarm_rate,
    )  # fmt: skip
    facts = architecture | {"top_share": params.top_share}
    return TrainedModel(dict(whole.state_dict()), facts, spec, metrics)


def area_under_roc(values: NDArray[np.float64], is_anomalous: NDArray[np.bool_]) -> float:
    """Probability that an anomalous picture has the larger value; a tie counts one half."""
    bad, good = values[is_anomalous], values[~is_anomalous]
    if not len(bad) or not len(good):
        return float("nan")
    larger = (bad[:, None] > good[None, :]).mean() + 0.5 * (bad[:, None] == good[None, :]).mean()
    return float(larger)
