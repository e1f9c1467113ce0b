"""Bad light, fog, vibration, sensor noise, dirt, a narrow link: what a plant does to a picture.

One engine for evaluation, galleries and training data. ``table.py`` names every condition;
the modules beside it hold them by cause, each with its physical parameters in one line.
"""

from visionloop.data.synthesis.conditions.changed import Changed, ConditionedSample
from visionloop.data.synthesis.conditions.light import LIGHT_LEFT
from visionloop.data.synthesis.conditions.table import (
    CAUSES,
    CONDITIONS,
    ENGINE,
    apply_condition,
    apply_condition_to_sample,
    changes_boxes,
)

__all__ = [
    "CAUSES",
    "CONDITIONS",
    "ENGINE",
    "LIGHT_LEFT",
    "Changed",
    "ConditionedSample",
    "apply_condition",
    "apply_condition_to_sample",
    "changes_boxes",
]
