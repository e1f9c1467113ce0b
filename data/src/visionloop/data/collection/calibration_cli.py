"""Commands of ``visionloop data``: calibrate-board, calibrate, plane, redact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

__all__ = ["app"]

app = typer.Typer()

Kind = Annotated[str, typer.Option("--board", help="charuco or chessboard")]
Squares = Annotated[str, typer.Option(help="columns x rows of squares, for example 9x6")]
SquareSide = Annotated[float, typer.Option(help="side of a square, millimetres")]


@app.command("calibrate-board")
def calibrate_board_command(
    page: Annotated[Path, typer.Argument(help="file to write: .pdf or .png")],
    board: Kind = "charuco",
    squares: Squares = "9x6",
    square_mm: SquareSide = 25.0,
) -> None:
    """Write a calibration board to print."""
    from visionloop.data.collection.board import make_board, write_board

    made = make_board(board, squares, square_mm)
    say_done(
        f"board, {made}",
        write_board(page, made),
        "print it at 100 %, glue it on a stiff plate, take 15 pictures of it tilted and in all "
        "corners, then visionloop data calibrate",
    )


@app.command("calibrate")
def calibrate_command(
    camera: Annotated[str, typer.Argument(help="name of the camera")],
    pictures: Annotated[Path, typer.Option(help="folder of pictures of the board")],
    board: Kind = "charuco",
    squares: Squares = "9x6",
    square_mm: SquareSide = 25.0,
    workspace: WorkspaceOption = None,
) -> None:
    """Measure a camera's lens; exit 3 if the pictures do not tell enough."""
    from visionloop.data.collection.board import make_board
    from visionloop.data.collection.calibrate import calibrate

    report = calibrate(
        workspace=find_workspace(workspace),
        camera=camera,
        pictures=pictures,
        board=make_board(board, squares, square_mm),
    )
    for name, reason in report.left_out.items():
        print(f"left out: {name}: {reason}")
    print(f"report: {report.page}")
    made = f"calibration, error {report.rms:.3f} px, {report.used} pictures"
    say_done(made, report.path, f"visionloop data plane {camera} --points points.csv")


@app.command("plane")
def plane_command(
    camera: Annotated[str, typer.Argument(help="name of the camera")],
    points: Annotated[Path, typer.Option(help="CSV file: x_px,y_px,x_m,y_m and name")],
    picture: Annotated[
        Path | None, typer.Option(help="picture of the camera to draw metres on")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Measure a camera's plane, pixels to metres; exit 3 if points do not fit."""
    from visionloop.data.collection.measure_plane import measure_plane

    report = measure_plane(
        workspace=find_workspace(workspace), camera=camera, points=points, picture=picture
    )
    worst = f"{report.error_px.max():.2f} px, {report.error_m.max():.4f} m"
    print(f"report: {report.page}")
    made = f"plane of {len(report.names)} points, worst error {worst}"
    say_done(made, report.path, "visionloop data collect")


@app.command("redact")
def redact_command(
    pictures: Annotated[Path, typer.Argument(help="folder of pictures")],
    out: Annotated[Path, typer.Argument(help="new folder for the redacted ones")],
    package: Annotated[Path, typer.Option(help="signed detector package")],
    classes: Annotated[str, typer.Option(help="classes of the package, commas between them: head")],
    mode: Annotated[str, typer.Option(help="blur or pixelate")] = "blur",
    min_confidence: Annotated[
        float, typer.Option(help="boxes from this confidence on are redacted")
    ] = 0.05,
    margin: Annotated[
        float, typer.Option(help="boxes are widened by this share of their longer side")
    ] = 0.25,
    cells: Annotated[
        int, typer.Option(help="0 keeps nothing; 1 to 4 keep coarse colour in so many cells")
    ] = 0,
    workspace: WorkspaceOption = None,
) -> None:
    """Make heads, or any class of a detector, unrecognisable; what cannot be is withheld."""
    from visionloop.data.collection.redact import redact

    report = redact(
        workspace=find_workspace(workspace),
        pictures=pictures,
        out=out,
        package=package,
        classes=[name.strip() for name in classes.split(",") if name.strip()],
        mode=mode,  # type: ignore[arg-type]  # checked, with all other settings, by the redactor
        min_confidence=min_confidence,
        margin=margin,
        cells=cells,
    )
    for name, reason in report.withheld.items():
        print(f"withheld: {name}: {reason}")
    made = (
        f"{report.passed_on} pictures with {report.boxes} boxes redacted, "
        f"{report.without_box} without a box, {len(report.withheld)} withheld"
    )
    say_done(made, report.out, f"look at {report.page}")
