"""A workspace with a frozen version, and the same under git and DVC with a folder remote."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from visionloop.core.workspace import Workspace
from visionloop.data.splits.split import split
from visionloop.data.versions.freeze import freeze

IGNORED = "/data/splits.parquet\n/data/annotations/studio.json\n/reports\n*.tmp\n"


def run_tool(folder: Path, *words: str) -> str:
    """Run git or dvc; its words are the failure."""
    command = [sys.executable, "-m", "dvc", *words[1:]] if words[0] == "dvc" else [*words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def commit(folder: Path, message: str) -> None:
    run_tool(folder, "git", "add", "-A")
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    run_tool(folder, "git", *who, "commit", "-q", "-m", message)


@pytest.fixture
def tool():
    """``tool(folder, "dvc", "status")`` and ``tool.commit(folder, message)``."""
    run_tool.commit = commit
    return run_tool


@pytest.fixture
def ready(fill, make, workspace):
    """20 samples, 15 annotated by experts, split."""
    samples = [
        make.raw_sample(
            make.png(make.picture(number)),
            None if number >= 15 else ("defective" if number % 3 == 0 else "functional"),
            official_split="test" if number < 4 else None,
        )
        for number in range(20)
    ]
    fill(samples)
    split(workspace=workspace)
    return samples


@pytest.fixture
def run_verb():
    """Run ``visionloop data ...`` in its own process, killed at a failpoint if one is given."""

    def run(workspace: Workspace, *words: str, failpoint: str = "") -> subprocess.CompletedProcess:
        environment = {**os.environ, "VISIONLOOP_WORKSPACE": str(workspace.root)}
        environment.pop("VISIONLOOP_FAILPOINT", None)
        if failpoint:
            environment["VISIONLOOP_FAILPOINT"] = failpoint
        command = [sys.executable, "-m", "visionloop.data", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    return run


@pytest.fixture
def kill_at():
    """``kill_at("freeze.before_base:kill:1", verb)``: the verb dies there, in a child process."""

    def run(failpoint: str, verb: Callable[[], object]) -> None:
        child = os.fork()
        if child == 0:
            os.environ["VISIONLOOP_FAILPOINT"] = failpoint
            try:
                verb()
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    return run


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """Where the first ``tracked`` of a session leaves its project for the others to copy."""
    # DVC's own index of links and hashes, away from the user's.
    os.environ["DVC_SITE_CACHE_DIR"] = str(tmp_path_factory.mktemp("dvc-site"))
    return tmp_path_factory.mktemp("tracked") / "project"


@pytest.fixture
def tracked(ready, workspace, template):
    """The workspace under git and DVC: ``data/raw`` and version v1 are tracked and committed.

    Its default remote is the folder ``tmp_path / "remote"``, still empty.
    """
    root = workspace.root
    if not template.exists():
        freeze(workspace=workspace)
        (root / ".gitignore").write_text(IGNORED)
        run_tool(root, "git", "init", "-q", "-b", "main")
        run_tool(root, "dvc", "init", "-q")
        remote = "['remote \"store\"']\n    url = ../../remote\n"
        (root / ".dvc" / "config").write_text(f"[core]\n    remote = store\n{remote}")
        run_tool(root, "dvc", "add", "-q", "data/raw", "data/versions/v1")
        commit(root, "v1")
        shutil.copytree(root, template)
    shutil.rmtree(root)
    shutil.copytree(template, root)
    return workspace


@pytest.fixture
def clone(tracked, tmp_path, tool):
    """Clone the committed project into an empty folder: ``clone("name")``, as a colleague does."""

    def make_clone(name: str) -> Workspace:
        place = tmp_path / name
        shutil.rmtree(place, ignore_errors=True)
        tool(tmp_path, "git", "clone", "-q", str(tracked.root), str(place))
        return Workspace(place)

    return make_clone
