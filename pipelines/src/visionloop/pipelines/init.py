"""``visionloop init``: a project folder with its own git and DVC."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from visionloop.core.config import load_project
from visionloop.core.errors import ConfigError, VisionloopError
from visionloop.core.files import write_json, write_text
from visionloop.core.targets import load_targets
from visionloop.core.workspace import Workspace
from visionloop.data.formats import coco
from visionloop.pipelines.recipes import load_recipe, project_files, render_params

__all__ = ["init", "run_tool"]

IGNORED = """\
/.mlflow-webhook-key
/.servers.json
/.watch-webhook-secret
/artifacts
/data/.raw.lock
/data/.shards*
/data/annotations/studio.json
/data/collection
/data/embeddings
/data/raw
/data/splits.parquet
/data/findings.parquet
/data/requests.parquet
/data/versions/*
/edge
/line
/mlartifacts
/mlflow.db*
/plots.html
/releases
/reports
/studio
/variants
*.tmp
"""

WAIVERS = """\
Signed waivers of gate checks, one file each: `visionloop evaluate waive` writes them, the gate
reads them. Commit them: the review of a waiver is the review of this file.
"""

CONTRACT = """\
# The data contract that this plant signs. A key of data.check in params.yaml that stands here,
# too, counts as it stands here; for example {min_per_class: 50, class_by: [site]}.
{}
"""


def init(*, folder: Path, recipe: str) -> Workspace:
    """Make a project folder for a recipe; doing it again changes nothing.

    Raises
    ------
    ConfigError
        If there is no such recipe, or the folder belongs to another one.
    VisionloopError
        If git or DVC fails.
    """
    chosen = load_recipe(recipe)
    workspace = Workspace(folder.resolve())
    if workspace.params.exists():
        found = load_project(workspace.params).recipe
        if found != recipe:
            raise ConfigError(
                str(folder), f"is a project of recipe '{found}', not '{recipe}'", "choose another"
            )
    else:
        _write_project(workspace, recipe)
    load_targets(workspace.targets)
    if not workspace.studio_annotations.exists():
        classes = load_project(workspace.params).classes
        coco.save(workspace.studio_annotations, [], [], classes)
    _start_version_control(workspace.root, chosen.name)
    return workspace


def _write_project(workspace: Workspace, recipe: str) -> None:
    import yaml

    chosen = load_recipe(recipe)
    files = project_files()
    if chosen.targets is None:
        write_text(workspace.targets, (files / "targets.yaml").read_text())
    else:
        write_text(workspace.targets, yaml.safe_dump(chosen.targets, sort_keys=False))
    for name in ("dvc.yaml", "monitoring/dvc.yaml", "MLproject", "python_env.yaml"):
        write_text(workspace.root / name, (files / name).read_text())
    write_text(workspace.root / ".gitignore", IGNORED)
    write_text(workspace.root / "data" / "contract.yaml", CONTRACT)
    write_json(workspace.root / "data" / "exclusions.json", {"excluded": {}})
    write_text(workspace.root / "waivers" / "README.md", WAIVERS)
    # Last, because its presence says that the project is complete.
    write_text(workspace.params, render_params(chosen))


def _start_version_control(root: Path, name: str) -> None:
    if not (root / ".git").exists():
        run_tool(["git", "init", "-q", "-b", "main"], root)
    if not (root / ".dvc" / "config").exists():
        run_tool([*_dvc(), "init", "-q", "-f"], root)
    run_tool([*_dvc(), "config", "-q", "core.analytics", "false"], root)
    run_tool([*_dvc(), "config", "-q", "core.check_update", "false"], root)
    run_tool([*_dvc(), "config", "-q", "core.autostage", "true"], root)
    # A corrupt cache passes DVC silently unless its remote says verify.
    remote = root.parent / f".{root.name}-dvc-remote"
    run_tool([*_dvc(), "remote", "add", "-q", "-f", "--local", "-d", "local", str(remote)], root)
    run_tool([*_dvc(), "remote", "modify", "-q", "--local", "local", "verify", "true"], root)
    _write_plots_template(root)
    run_tool(["git", "add", "-A"], root)
    changed = subprocess.run(["git", "diff", "--cached", "--quiet"], cwd=root).returncode
    if changed:
        author = ["-c", "user.name=visionloop", "-c", "user.email=visionloop@localhost"]
        run_tool(["git", *author, "commit", "-q", "-m", f"Start a project of recipe {name}"], root)


def _write_plots_template(root: Path) -> None:
    """DVC's plots load their scripts from the network; this template carries them."""
    template = root / ".dvc" / "plots.html"
    if template.exists():
        return
    import vl_convert

    bundle: str = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]
    script = bundle.replace("</script", "<\\/script")
    page = (
        "<!DOCTYPE html><html><head><meta charset='utf-8'><title>DVC plots</title>"
        f"<script>{script}</script></head><body>{{plot_divs}}</body></html>"
    )
    write_text(template, page)
    run_tool([*_dvc(), "config", "-q", "--local", "plots.html_template", "plots.html"], root)


def _dvc() -> list[str]:
    return [sys.executable, "-m", "dvc"]


def run_tool(command: list[str], folder: Path) -> str:
    """Run git or DVC in a folder and return what it printed.

    Raises
    ------
    VisionloopError
        With the tool's own words if it fails or is not installed.
    """
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    except FileNotFoundError:
        raise VisionloopError(command[0], "is not installed", f"install {command[0]}") from None
    if result.returncode:
        words = " ".join(command[:4])
        raise VisionloopError(words, (result.stderr or result.stdout).strip()[-800:])
    return result.stdout
