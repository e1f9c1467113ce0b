"""The drafter in use, exchanged for a newer one while requests go on."""

from __future__ import annotations

from collections.abc import Callable

from visionloop.core.workspace import Workspace
from visionloop.labeling.drafts import Drafter, load_drafter
from visionloop.labeling.params import load_params
from visionloop.serving.releases.hot_swap import HotSwap, stamps_of

__all__ = ["CurrentDrafter"]

LOOK_SECONDS = 2.0


class CurrentDrafter(HotSwap[Drafter]):
    """Holds the drafter of the newest release; looks for a newer one every two seconds.

    Thresholds and parameters exchange it, too. ``version`` says whose drafts are shown.

    Parameters
    ----------
    workspace : Workspace
    on_swap : function
        Called when another drafter took over, but not for the one found at the start.
    """

    def __init__(self, workspace: Workspace, on_swap: Callable[[], object]) -> None:
        self._workspace = workspace
        super().__init__(
            stamp=self._stamps,
            load=self._load_drafter,
            name=lambda drafter: drafter.version,
            on_swap=lambda _: on_swap(),
            title="drafts",
            look_seconds=LOOK_SECONDS,
        )

    def _load_drafter(self, _: Drafter | None) -> Drafter | None:
        loaded = load_drafter(self._workspace, *load_params(self._workspace))
        if loaded is not None:
            loaded.warm_up()
        return loaded

    def _stamps(self) -> tuple[object, ...]:
        space = self._workspace
        files = [space.releases / "index.json", space.package / "manifest.json", space.params]
        return stamps_of([*files, *sorted((space.studio_state / "thresholds").glob("*.json"))])
