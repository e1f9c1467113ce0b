"""Rows reach Label Studio once each, whatever happens to a request on its way.

Imports are atomic: all rows of a request are there, or none. They are not idempotent, so a
request whose answer was lost is not sent again before the server was asked what it has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from visionloop.labeling.client import StudioClient, TooLargeError, UncertainError
from visionloop.labeling.queries import condition

__all__ = ["Rows", "send_drafts", "send_tasks"]

Rows = list[dict[str, Any]]
Left = Callable[[Rows], Rows]

TRIES = 3
LOOKS_AGAIN = (1.0, 3.0, 6.0)
"""Seconds after an answer that was lost: a server behind a proxy may still be at work."""


def send_tasks(
    client: StudioClient, project_id: int, tasks: Rows, left: Left
) -> list[tuple[int, dict[str, Any]]]:
    """Import tasks.

    A request that the server finds too large is halved. After one whose answer was lost,
    ``left`` says which tasks did not arrive; only those are sent again.

    Parameters
    ----------
    client : StudioClient
    project_id : int
    tasks : list of dict
        As :func:`visionloop.labeling.tasks.build_task` makes them.
    left : callable
        Asks the server which of these tasks it does not have.

    Returns
    -------
    list of (int, dict)
        Id and content of the tasks whose ids the server told; others ``left`` has learnt of.

    Raises
    ------
    TooLargeError
        If even one task is too large.
    UnreachableError
        If the server does not answer any more, or loses its answer three times.
    """
    path = f"/api/projects/{project_id}/import"
    return [
        pair
        for answer, sent in _deliver(client, path, tasks, left, return_task_ids=True)
        for pair in zip(answer["task_ids"], sent, strict=True)
    ]


def send_drafts(client: StudioClient, project_id: int, drafts: Rows, version: str) -> None:
    """Give tasks drafts of a version that they do not have yet; as :func:`send_tasks`.

    Parameters
    ----------
    client : StudioClient
    project_id : int
    drafts : list of dict
        As :func:`visionloop.labeling.tasks.build_prediction` makes them, each with its ``task``.
    version : str
    """

    def left(rows: Rows) -> Rows:
        ids = [row["task"] for row in rows]
        fields = {"fields": "all", "include": "id,predictions,model_version"}
        pages = client.sweep(
            project_id, condition("id", "less", "Number", max(ids) + 1),
            after=min(ids) - 1, size=len(ids), **fields,
        )  # fmt: skip
        have = {
            task["id"]
            for page in pages
            for task in page
            if any(row["model_version"] == version for row in task["predictions"])
        }
        return [row for row in rows if row["task"] not in have]

    _deliver(client, f"/api/projects/{project_id}/import/predictions", drafts, left)


def _deliver(
    client: StudioClient, path: str, rows: Rows, left: Left, **query: Any
) -> list[tuple[Any, Rows]]:
    """The server's answers, each with the rows that it is about."""
    for attempt in range(1, TRIES + 1):
        if not rows:
            return []
        try:
            return [(client.post(path, rows, **query), rows)]
        except TooLargeError:
            if len(rows) == 1:
                raise
            middle = len(rows) // 2
            return [
                *_deliver(client, path, rows[:middle], left, **query),
                *_deliver(client, path, rows[middle:], left, **query),
            ]
        except UncertainError:
            rows = _wait_for(rows, left)
            if rows and attempt == TRIES:
                raise
    return []


def _wait_for(rows: Rows, left: Left) -> Rows:
    for wait in LOOKS_AGAIN:
        time.sleep(wait)
        rows = left(rows)
        if not rows:
            break
    return rows
