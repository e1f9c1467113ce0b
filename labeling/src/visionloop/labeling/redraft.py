"""Open tasks get the drafts of a new package.

Label Studio shows, and orders by, the drafts of one version a project: those named in its
``model_version``. Under a new package every open task therefore needs a draft of the new
name, changed or not. Naming an old draft anew costs a request each; an import of hundreds
costs less than 1 ms a draft, so all of them are sent, each once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visionloop.core.failpoints import failpoint
from visionloop.core.progress import track
from visionloop.core.workspace import Workspace
from visionloop.labeling.client import StudioClient
from visionloop.labeling.delivery import send_drafts
from visionloop.labeling.drafts import Drafter
from visionloop.labeling.ledger import Ledger
from visionloop.labeling.params import LabelingParams
from visionloop.labeling.queries import NOBODY, condition
from visionloop.labeling.tasks import build_prediction

if TYPE_CHECKING:
    import pandas

__all__ = ["Redrafting", "show_drafts_of"]

KEPT_LOOKS = ("second", "adjudicate")
"""Their drafts were made of findings or answers, and stay under the new name. A second
opinion never has a draft."""

Tasks = list[dict[str, Any]]


def show_drafts_of(client: StudioClient, project_id: int, version: str) -> None:
    """Let the project show and order by the drafts of this version, once it has any."""
    shown = client.get(f"/api/projects/{project_id}/")["model_version"]
    known = client.get(f"/api/projects/{project_id}/model-versions/")
    if shown != version and version in known:
        client.patch(f"/api/projects/{project_id}/", {"model_version": version})


@dataclass(frozen=True)
class Redrafting:
    """Gives the open tasks of a project the drafts of one version, then shows those."""

    workspace: Workspace
    client: StudioClient
    project_id: int
    ledger: Ledger
    drafter: Drafter
    params: LabelingParams

    def run(self) -> int:
        """The number of tasks that got a draft; none where all have it."""
        done = self._first_looks() + sum(self._kept(look) for look in KEPT_LOOKS)
        show_drafts_of(self.client, self.project_id, self.drafter.version)
        return done

    def _first_looks(self) -> int:
        from visionloop.data.raw import read_samples

        stale = self.ledger.undrafted(self.drafter.version, "first")
        if not stale:
            return 0
        samples = read_samples(self.workspace).set_index("sample_id", drop=False)
        pages = self.client.sweep(
            self.project_id, *NOBODY, size=self.params.batch, include="id,data"
        )
        done = 0
        for tasks in track(pages, f"drafting {len(stale)} open tasks anew"):
            mine = [task for task in tasks if task["id"] in stale]
            done += self._send(list(self._drafted(mine, samples)))
        self._is_over(stale)
        return done

    def _kept(self, look: str) -> int:
        stale = self.ledger.undrafted(self.drafter.version, look)
        if not stale:
            return 0
        done = 0
        is_it = condition("data.look", "equal", "String", look)
        fields: dict[str, Any] = {"fields": "all", "include": "id,predictions,score,result"}
        size = self.params.batch
        for tasks in self.client.sweep(self.project_id, *NOBODY, is_it, size=size, **fields):
            mine = [task for task in tasks if task["id"] in stale and task["predictions"]]
            done += self._send([self._renamed(task) for task in mine])
        self._is_over(stale)
        return done

    def _is_over(self, stale: set[int]) -> None:
        """Tasks that were answered meanwhile, or whose image is gone, are not asked about again."""
        self.ledger.set_draft(stale, self.drafter.version)

    def _drafted(self, tasks: Tasks, samples: pandas.DataFrame) -> Iterator[dict[str, Any]]:
        """Leaves out tasks whose image is gone."""
        there = []
        for task in tasks:
            if task["data"]["sample_id"] in samples.index:
                row = samples.loc[task["data"]["sample_id"]]
                if (path := self.workspace.images / str(row["file_name"])).is_file():
                    there.append((task, int(row["width"]), int(row["height"]), path))
        drafts = self.drafter.draft_each([path for *_, path in there])
        for (task, width, height, _), draft in zip(there, drafts, strict=True):
            if draft is not None:
                control = task["data"].get("control") == "yes"
                made = build_prediction(draft, width, height, control=control)
                yield {"task": task["id"], **made}

    def _renamed(self, task: dict[str, Any]) -> dict[str, Any]:
        newest = max(task["predictions"], key=lambda row: row["id"])
        kept = {"score": newest["score"], "result": newest["result"]}
        return {"task": task["id"], "model_version": self.drafter.version, **kept}

    def _send(self, predictions: Tasks) -> int:
        if predictions:
            version = self.drafter.version
            send_drafts(self.client, self.project_id, predictions, version)
            self.ledger.set_draft((row["task"] for row in predictions), version)
            failpoint("labeling.redraft")
        return len(predictions)
