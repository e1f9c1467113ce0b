"""``visionloop label``: Label Studio set up, fed, read back and measured."""

from __future__ import annotations

from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Label Studio: set up, choose, push, pull, second look, cost.")


@app.command()
def setup(
    workspace: WorkspaceOption = None,
    recipe: Annotated[
        str | None, typer.Option(help="make the project folder, or be sure that it is of this one")
    ] = None,
) -> None:
    """Make the Label Studio project, its storage and its tabs; connect the running backend."""
    from visionloop.labeling.backend.serve import connect_running
    from visionloop.labeling.project import ensure_recipe
    from visionloop.labeling.project import setup as run

    space = find_workspace(workspace)
    if recipe is not None:
        ensure_recipe(space, recipe)
    report = run(workspace=space)
    made = "made the project" if report.created else "the project is in order"
    made += ", the ML backend is connected" if connect_running(space) else ""
    say_done(made, report.url, "visionloop label select")


@app.command()
def select(
    workspace: WorkspaceOption = None,
    strategy: Annotated[str | None, typer.Option(help="instead of labeling.strategy")] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="instead of labeling.budget")] = None,
) -> None:
    """Choose which samples people annotate next."""
    from visionloop.labeling.selection import select as run

    report = run(workspace=find_workspace(workspace), strategy=strategy, budget=budget)
    made = f"selected {report.selected} of {report.pool} samples ({report.strategy})"
    say_done(made, report.path, "visionloop label push")


@app.command()
def push(workspace: WorkspaceOption = None) -> None:
    """Send the selected samples to Label Studio, with the model's drafts."""
    from visionloop.labeling.push import push as run

    report = run(workspace=find_workspace(workspace))
    drafts = f"drafts by {report.version}" if report.version else "no drafts: no package yet"
    made = f"pushed {report.pushed} samples ({report.already} were there; {drafts})"
    if report.gone:
        made += f"; {len(report.gone)} have no image file any more, first {report.gone[0][:12]}"
    say_done(made, report.url, "annotate in the tab 'Next best', then: visionloop label pull")


@app.command()
def pull(workspace: WorkspaceOption = None) -> None:
    """Bring the annotations back."""
    from visionloop.labeling.pull import pull as run

    space = find_workspace(workspace)
    report = run(workspace=space)
    made = f"pulled {report.annotations} annotations of {report.samples} samples"
    if report.replaced:
        made += f" ({report.replaced} by a second look)"
    say_done(made, space.studio_annotations, "visionloop data freeze")


@app.command()
def issues(
    workspace: WorkspaceOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="instead of labeling.second_look")
    ] = None,
) -> None:
    """Send doubtful annotations back for a second look."""
    from visionloop.labeling.second_look import issues as run

    report = run(workspace=find_workspace(workspace), limit=limit)
    for row in report.precision:
        print(row)
    made = f"sent {report.sent} samples for a second look ({report.already} were sent before)"
    if report.held_back:
        made += f"; {report.held_back} findings of kinds that are rarely right stay here"
    say_done(made, report.url, "look in the tab 'Second look', then: visionloop label pull")


@app.command()
def review(workspace: WorkspaceOption = None) -> None:
    """Ask other people for second opinions; send disagreements to be settled."""
    from visionloop.labeling.review.sending import review as run

    report = run(workspace=find_workspace(workspace))
    made = (
        f"asked for {report.sent} second opinions ({report.again} of them again, "
        f"{report.waiting} wait), sent {report.disputes} disagreements"
    )
    if len(report.reviewers) < 2:
        made += "; a second person must join: Label Studio, Organization, Invite People"
    say_done(
        made, report.url, "tabs 'second opinion' and 'Disagreements', then: visionloop label pull"
    )


@app.command()
def agreement(workspace: WorkspaceOption = None) -> None:
    """Measure how well people agree, by class and person by person."""
    from visionloop.labeling.review.report import agreement as run

    report = run(workspace=find_workspace(workspace))
    images = report.agreement.images
    made = f"{images.agreed} of {images.samples} samples are alike to two people"
    if images.low is not None and images.high is not None:
        made += f" ({images.low:.0%} to {images.high:.0%})"
    say_done(made, report.page, "visionloop label review sends the others to be settled")


@app.command()
def meter(workspace: WorkspaceOption = None) -> None:
    """Measure what annotation costs, with drafts and by hand."""
    from visionloop.labeling.meter import meter as run

    report = run(workspace=find_workspace(workspace), track=True)
    first, share = report.first, report.saving.share
    made = (
        f"{first.seconds_per_image:.1f} s an image, {first.seconds_per_object:.1f} s an object, "
        f"{first.accepted_share:.0%} of {first.images} images' drafts accepted; "
    )
    if share.value is None or share.low is None or share.high is None:
        made += "beside drawing by hand: not enough data"
    else:
        made += f"{share.value:.0%} ({share.low:.0%} to {share.high:.0%}) of drawing by hand"
    say_done(made, report.page)


@app.command()
def thresholds(workspace: WorkspaceOption = None) -> None:
    """Choose, for each class, from which confidence a draft's box is worth showing."""
    from visionloop.labeling.calibration import thresholds as run

    report = run(workspace=find_workspace(workspace))
    if report.path is None:
        say_done("no thresholds chosen", report.why_not)
        return
    for name, value in report.thresholds.items():
        print(f"{name}: {value:.2f}" if value <= 1 else f"{name}: never shown")
    made = f"thresholds: {report.saved:.1f} s an image saved, {report.saved_before:.1f} s before"
    say_done(made, report.path, "visionloop label push")


@app.command()
def backend(
    workspace: WorkspaceOption = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="instead of labeling.backend_port")
    ] = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
) -> None:
    """Serve drafts and training to Label Studio until interrupted."""
    from visionloop.labeling.backend.serve import run_backend

    run_backend(workspace=find_workspace(workspace), port=port, host=host)


@app.command("train-now")
def train_now(workspace: WorkspaceOption = None) -> None:
    """Put a training into the backend's queue, as the button in Label Studio does."""
    from visionloop.labeling.backend.jobs import JobQueue
    from visionloop.labeling.backend.keys import running_backend

    space = find_workspace(workspace)
    job = JobQueue(space).add("training", asked_by="the command line")
    address = running_backend(space)
    where = address.url if address else "it begins when the backend runs"
    say_done(f"training {job.id} waits", where, "" if address else "visionloop label backend")
