"""What a person did with the regions of a draft: accepted, adjusted, relabelled, added, deleted."""

from __future__ import annotations

import numpy as np

from visionloop.core.geometry import match_boxes
from visionloop.labeling.regions import Region
from visionloop.labeling.shapes import Ring, repainted

__all__ = ["compare"]

SAME_PIXELS = 0.5
"""Corners that moved less than half a pixel did not move."""


def compare(drafts: list[Region], answers: list[Region]) -> tuple[list[str], int]:
    """What a person did with the regions of a draft.

    Regions belong together by Label Studio's id, else by their overlap (IoU >= 0.5).

    Parameters
    ----------
    drafts, answers : list of Region

    Returns
    -------
    actions, deleted
        One action for each answer ("accepted", "adjusted", "relabelled", "added"), and
        how many regions of the draft are gone.
    """
    partners = _pair(drafts, answers)
    actions = [
        "added" if partner is None else _action(drafts[partner], answer)
        for partner, answer in zip(partners, answers, strict=True)
    ]
    return actions, len(drafts) - sum(partner is not None for partner in partners)


def _pair(drafts: list[Region], answers: list[Region]) -> list[int | None]:
    """For each answer the draft it came from, or None."""
    by_key = {region.key: number for number, region in enumerate(drafts) if region.key}
    partners: list[int | None] = []
    for answer in answers:
        if answer.xyxy is None:
            whole = (number for number, draft in enumerate(drafts) if draft.xyxy is None)
            partners.append(next(whole, None))
        else:
            partners.append(by_key.pop(answer.key, None))
    free = [n for n, draft in enumerate(drafts) if draft.xyxy is not None and n not in partners]
    open_ = [n for n, answer in enumerate(answers) if answer.xyxy and partners[n] is None]
    if not free or not open_:
        return partners
    boxes = [np.array([rows[n].xyxy for n in ids], np.float32).reshape(-1, 4)
             for rows, ids in ((drafts, free), (answers, open_))]  # fmt: skip
    for draft, answer_number, _ in match_boxes(boxes[0], boxes[1], min_iou=0.5):
        partners[open_[answer_number]] = free[draft]
    return partners


def _action(draft: Region, answer: Region) -> str:
    if draft.class_name != answer.class_name:
        return "relabelled"
    if draft.xyxy is None or answer.xyxy is None:
        return "accepted"
    return "accepted" if _is_unmoved(draft, answer) else "adjusted"


def _is_unmoved(draft: Region, answer: Region) -> bool:
    """Whether no corner and no point of an outline moved by more than ``SAME_PIXELS``."""
    if draft.is_mask and answer.is_mask:
        return repainted(draft.polygon) == repainted(answer.polygon)
    before: list[Ring] = [draft.xyxy or (), *draft.polygon]
    after: list[Ring] = [answer.xyxy or (), *answer.polygon]
    if [len(ring) for ring in before] != [len(ring) for ring in after]:
        return False
    pairs = zip(sum(before, ()), sum(after, ()), strict=True)
    return all(abs(a - b) <= SAME_PIXELS for a, b in pairs)
