"""Training without anybody asking: after so many new answers.

Label Studio has a switch for it, too, but asks for a training at every answer while the
annotator waits. This counts what the pulls bring.
"""

from __future__ import annotations

from visionloop.core.workspace import Workspace
from visionloop.labeling.backend.jobs import JobQueue
from visionloop.labeling.decisions import open_decisions
from visionloop.labeling.params import load_params

__all__ = ["train_if_wanted"]

NOTE = "answers at the last automatic training"


def train_if_wanted(workspace: Workspace, queue: JobQueue) -> bool:
    """Queue a training if ``labeling.train_after`` answers came since the last one.

    Called after each pull. Returns whether it queued one.
    """
    wanted = load_params(workspace)[1].train_after
    if not wanted:
        return False
    with open_decisions(workspace) as store:
        answers = len(store)
        if answers - int(store.note(NOTE) or 0) < wanted:
            return False
        store.set_note(NOTE, str(answers))
    queue.add("training", asked_by=f"{wanted} new answers")
    return True
