"""A task as Label Studio tells it becomes decisions: one an annotation, and from which draft."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visionloop.core.config import ONE_CLASS_TASKS, ProjectParams
from visionloop.labeling.decisions import LOOKS, Decision
from visionloop.labeling.region_changes import compare
from visionloop.labeling.regions import Region, from_result

__all__ = ["Reader"]

Problems = list[str]


@dataclass(frozen=True)
class Reader:
    """Reads tasks of one project.

    Attributes
    ----------
    project : ProjectParams
    people : mapping of int to str
        Label Studio's id of a user to the address he signs in with.
    sizes : mapping of str to (int, int)
        Sample id to width and height in pixels.
    """

    project: ProjectParams
    people: Mapping[int, str]
    sizes: Mapping[str, tuple[int, int]]

    def read(self, task: Mapping[str, Any]) -> tuple[list[Decision], Problems]:
        """The decisions of a task, oldest first, and what cannot be understood in it.

        Parameters
        ----------
        task : mapping
            With its annotations and predictions. Somebody's own upload, which names no
            sample, gives nothing.
        """
        sample_id = task["data"].get("sample_id")
        if not sample_id or not task["annotations"]:
            return [], []
        if sample_id not in self.sizes:
            return [], [f"task {task['id']}: sample {sample_id[:12]} is not in data/raw"]
        decisions, problems = [], []
        for annotation in sorted(task["annotations"], key=lambda one: one["id"]):
            decision, wrong = self._decision(task, annotation)
            decisions.append(decision)
            problems += [f"task {task['id']}: {text}" for text in wrong]
        return decisions, problems

    def _decision(
        self, task: Mapping[str, Any], annotation: Mapping[str, Any]
    ) -> tuple[Decision, Problems]:
        data, is_skipped = task["data"], bool(annotation["was_cancelled"])
        look = str(data.get("look") or "first")
        # What a person drew before skipping is not said.
        regions, problems = ([], []) if is_skipped else self._regions(task, annotation)
        if look not in LOOKS:
            problems.append(f"look '{look}' is none of {', '.join(LOOKS)}")
        shown = _shown(task, annotation)
        drafts = from_result(shown["result"], *self._size(task))[0] if shown else []
        actions, deleted = ([], 0) if is_skipped else compare(drafts, regions)
        if not regions and shown and not deleted and not is_skipped:
            actions = ["accepted"]
        by = annotation["completed_by"]
        decision = Decision(
            annotation=annotation["id"],
            task=task["id"],
            sample_id=data["sample_id"],
            look=look,
            annotator=self.people.get(by["id"] if isinstance(by, dict) else by, "unknown"),
            created_at=annotation["created_at"],
            decided_at=annotation["updated_at"],
            lead_time=float(annotation["lead_time"] or 0),
            draft=shown["id"] if shown else None,
            draft_version=str(shown["model_version"] or "") if shown else "",
            actions=actions,
            deleted=deleted,
            is_skipped=is_skipped,
            is_control=data.get("control") == "yes",
            findings=str(data.get("findings") or ""),
            regions=regions,
        )
        return decision, problems

    def _regions(
        self, task: Mapping[str, Any], annotation: Mapping[str, Any]
    ) -> tuple[list[Region], Problems]:
        regions, problems = from_result(annotation["result"], *self._size(task))
        unknown = {region.class_name for region in regions} - set(self.project.classes)
        problems += [f"class '{name}' is not in params.yaml" for name in sorted(unknown)]
        has_class = any(region.xyxy is None for region in regions)
        if self.project.vision_task in ONE_CLASS_TASKS and not has_class and not problems:
            problems.append("was submitted without a class")
        return regions, problems

    def _size(self, task: Mapping[str, Any]) -> tuple[int, int]:
        return self.sizes[task["data"]["sample_id"]]


def _shown(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The draft that an annotation began from; that of a control task shows nothing."""
    if task["data"].get("control") == "yes":
        return None
    parent = annotation.get("parent_prediction")
    return next((row for row in task["predictions"] if row["id"] == parent), None)
