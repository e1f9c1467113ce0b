"""Commands of the training stage: train, search, export, backbone."""

from __future__ import annotations

from visionloop.core.cli import WorkspaceOption, new_app
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = new_app("Train a model family and export a signed package.")


@app.command()
def train(workspace: WorkspaceOption = None) -> None:
    """Train on the dataset version of params.yaml; an interrupted training goes on."""
    from visionloop.training.train import train

    report = train(workspace=find_workspace(workspace))
    print(f"weights: {report.weights_source}")
    for name, value in report.metrics.items():
        print(f"{name}: {value:.4f}")
    if report.tracking_problem:
        print(f"MLflow: {report.tracking_problem}")
    say_done("checkpoint", report.checkpoint, "visionloop train export")


@app.command()
def search(workspace: WorkspaceOption = None) -> None:
    """Search better numbers for the training block; an interrupted search goes on."""
    from visionloop.training.search.search import search

    report = search(workspace=find_workspace(workspace))
    print(f"{report.trials} trials ({report.resumed_from} from before), best {report.value:.6g}")
    for name, value in report.best.items():
        print(f"training.{name}: {value}")
    next_step = "put the numbers into params.yaml, then visionloop train train"
    say_done("search", report.folder / "search.png", next_step)


@app.command()
def export(workspace: WorkspaceOption = None) -> None:
    """Export the checkpoint to a signed ONNX package and compare the two on real images."""
    from visionloop.training.export import export

    report = export(workspace=find_workspace(workspace))
    print(f"calibration: {report.calibration_summary}")
    print(f"parity: {report.parity_summary}")
    say_done("package", report.package, "visionloop evaluate evaluate")


@app.command()
def backbone(workspace: WorkspaceOption = None) -> None:
    """Export the frozen backbone once; its features are shared by data, training and monitors."""
    from visionloop.training.backbone import export_backbone

    report = export_backbone(workspace=find_workspace(workspace))
    print(f"weights: {report.weights_source}")
    what = "backbone package (unchanged)" if report.was_there else "backbone package"
    say_done(what, report.package, "visionloop data embed")
