"""Tabs of the review: each person is offered the second opinions that are meant for him.

The free edition shows every task to every member, and all tabs to all; a tab is only a filter
on the tasks' data. So a task names who is to answer it, never who has answered before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from visionloop.labeling.client import StudioClient
from visionloop.labeling.queries import all_of, condition

__all__ = ["ANYBODY", "DISAGREEMENTS", "ensure_tabs", "tab_title"]

DISAGREEMENTS = "Disagreements"
ANYBODY = "Second opinion"
"""Tab of second opinions that nobody is named for."""

HIDDEN = (
    *("tasks:inner_id", "tasks:total_annotations", "tasks:cancelled_annotations"),
    *("tasks:total_predictions", "tasks:annotators", "tasks:annotations_results"),
    *("tasks:annotations_ids", "tasks:predictions_results", "tasks:predictions_score"),
    *("tasks:predictions_model_versions", "tasks:file_upload", "tasks:storage_filename"),
    *("tasks:created_at", "tasks:updated_at", "tasks:updated_by", "tasks:completed_at"),
    *("tasks:avg_lead_time", "tasks:draft_exists", "tasks:comment_count"),
    *("tasks:unresolved_comment_count", "tasks:last_comment_updated_at"),
    *("tasks:comment_authors", "tasks:data.sample_id", "tasks:data.look", "tasks:data.rank"),
    *("tasks:data.findings", "tasks:data.reviewer", "tasks:data.control"),
)


def tab_title(reviewer: str, reviewers: Iterable[str]) -> str:
    """The title of a person's tab: the name before the @ where that is enough to tell people."""
    if not reviewer:
        return ANYBODY
    name = reviewer.split("@")[0]
    is_unique = sum(other.split("@")[0] == name for other in set(reviewers)) <= 1
    # The name first: Label Studio cuts the ends of long titles off.
    return f"{name if is_unique else reviewer}: {ANYBODY.lower()}"


def ensure_tabs(client: StudioClient, project_id: int, reviewers: Iterable[str]) -> None:
    """Make the missing tabs and put changed filters right.

    Parameters
    ----------
    client : StudioClient
    project_id : int
    reviewers : iterable of str
        Addresses; the empty one makes the tab for everybody.
    """
    named = sorted(set(reviewers))
    wanted = {
        tab_title(one, named): _filters(_equal("look", "review"), _equal("reviewer", one))
        for one in named
        if one
    }
    if "" in named:
        nobody = condition("data.reviewer", "empty", "String", True)
        wanted[ANYBODY] = _filters(_equal("look", "review"), nobody)
    wanted[DISAGREEMENTS] = _filters(_equal("look", "adjudicate"))
    present = {
        view["data"].get("title"): view for view in client.get("/api/dm/views/", project=project_id)
    }
    for title, filters in wanted.items():
        content = {"filters": filters, "ordering": ["tasks:data.rank"]}
        if title not in present:
            data = {"title": title, "type": "list", "target": "tasks", **content}
            data["hiddenColumns"] = {"explore": list(HIDDEN), "labeling": list(HIDDEN)}
            client.post("/api/dm/views/", {"project": project_id, "data": data})
            continue
        view = present[title]
        if any(view["data"].get(name) != value for name, value in content.items()):
            merged = {**view["data"], **content}
            client.patch(f"/api/dm/views/{view['id']}/", {"project": project_id, "data": merged})


def _filters(*conditions: dict[str, Any]) -> dict[str, Any]:
    return all_of(*conditions, condition("completed_at", "empty", "Datetime", True))


def _equal(column: str, value: str) -> dict[str, Any]:
    return condition(f"data.{column}", "equal", "String", value)
