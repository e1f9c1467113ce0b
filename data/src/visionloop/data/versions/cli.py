"""Commands of ``visionloop data`` about dataset versions and where their bytes are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visionloop.core.cli import WorkspaceOption
from visionloop.core.progress import say_done
from visionloop.core.workspace import find_workspace

if TYPE_CHECKING:
    from visionloop.data.versions.verify import VerifyReport

__all__ = ["app"]

app = typer.Typer()


@app.command("freeze")
def freeze_command(
    workspace: WorkspaceOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="overwrite a version of this name")
    ] = False,
    next_name: Annotated[
        bool, typer.Option("--next", help="if the name is taken, take the next one: v1, v2")
    ] = False,
) -> None:
    """Freeze what is annotated now as the dataset version of params.yaml."""
    from visionloop.data.versions.freeze import freeze
    from visionloop.data.versions.next_name import take_next_name

    place = find_workspace(workspace)
    if next_name and not replace:
        take_next_name(place)
    report = freeze(workspace=place, replace=replace)
    print(", ".join(f"{name} {count}" for name, count in report.splits.items()))
    state = "was frozen already" if report.unchanged else "frozen"
    made = f"{report.name} {state}, {report.samples} samples, fingerprint {report.fingerprint[:12]}"
    say_done(made, place.version(report.name), "visionloop train train")


@app.command("versions")
def versions_command(workspace: WorkspaceOption = None) -> None:
    """List the dataset versions; the current one is marked."""
    from visionloop.data.versions.listing import list_versions, render_versions

    place = find_workspace(workspace)
    rows = list_versions(workspace=place)
    if rows:
        print(render_versions(rows))
    next_step = "visionloop data diff OLD NEW" if len(rows) > 1 else "visionloop data freeze"
    say_done(f"{len(rows)} dataset versions", place.versions, next_step)


@app.command("diff")
def diff_command(
    first: Annotated[str, typer.Argument(help="older dataset version")],
    second: Annotated[str, typer.Argument(help="newer dataset version")],
    workspace: WorkspaceOption = None,
    pictures: Annotated[int, typer.Option(min=0, help="changed samples drawn, worst first")] = 120,
) -> None:
    """Show what changed between two dataset versions: samples, boxes, classes, splits."""
    from visionloop.data.versions.diff import diff, render_diff

    place = find_workspace(workspace)
    report, page = diff(first, second, workspace=place, pictures=pictures)
    print(render_diff(report))
    say_done("no difference" if report.is_empty else "differences", page)


@app.command("checkout")
def checkout_command(
    version: Annotated[str, typer.Argument(help="name of a dataset version")],
    workspace: WorkspaceOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="replace annotations and splits that no version has")
    ] = False,
) -> None:
    """Make a dataset version the current one: params.yaml, annotations, splits, images."""
    from visionloop.data.versions.checkout import checkout

    place = find_workspace(workspace)
    report = checkout(version, workspace=place, force=force)
    if report.images_brought:
        print(f"{report.images_brought} images brought from shards, cache or remote")
    if report.later:
        print(f"{report.later} samples are not in it: visionloop data split brings them in again")
    if report.kept_aside:
        print(f"what was replaced is kept in {report.kept_aside}")
    made = f"{report.name} is current, {report.samples} samples, {report.fingerprint[:12]}"
    say_done(made, place.version(report.name), "dvc repro")


@app.command("verify")
def verify_command(
    workspace: WorkspaceOption = None,
    remote: Annotated[str | None, typer.Option(help="also read this DVC remote")] = None,
) -> None:
    """Hash images, versions, shards, DVC's cache and a remote again; name what is damaged."""
    from visionloop.data.versions.verify import verify

    place = find_workspace(workspace)
    _say_verified(verify(workspace=place, remote=remote), place.raw)


@app.command("push")
def push_command(
    workspace: WorkspaceOption = None,
    remote: Annotated[str | None, typer.Option(help="DVC remote (default: its default)")] = None,
    history: Annotated[
        bool, typer.Option("--history", help="also what earlier git commits track")
    ] = False,
) -> None:
    """dvc push, but hashed before and compared after: a damaged file is not spread."""
    from visionloop.data.versions.remotes import push

    report = push(workspace=find_workspace(workspace), remote=remote, history=history)
    made = f"{report.moved} objects pushed, {report.objects} in {report.remote}"
    say_done(made, report.place, "visionloop data pull, on another machine")


@app.command("pull")
def pull_command(
    workspace: WorkspaceOption = None,
    remote: Annotated[str | None, typer.Option(help="DVC remote (default: its default)")] = None,
) -> None:
    """dvc pull, with every object hashed on arrival, and verify."""
    from visionloop.data.versions.remotes import pull

    place = find_workspace(workspace)
    _say_verified(pull(workspace=place, remote=remote), place.raw)


def _say_verified(report: VerifyReport, where: object) -> None:
    from visionloop.core.errors import DataError

    if report.problems:
        raise DataError("data", list(report.problems), "\n    ".join(report.next_steps))
    stores = "".join(f", {count} objects in the {name}" for name, count in report.objects.items())
    shards = f", {report.shards} shards" if report.shards else ""
    say_done(
        f"{report.images} images, {report.versions} versions{shards}{stores} are intact", where
    )


@app.command("pack")
def pack_command(
    workspace: WorkspaceOption = None,
    images: Annotated[
        Path | None, typer.Option(help="folder to pack (default: data/raw/images)")
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="shard folder (default: data/shards)")] = None,
    remove_missing: Annotated[
        bool, typer.Option("--remove-missing", help="files gone from the folder leave the index")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="drop bytes that no name refers to any more")
    ] = False,
    track: Annotated[bool, typer.Option("--track", help="then as 'dvc add' of the shards")] = False,
) -> None:
    """Pack image files into a few tar shards and an index: what is new, and nothing else."""
    from visionloop.data.versions.pack import pack, shard_folder

    place = find_workspace(workspace)
    folder = (shards or shard_folder(place)).resolve()
    report = pack(
        workspace=place,
        images=images,
        shards=folder,
        remove_missing=remove_missing,
        compact=compact,
    )
    print(
        f"{report.added} added, {report.changed} changed, {report.removed} removed, "
        f"{report.written / 1e6:.1f} MB written"
    )
    for number, words in (
        (report.cut, "bytes of a torn write were cut off"),
        (report.missing, "files are in the shards and not in the folder: visionloop data unpack"),
        (report.dead, "bytes belong to no file any more: visionloop data pack --compact"),
    ):
        if number:
            print(f"{number} {words}")
    made = f"{report.files} files in {report.shards} shards"
    if not track:
        say_done(made, folder, f"dvc add {folder.name}, in {folder.parent}; or --track")
        return
    from visionloop.data.versions.dvc_track import track_folder

    say_done(f"{made}, tracked by DVC", track_folder(folder), "visionloop data push")


@app.command("unpack")
def unpack_command(
    names: Annotated[list[str] | None, typer.Argument(help="files (default: all)")] = None,
    workspace: WorkspaceOption = None,
    images: Annotated[
        Path | None, typer.Option(help="folder to write into (default: data/raw/images)")
    ] = None,
    shards: Annotated[Path | None, typer.Option(help="shard folder (default: data/shards)")] = None,
) -> None:
    """Write the files of the shards that are missing in the image folder."""
    from visionloop.data.versions.pack import unpack

    place = find_workspace(workspace)
    report = unpack(workspace=place, images=images, shards=shards, names=names or None)
    made = f"{report.written} files unpacked, {report.there} were there"
    say_done(made, images or place.images, "visionloop data verify")
