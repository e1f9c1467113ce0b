"""The command line: every verb on real cells, light help, wrong parameters on one screen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from visionloop.core.cli import run_command
from visionloop.core.errors import ConfigError
from visionloop.data.cli import app
from visionloop.data.params import load_params


def run(*words: str) -> int:
    return run_command(lambda: app(list(words)))


def test_the_verbs_in_order_on_real_cells(workspace, make, capsys):
    pytest.importorskip("elpv_dataset", reason="the data package elpv-dataset is not installed")
    sizes = {"commissioning": 40, "acceptance": 20}
    make.set_params(
        workspace,
        **{"import": {"phases": list(sizes), "phase_sizes": sizes}},
        check={"min_per_class": 3},
    )
    place = ["-w", str(workspace.root)]
    for verb in ("import", "check", "split", "freeze", "verify"):
        assert run(verb, *place) == 0, capsys.readouterr().err
    assert run("diff", "v1", "v1", *place) == 0
    shown = capsys.readouterr().out
    assert "package elpv-dataset" in shown and "60 samples added" in shown
    assert "next: visionloop data check" in shown and "fingerprint" in shown
    damaged = next(workspace.images.iterdir())
    damaged.write_bytes(b"x")
    assert run("verify", *place) == 2
    assert damaged.name in capsys.readouterr().err


def test_the_verbs_on_boards_of_the_mirror(workspace, make, mirror, monkeypatch, capsys):
    monkeypatch.setenv("VISIONLOOP_MIRROR", str(mirror))
    sizes = {"commissioning": 30, "acceptance": 15}
    make.set_params(
        workspace,
        dataset="deeppcb",
        vision_task="detection",
        classes=["open", "short", "mousebite", "spur", "copper", "pin-hole"],
        **{"import": {"phases": list(sizes), "phase_sizes": sizes}},
    )
    for verb in ("import", "check", "split", "freeze", "verify"):
        assert run(verb, "-w", str(workspace.root)) == 0, capsys.readouterr().err
    assert "source: mirror" in capsys.readouterr().out


def test_all_wrong_parameters_at_once(workspace):
    text = workspace.params.read_text()
    text = text.replace("version: v1", "version: 1\n  check: {dark_bellow: 3, min_per_class: few}")
    workspace.params.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_params(workspace)
    said = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "did you mean 'dark_below'" in said and "params.yaml:" in said


def test_unknown_dataset_exits_2(workspace, make, capsys):
    make.set_params(workspace, dataset="elvp")
    assert run("import", "-w", str(workspace.root)) == 2
    assert "did you mean 'elpv'" in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = (
        "import sys, visionloop.data.cli; "
        "print([n for n in ('numpy', 'pandas', 'cv2', 'sklearn') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
