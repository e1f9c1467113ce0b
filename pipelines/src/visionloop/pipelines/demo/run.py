"""Runs the steps of the ring in order; what is finished is not done again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from visionloop.core.errors import ConfigError, VisionloopError
from visionloop.core.files import read_json, write_json, write_text
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.pipelines.init import init, run_tool

__all__ = ["Demo", "WaitForPerson", "run_demo"]

STUDIO_MODES = ("scripted", "human")


class WaitForPerson(Exception):
    """The next move is a person's; the text says what to open and what to run afterwards."""


@dataclass
class Demo:
    """One run of the ring.

    Attributes
    ----------
    workspace : Workspace
    studio : str
        Who annotates: "scripted" or "human".
    results : dict
        Step name -> what the step found, as JSON; the report is made from it.
    seconds : dict
        Step name -> wall-clock seconds.
    """

    workspace: Workspace
    studio: str
    results: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def state_file(self) -> Path:
        return self.workspace.root / ".demo.json"

    def load(self) -> None:
        """Take up where an earlier run stopped."""
        if self.state_file.exists():
            state = read_json(self.state_file)
            self.results, self.seconds = state["results"], state["seconds"]

    def save(self) -> None:
        """Write down what is finished."""
        write_json(self.state_file, {"results": self.results, "seconds": self.seconds})

    def reproduce(self, *stages: str) -> None:
        """``dvc repro`` with its output shown, then record the result in git and the remote.

        Raises
        ------
        VisionloopError
            If a stage failed; its own message stands above.
        """
        command = [sys.executable, "-m", "dvc", "repro", *stages]
        code = subprocess.run(command, cwd=self.workspace.root, env=tool_environment()).returncode
        if code:
            raise VisionloopError(
                f"dvc repro {' '.join(stages)}", "a stage failed; its message is above"
            )
        self.commit(f"Reproduce {' '.join(stages)}")

    def commit(self, message: str) -> None:
        """Record parameters and ``dvc.lock`` in the project's git."""
        root = self.workspace.root
        run_tool(["git", "add", "-A"], root)
        if subprocess.run(["git", "diff", "--cached", "--quiet"], cwd=root).returncode:
            author = ["-c", "user.name=visionloop", "-c", "user.email=visionloop@localhost"]
            run_tool(["git", *author, "commit", "-q", "-m", message], root)

    def push(self) -> None:
        """Store the bytes of this state in the project's DVC remote."""
        run_tool([sys.executable, "-m", "dvc", "push", "-q"], self.workspace.root)

    def set_param(self, name: str, value: Any) -> None:
        """Change one number of ``params.yaml``, as a person would, comments kept."""
        set_param(self.workspace.params, name, value)


def set_param(path: Path, name: str, value: Any) -> None:
    """Change one dotted key of a ``params.yaml``; its comments stay."""
    import io

    from ruamel.yaml import YAML

    editor = YAML()
    editor.preserve_quotes = True
    editor.width = 100
    document = editor.load(path.read_text())
    place = document
    *parents, last = name.split(".")
    for part in parents:
        place = place[part]
    place[last] = value
    text = io.StringIO()
    editor.dump(document, text)
    write_text(path, text.getvalue())


def tool_environment() -> dict[str, str]:
    """Our own programs first on PATH: DVC stages call ``visionloop`` by name."""
    here = str(Path(sys.executable).parent)
    return {**os.environ, "PATH": here + os.pathsep + os.environ.get("PATH", "")}


def run_demo(*, recipe: str, studio: str, folder: Path) -> None:
    """Run the ring for a recipe.

    Raises
    ------
    ConfigError
        If the recipe or the way of annotating is unknown.
    VisionloopError
        If a step fails; the same command goes on from there.
    """
    if studio not in STUDIO_MODES:
        raise ConfigError(f"--studio {studio}", f"is not one of {', '.join(STUDIO_MODES)}")
    from visionloop.labeling import server
    from visionloop.pipelines.demo.steps import STEPS

    demo = Demo(init(folder=folder, recipe=recipe), studio)
    demo.load()
    use_demo_keys(demo.workspace)
    os.environ["VISIONLOOP_WORKSPACE"] = str(demo.workspace.root)
    try:
        for number, (name, title, step) in enumerate(STEPS, start=1):
            _run_step(demo, f"[{number}/{len(STEPS)}] {title}", name, step)
    except WaitForPerson as wait:
        print(wait)
        return
    finally:
        demo.save()
        if demo.studio == "scripted":
            server.stop(demo.workspace)


def _run_step(demo: Demo, title: str, name: str, step: Callable[[Demo], dict[str, Any]]) -> None:
    if name in demo.results:
        say_step(f"{title}: done before")
        return
    say_step(title)
    start = time.monotonic()
    demo.results[name] = step(demo)
    demo.seconds[name] = round(time.monotonic() - start, 1)
    demo.save()
    say_step(f"{title}: {demo.seconds[name]:.0f} s")


def use_demo_keys(workspace: Workspace) -> None:
    """Throw-away signing keys, kept outside the project; real ones are taken if set."""
    if os.environ.get("VISIONLOOP_SIGNING_KEY"):
        return
    from visionloop.core.files import sha256_of_bytes
    from visionloop.serving.signing import new_key_pair

    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = sha256_of_bytes(str(workspace.root).encode())[:12]
    folder = state / "visionloop" / f"demo-keys-{name}"
    found = sorted(folder.glob("*.pem"))  # the private key sorts before the public one
    private, public = found if len(found) == 2 else new_key_pair(folder)
    os.environ["VISIONLOOP_SIGNING_KEY"] = str(private)
    os.environ["VISIONLOOP_TRUSTED_KEYS"] = str(public)
