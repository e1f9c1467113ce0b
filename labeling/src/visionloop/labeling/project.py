"""The verb ``setup``: a Label Studio project with everything in its place, made once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from visionloop.core.config import ProjectParams, load_project
from visionloop.core.errors import ConfigError, DataError
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.interface import instructions, labeling_interface
from visionloop.labeling.params import LabelingParams, load_params
from visionloop.labeling.queries import all_of, condition
from visionloop.labeling.review.tabs import ensure_tabs

__all__ = ["TABS", "SetupReport", "ensure_recipe", "find_project", "find_tab", "setup"]

HIDDEN = (
    *("inner_id", "total_annotations", "cancelled_annotations", "total_predictions"),
    *("annotations_results", "annotations_ids", "predictions_results", "file_upload"),
    *("predictions_model_versions", "storage_filename", "created_at", "updated_at"),
    *("updated_by", "avg_lead_time", "draft_exists", "comment_count"),
    *("unresolved_comment_count", "last_comment_updated_at", "comment_authors"),
    *("data.sample_id", "data.look", "data.rank", "data.findings", "data.control"),
    "data.reviewer",
)
"""Columns that the tabs hide at first: one click shows them."""

TABS = ("Next best", "Check drafts", "Second look", "Done")


FIELDS = (
    "id,title,label_config,expert_instruction,show_instruction,sampling,show_collab_predictions,"
    "maximum_annotations,model_version,description,task_number"
)
"""Of a project; where none are named, Label Studio counts through all of its tasks."""


@dataclass(frozen=True)
class SetupReport:
    """The project's id, where to open it, and whether it was made just now."""

    project: int
    url: str
    created: bool


def setup(*, workspace: Workspace) -> SetupReport:
    """Make the project, its storage and its tabs, or bring them up to date.

    The project is titled like the model; running this again changes nothing that is
    right already.

    Raises
    ------
    UnreachableError
        If Label Studio does not answer.
    VisionloopError
        If Label Studio refuses, for example to drop a class that annotations use.
    """
    project, params = load_params(workspace)
    client = connect(workspace)
    settings = {
        "title": project.model,
        "label_config": labeling_interface(project, params.interface),
        "expert_instruction": instructions(workspace, project, params.interface),
        "show_instruction": True,
        "sampling": "Uncertainty sampling",
        "show_collab_predictions": True,
        "maximum_annotations": 1,
    }
    found = _project_by_title(client, project.model)
    if found is None:
        found = client.post("/api/projects/", settings)
        created = True
    else:
        created = False
        changed = {name: value for name, value in settings.items() if found[name] != value}
        if changed:
            client.patch(f"/api/projects/{found['id']}/", changed)
    _ensure_storage(client, found["id"], str(workspace.images.resolve()))
    _ensure_tabs(client, found["id"], params)
    ensure_tabs(client, found["id"], [""])
    return SetupReport(found["id"], f"{client.url}/projects/{found['id']}/data", created)


def ensure_recipe(workspace: Workspace, recipe: str) -> None:
    """Make the folder a project of this recipe where it is none yet, as ``visionloop init`` does.

    Raises
    ------
    ConfigError
        If there is no such recipe, or the folder belongs to another one.
    """
    if workspace.params.exists():
        found = load_project(workspace.params).recipe
        if found != recipe:
            raise ConfigError(
                str(workspace.root),
                f"is a project of recipe '{found}', not '{recipe}'",
                "choose another folder, or leave --recipe out",
            )
        return
    # What spans the stages is not imported here: it is started.
    command = [sys.executable, "-m", "visionloop.pipelines", "init", str(workspace.root)]
    made = subprocess.run([*command, "--recipe", recipe], capture_output=True, text=True)
    if made.returncode:
        problems = [line for line in made.stderr.strip().splitlines() if line][-6:]
        raise ConfigError(f"recipe '{recipe}'", problems or "visionloop init failed")


def find_project(client: StudioClient, project: ProjectParams) -> dict[str, Any]:
    """The project of this model: its ``FIELDS``.

    Raises
    ------
    DataError
        If it was not set up.
    """
    found = _project_by_title(client, project.model)
    if found is None:
        raise DataError(
            f"Label Studio project '{project.model}'",
            "does not exist",
            "run: visionloop label setup",
        )
    return found


def find_tab(client: StudioClient, project_id: int, title: str) -> dict[str, Any]:
    """A tab of the project by its title; its ``data`` holds filters and ordering.

    Raises
    ------
    DataError
        If somebody removed it.
    """
    for view in client.get("/api/dm/views/", project=project_id):
        if view["data"].get("title") == title:
            return dict(view)
    raise DataError(f"tab '{title}'", "does not exist", "run: visionloop label setup")


def _project_by_title(client: StudioClient, title: str) -> dict[str, Any] | None:
    page = 1
    while True:
        answer = client.get("/api/projects/", page=page, page_size=100, include="id,title")
        for row in answer["results"]:
            if row["title"] == title:
                return dict(client.get(f"/api/projects/{row['id']}/", include=FIELDS))
        if not answer.get("next"):
            return None
        page += 1


def _ensure_storage(client: StudioClient, project_id: int, folder: str) -> None:
    """Label Studio serves only files below a storage of a project that the reader may see."""
    wanted = {"path": folder, "use_blob_urls": True, "title": "data/raw/images"}
    for storage in client.get("/api/storages/localfiles/", project=project_id):
        if storage["path"] == folder:
            return
    client.post("/api/storages/localfiles/", {"project": project_id, **wanted})


def _ensure_tabs(client: StudioClient, project_id: int, params: LabelingParams) -> None:
    present = {
        view["data"].get("title"): view for view in client.get("/api/dm/views/", project=project_id)
    }
    for title, data in zip(TABS, _tab_contents(params), strict=True):
        content = {"title": title, "type": "list", "target": "tasks", **_columns(), **data}
        if title not in present:
            client.post("/api/dm/views/", {"project": project_id, "data": content})
            continue
        view = present[title]
        if any(view["data"].get(name) != value for name, value in data.items()):
            merged = {**view["data"], **data}
            client.patch(f"/api/dm/views/{view['id']}/", {"project": project_id, "data": merged})


def _tab_contents(params: LabelingParams) -> list[dict[str, Any]]:
    """Filters and order of each tab, in the order of ``TABS``."""
    is_open = condition("completed_at", "empty", "Datetime", True)
    is_done = condition("completed_at", "empty", "Datetime", False)
    is_sure = condition("predictions_score", "greater_or_equal", "Number", params.sure)
    has_draft = condition("data.control", "not_equal", "String", "yes")
    first = condition("data.look", "equal", "String", "first")
    second = condition("data.look", "equal", "String", "second")
    return [
        {"filters": all_of(first, is_open), "ordering": ["tasks:predictions_score"]},
        {
            "filters": all_of(first, is_open, is_sure, has_draft),
            "ordering": ["-tasks:predictions_score"],
        },
        {"filters": all_of(second, is_open), "ordering": ["tasks:data.rank"]},
        {"filters": all_of(is_done), "ordering": ["-tasks:completed_at"]},
    ]


def _columns() -> dict[str, Any]:
    hidden = [f"tasks:{name}" for name in HIDDEN]
    return {"hiddenColumns": {"explore": hidden, "labeling": hidden}}
