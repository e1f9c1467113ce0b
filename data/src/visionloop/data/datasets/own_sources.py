"""The sources of ``data.import.sources``: one's own pictures, in the place of a data set."""

from __future__ import annotations

from visionloop.core.workspace import Workspace
from visionloop.data.datasets.import_source import SourceReport, import_source
from visionloop.data.params import load_params

__all__ = ["import_own_sources"]


def import_own_sources(*, workspace: Workspace) -> list[SourceReport]:
    """Import every source that ``params.yaml`` lists, in order; empty where it lists none.

    Raises
    ------
    DataError
        As :func:`import_source`; sources before the refused one are in ``data/raw``.
    """
    _, data = load_params(workspace)
    return [
        import_source(
            workspace=workspace,
            source=workspace.root / one.path,
            format_name=one.format,
            camera=one.camera,
            site=one.site,
            on_error=one.on_error,
        )
        for one in data.imports.sources
    ]
