"""The block ``training.search`` of ``params.yaml``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from visionloop.core.config import StrictModel

__all__ = ["RangeParams", "SearchParams"]


class RangeParams(StrictModel):
    """What one number of the training block may be: a range, or a choice."""

    low: int | float | None = Field(default=None, description="smallest; whole numbers stay whole")
    high: int | float | None = Field(default=None, description="largest")
    log: bool = Field(default=False, description="tried evenly on a logarithmic scale")
    step: int | float | None = Field(default=None, description="distance of the values tried")
    choices: list[bool | int | float | str] = Field(
        default_factory=list, description="instead of a range: the values tried"
    )

    @model_validator(mode="after")
    def _is_one_of_both(self) -> RangeParams:
        if self.choices:
            if self.low is not None or self.high is not None:
                raise ValueError("give low and high, or choices, not both")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("low must be below high (or give choices)")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("with log: true low must be above 0, and there is no step")
        return self


class SearchParams(StrictModel):
    """A search for better numbers; every trial is one training."""

    name: str = Field(
        default="search",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="of the study; the same name goes on where it stopped",
    )
    trials: int = Field(default=20, ge=1, description="trials that the study shall have")
    metric: str = Field(default="val_loss", description="column of reports/training/history.csv")
    direction: Literal["minimize", "maximize"] = Field(
        default="minimize", description="what is better"
    )
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="tree-structured Parzen estimator, or independent draws"
    )
    prune: bool = Field(
        default=True,
        description="stop trials whose epoch is worse than the median of others",
    )
    max_hours: float = Field(
        default=0.0, ge=0, description="no trial begins after so long a time; 0 is no limit"
    )
    space: dict[str, RangeParams] = Field(
        default_factory=dict, description="dotted name in the training block to its values"
    )
