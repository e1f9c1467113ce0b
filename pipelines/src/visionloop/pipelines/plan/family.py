"""Which model family: the decision matrix."""

from __future__ import annotations

from dataclasses import dataclass, field

from visionloop.core.targets import Targets

__all__ = ["FamilyChoice", "choose_family"]

FINE_GRAINED = "one class a picture, fine differences: EfficientNet (or ConvNeXt, which is larger)"


@dataclass(frozen=True)
class FamilyChoice:
    """A family, why, and what else would do.

    Attributes
    ----------
    family : str
        Row (or rows) of the table of model families.
    reasons, alternatives : list of str
    """

    family: str
    reasons: list[str]
    alternatives: list[str] = field(default_factory=list)


def choose_family(targets: Targets) -> FamilyChoice:
    """The family for a vision task: real-time detection to YOLO or RT-DETR, fine-grained
    classes to EfficientNet or ConvNeXt, scenes to ViT, anomalies to autoencoder and CLIP."""
    if targets.vision_task == "detection":
        return _choose_detector(targets)
    if targets.vision_task == "classification":
        return FamilyChoice(
            "efficientnet", [FINE_GRAINED], ["convnext: more parameters, where there is time"]
        )
    if targets.vision_task == "scene":
        return FamilyChoice(
            "vit", ["attributes of a whole scene depend on parts far from each other: attention"]
        )
    return FamilyChoice(
        "autoencoder + clip",
        [
            "only normal pictures are needed, and few of them (few-shot memory)",
            "the autoencoder sees texture, CLIP what does not belong there",
        ],
        ["patch: a memory of patch features, often the most exact one"],
    )


def _choose_detector(targets: Targets) -> FamilyChoice:
    if targets.deployment.licences == "permissive":
        return FamilyChoice(
            "rtdetr",
            ["boxes; RT-DETR is Apache-2.0, Ultralytics' YOLO is AGPL-3.0"],
            ["yolo: faster, where AGPL-3.0 or a licence of Ultralytics is acceptable"],
        )
    limit = targets.latency.per_frame_ms
    return FamilyChoice(
        "yolo",
        [f"boxes within {limit:g} ms: the fastest family with boxes"],
        ["rtdetr: Apache-2.0, needs no suppression of double boxes"],
    )
