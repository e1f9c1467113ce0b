"""The block ``data.synthesise`` of ``params.yaml``: which samples are made, and how."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel

__all__ = [
    "PasteParams",
    "RecipeParams",
    "SurfaceDefectParams",
    "SynthesiseParams",
    "TemplateDefectParams",
]

DEFECT_KINDS = ("open", "short", "mousebite", "spur", "copper", "pin-hole")
SURFACE_KINDS = ("scratch", "dent", "stain", "pit")


class RecipeParams(StrictModel):
    """What every recipe says."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="written into every sample")
    count: int = Field(ge=0, le=100_000, description="samples to make")
    per_image: list[int] = Field(
        default=[3, 10], min_length=2, max_length=2, description="fewest and most of one image"
    )
    turned_share: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the made samples that are turned by quarters and mirrored at "
        "random; for products without an upper side",
    )

    @model_validator(mode="after")
    def _check_per_image(self) -> RecipeParams:
        if not 1 <= self.per_image[0] <= self.per_image[1] <= 100:
            raise ValueError("per_image must be [fewest, most], 1 to 100")
        return self


class TemplateDefectParams(RecipeParams):
    """Board defects drawn on defect-free templates."""

    templates: str = Field(
        default="dataset",
        description="dataset: the clean boards of the train samples, where the data set has them; "
        "samples: annotated train samples themselves, whose own boxes stay; drawn: boards drawn "
        "for the purpose; else a folder of clean images",
    )
    defects: dict[str, str] = Field(
        default_factory=lambda: {kind: kind for kind in DEFECT_KINDS},
        description="kind (open, short, mousebite, spur, copper, pin-hole) to class name",
    )
    often: dict[str, float] = Field(
        default_factory=dict,
        description="how many times as often as a kind that is not named here a kind is drawn; "
        "more of those that the detector finds worst",
    )
    scale: float = Field(
        default=1.0, gt=0, le=20, description="sizes by those of DeepPCB's 640 pixels"
    )
    margin: float = Field(
        default=9.0, ge=0, le=100, description="pixels that boxes show around the defect"
    )

    @model_validator(mode="after")
    def _check_kinds(self) -> TemplateDefectParams:
        _refuse_unknown(self.defects, DEFECT_KINDS)
        if wrong := sorted(set(self.often) - set(self.defects)):
            raise ValueError(f"often: {', '.join(wrong)} is not among defects")
        if any(not 0 < one <= 100 for one in self.often.values()):
            raise ValueError("often: each number must be above 0, at most 100")
        return self


class PasteParams(RecipeParams):
    """Annotated objects cut out of train samples and put into others."""

    per_image: list[int] = Field(
        default=[1, 3], min_length=2, max_length=2, description="fewest and most of one image"
    )
    classes: list[str] = Field(default_factory=list, description="what to paste; empty: all")
    onto: Literal["samples", "templates"] = Field(
        default="samples", description="onto train samples, or the data set's clean templates"
    )
    outline: Literal["box", "ellipse", "grabcut", "template"] = Field(
        default="grabcut",
        description="the object in a box without a polygon: all of it, the ellipse in it, what "
        "GrabCut separates, or what differs from the data set's defect-free template",
    )
    blend: Literal["alpha", "shadow", "seamless"] = Field(
        default="seamless", description="feathered outline, the same with a shadow, or gradients"
    )
    where: Literal["anywhere", "dark", "bright", "edge", "flat", "matching"] = Field(
        default="anywhere", description="rule of placement; matching: surroundings that look alike"
    )
    inside_class: str = Field(
        default="", description="only inside boxes or polygons of this class; empty: anywhere"
    )
    scale: list[float] = Field(
        default=[0.8, 1.25], min_length=2, max_length=2, description="smallest and largest factor"
    )
    max_turn: float = Field(default=180.0, ge=0, le=180, description="degrees, either way")

    @model_validator(mode="after")
    def _check_scale(self) -> PasteParams:
        if not 0.05 <= self.scale[0] <= self.scale[1] <= 20:
            raise ValueError("scale must be [smallest, largest], 0.05 to 20")
        return self


class SurfaceDefectParams(RecipeParams):
    """Scratches, dents, stains, pits on train samples."""

    per_image: list[int] = Field(
        default=[1, 3], min_length=2, max_length=2, description="fewest and most of one image"
    )
    defects: dict[str, str] = Field(description="kind (scratch, dent, stain, pit) to class name")
    on_classes: list[str] = Field(
        default_factory=list,
        description="surfaces: samples of these classes alone; empty: samples without a box",
    )
    strength: list[float] = Field(
        default=[0.3, 1.0], min_length=2, max_length=2, description="faintest and strongest, to 1"
    )
    size: float = Field(
        default=0.12, gt=0, le=0.5, description="length as a share of the shorter side"
    )

    @model_validator(mode="after")
    def _check_kinds(self) -> SurfaceDefectParams:
        _refuse_unknown(self.defects, SURFACE_KINDS)
        if not 0 < self.strength[0] <= self.strength[1] <= 1:
            raise ValueError("strength must be [faintest, strongest] in (0, 1]")
        return self


class SynthesiseParams(StrictModel):
    """Samples that are made instead of waited for; always marked, in train only."""

    seed: int = Field(default=0, ge=0, description="with it the same samples are made again")
    template_defects: list[TemplateDefectParams] = Field(
        default_factory=list, description="see TemplateDefectParams"
    )
    paste: list[PasteParams] = Field(default_factory=list, description="see PasteParams")
    surface_defects: list[SurfaceDefectParams] = Field(
        default_factory=list, description="see SurfaceDefectParams"
    )

    @property
    def recipes(self) -> dict[str, tuple[str, RecipeParams]]:
        """Name to kind and numbers of each recipe, in order."""
        kinds: dict[str, list[Any]] = {
            "template_defects": self.template_defects,
            "paste": self.paste,
            "surface_defects": self.surface_defects,
        }
        return {one.name: (kind, one) for kind, rows in kinds.items() for one in rows}

    @model_validator(mode="after")
    def _check_names(self) -> SynthesiseParams:
        rows = [*self.template_defects, *self.paste, *self.surface_defects]
        if len({one.name for one in rows}) < len(rows):
            raise ValueError("two recipes have the same name")
        return self


def _refuse_unknown(defects: dict[str, str], known: tuple[str, ...]) -> None:
    wrong = sorted(set(defects) - set(known))
    if wrong or not defects:
        raise ValueError(f"defects: {', '.join(wrong) or 'none'}; known kinds: {', '.join(known)}")
