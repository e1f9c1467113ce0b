"""Command line of the data stage: ``visionloop data ...``.

Each part of the stage declares its own commands; the order here is that of the help page.
"""

from __future__ import annotations

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace
from visionloop.data.collection.calibration_cli import app as calibration
from visionloop.data.collection.cli import app as collection
from visionloop.data.datasets.cli import app as datasets
from visionloop.data.quality.cli import app as quality
from visionloop.data.splits.cli import app as splits
from visionloop.data.synthesis.cli import app as synthesis
from visionloop.data.versions.cli import app as versions

__all__ = ["app"]

app = new_app("Collect, import, check, split, freeze, embed: from images to dataset versions.")
for part in (collection, calibration, datasets, quality, splits, synthesis, versions):
    app.add_typer(part)


@app.command("embed")
def embed_command(workspace: WorkspaceOption = None) -> None:
    """Compute the embeddings that are missing, with the backbone package."""
    from visionloop.data.embeddings import embed

    place = find_workspace(workspace)
    report = embed(workspace=place)
    made = f"{report.computed} embeddings computed, {report.total} in all, {report.dimension} long"
    say_done(made, place.embeddings, "visionloop data split")
