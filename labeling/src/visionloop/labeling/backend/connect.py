"""Label Studio and the backend are told of each other; doing it again changes nothing."""

from __future__ import annotations

from typing import Any

from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.keys import SECRET_HEADER, BackendKeys, backend_keys
from visionloop.labeling.client import StudioClient

__all__ = ["TITLE", "connect_backend"]

TITLE = "visionloop"
ACTIONS = (
    *("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_CREATED", "ANNOTATIONS_DELETED"),
    *("TASKS_DELETED",),
)
"""After these a pull finds something new."""


def connect_backend(client: StudioClient, project_id: int, url: str, workspace: Workspace) -> int:
    """Connect a running backend with a project, or put the connection right.

    The webhook is made first: Label Studio would make one of its own for a new backend,
    which carries no secret, sends whole annotations and costs annotators time.

    Returns
    -------
    int
        Label Studio's id of the backend.

    Raises
    ------
    VisionloopError
        If Label Studio does not reach the backend, or refuses.
    """
    keys = backend_keys(workspace)
    _ensure_webhook(client, project_id, url, keys)
    settings = {
        "project": project_id,
        "url": url,
        "title": TITLE,
        "is_interactive": True,
        "auth_method": "BASIC_AUTH",
        "basic_auth_user": keys.user,
        "basic_auth_pass": keys.password,
    }
    ours = [row for row in client.get("/api/ml/", project=project_id) if row["title"] == TITLE]
    for surplus in ours[1:]:
        client.request("DELETE", f"/api/ml/{surplus['id']}")
    if not ours:
        return int(client.post("/api/ml/", settings)["id"])
    if ours[0]["url"] != url or ours[0]["readable_state"] != "Connected":
        client.patch(f"/api/ml/{ours[0]['id']}", settings)
    return int(ours[0]["id"])


def _ensure_webhook(client: StudioClient, project_id: int, url: str, keys: BackendKeys) -> None:
    wanted: dict[str, Any] = {
        "url": f"{url}/webhook",
        "send_payload": False,
        "send_for_all_actions": False,
        "actions": sorted(ACTIONS),
        "headers": {SECRET_HEADER: keys.secret},
        "is_active": True,
    }
    found = client.get("/api/webhooks/", project=project_id)
    ours = [row for row in found if row["project"] == project_id and _is_ours(row, url)]
    for surplus in ours[1:]:
        client.request("DELETE", f"/api/webhooks/{surplus['id']}/")
    if not ours:
        client.post("/api/webhooks/", {"project": project_id, **wanted})
        return
    present = {**ours[0], "actions": sorted(ours[0]["actions"])}
    if any(present[name] != value for name, value in wanted.items()):
        client.patch(f"/api/webhooks/{ours[0]['id']}/", wanted)


def _is_ours(webhook: dict[str, Any], url: str) -> bool:
    return SECRET_HEADER in webhook["headers"] or webhook["url"] == f"{url}/webhook"
