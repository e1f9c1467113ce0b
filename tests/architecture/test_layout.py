"""The rules of the layout, as failing tests."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STAGES = (
    "core",
    "data",
    "labeling",
    "training",
    "evaluation",
    "serving",
    "monitoring",
    "pipelines",
)


def tracked_files() -> list[Path]:
    """Files that git tracks (or would track)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listing.stdout.split("\n") if name and (ROOT / name).is_file()]


def python_modules(stage: str) -> list[Path]:
    return sorted((ROOT / stage / "src" / "visionloop" / stage).rglob("*.py"))


def test_namespace_has_no_init() -> None:
    """One ``visionloop/__init__.py`` would hide every other stage."""
    assert not list(ROOT.glob("*/src/visionloop/__init__.py"))


@pytest.mark.parametrize("stage", STAGES[1:])
def test_stage_has_its_face(stage: str) -> None:
    """README of one shape, ``python -m``, a command group."""
    readme = (ROOT / stage / "README.md").read_text()
    for heading in ("What comes in", "What goes out", "The command", "How to add one"):
        assert f"## {heading}" in readme, f"{stage}/README.md lacks '## {heading}'"
    assert (ROOT / stage / "src" / "visionloop" / stage / "__main__.py").is_file()
    assert (ROOT / stage / "src" / "visionloop" / stage / "cli.py").is_file()


@pytest.mark.parametrize("path", [p for s in STAGES for p in python_modules(s)], ids=str)
def test_all_is_true(path: Path) -> None:
    """Every name in ``__all__`` is defined in its module, and every public function is in it."""
    tree = ast.parse(path.read_text())
    declared = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign)
        and any(isinstance(target, ast.Name) and target.id == "__all__" for target in node.targets)
    ]
    if path.name in ("__init__.py", "__main__.py"):
        assert not declared
        return
    assert declared, f"{path.relative_to(ROOT)} has no __all__"
    names = set(ast.literal_eval(declared[0].value))
    defined = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
    }
    for node in tree.body:
        targets = (
            node.targets
            if isinstance(node, ast.Assign)
            else [node.target]
            if isinstance(node, ast.AnnAssign)
            else []
        )
        defined |= {target.id for target in targets if isinstance(target, ast.Name)}
    assert names <= defined, f"{sorted(names - defined)} are in __all__ but not defined"


def test_no_file_over_one_megabyte() -> None:
    large = [path for path in tracked_files() if path.stat().st_size > 1_000_000]
    assert not large


def test_no_long_file() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in tracked_files()
        if path.suffix == ".py" and (count := len(path.read_text().splitlines())) > 600
    }
    assert not long


def test_no_registry_host_and_no_path_of_one_machine() -> None:
    """Locks and files carry names, versions and hashes, never where they came from."""
    # The words are put together here so that this file does not hold them.
    hosts = "|".join(
        ["pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.(org|com)", "debian" + r"\.org"]
    )
    forbidden = re.compile(rf"({hosts}|/(?:wo{''}rk|fa{''}rm)/[a-z])")
    shared = re.compile(r"\.\./shared")
    bad = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path not in (ROOT / ".ci" / "run", Path(__file__)) and shared.search(text):
            bad.append(f"{path.relative_to(ROOT)}: names a folder beside the repository")
        if match := forbidden.search(text):
            bad.append(f"{path.relative_to(ROOT)}: {match.group(0)}")
    assert not bad


def test_tree_in_the_docs_equals_the_disk() -> None:
    """Every module named in the architecture page exists, and every stage module is named."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    block = page.split("```tree\n")[1].split("```")[0]
    named: set[str] = set()
    folder = ""
    for line in block.splitlines():
        if match := re.match(r"^(\S+/)", line):
            folder = match.group(1)
        named |= {folder + name for name in re.findall(r"(?<=\s)([a-z_/0-9]+\.py)\b", line)}
    on_disk = {
        f"{stage}/{path.relative_to(ROOT / stage / 'src' / 'visionloop' / stage).as_posix()}"
        for stage in STAGES
        for path in python_modules(stage)
        if path.name not in ("__init__.py", "__main__.py")
    }
    assert named == on_disk, (
        f"only in docs/architecture.md: {sorted(named - on_disk)}; "
        f"only on disk: {sorted(on_disk - named)}"
    )


def test_generated_pages_are_up_to_date() -> None:
    """``make docs`` writes them."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    stale = [path.name for path, content in generate.pages().items() if path.read_text() != content]
    assert not stale, "run: make docs"


def test_help_answers_at_once() -> None:
    """Half a second is the promise; threefold slack for a loaded machine."""
    start = time.monotonic()
    command = [sys.executable, "-m", "visionloop.pipelines", "--help"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert time.monotonic() - start <= 1.5


def test_help_imports_no_heavy_library() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "visionloop.pipelines", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(re.findall(r"\|\s+(\w+)$", result.stderr, flags=re.M))
    assert not imported & {"numpy", "torch", "pandas", "mlflow", "kfp", "cv2", "onnxruntime"}


@pytest.mark.parametrize("stage", STAGES[1:])
def test_command_groups_import_nothing_heavy(stage: str) -> None:
    module = f"visionloop.{stage}.cli"
    heavy = {"torch", "pandas", "mlflow", "kfp", "cv2"}
    code = f"import sys, {module}; print(sorted({heavy} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
    importlib.import_module(module)
