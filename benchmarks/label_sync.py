"""Push and pull of up to 50,000 tasks, beside the SDK's bulk import and its export converter.

One Label Studio of its own, started and stopped here. Small interleaved rounds, each in a
new project, give the ratio; then one project grows to its full size 10,000 tasks at a time,
every step a process of its own, so that its memory can be told. A push is killed on the way
and run again.

    python benchmarks/label_sync.py [--tasks 50000] [--rounds 3] [--round-tasks 10000]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas
from report import RESULTS, make_row, save_results

from visionloop.core.files import read_json
from visionloop.core.tables import SAMPLES, write_table
from visionloop.core.workspace import Workspace
from visionloop.labeling import server
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.ledger import open_ledger
from visionloop.labeling.project import find_project, setup
from visionloop.labeling.regions import Region, to_result
from visionloop.labeling.selection import SELECTION
from visionloop.labeling.state import read_address
from visionloop.labeling.tasks import sync

HOME = RESULTS / "label_sync"
STEP = 10_000
WIDTH, HEIGHT = 60, 40
PARAMS = """\
project: {{recipe: test, model: {title}, vision_task: detection, classes: [open, short], seed: 0}}
labeling: {{port: 0, control_share: 0}}
"""
CALL = """\
import sys, time
from pathlib import Path
import pandas, pyarrow.parquet
from visionloop.core.workspace import Workspace
from visionloop.labeling.{verb} import {verb}
begun = time.perf_counter()
{verb}(workspace=Workspace(Path(sys.argv[1])))
print(time.perf_counter() - begun)
"""
"""Ours is timed as the peer is: the call, without the start of Python and the imports of its
libraries. Ours is cold; the peer has run before, in the benchmark's own process."""
BOXES = [Region("open", (5.0, 6.0, 17.0, 20.0), "a"), Region("short", (30.0, 9.0, 52.0, 31.0), "b")]


def main() -> None:
    """Measure, print the table, write ``results/label_sync.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--round-tasks", type=int, default=10_000)
    options = parser.parse_args()
    home = _make_home(max(options.tasks, options.round_tasks))
    server.start(home, port=0)
    try:
        server.wait_ready(home)
        rows = _rounds(home, options.rounds, options.round_tasks)
        save_results("label_sync", rows)
        if options.tasks >= STEP:
            rows += _growing(home, options.tasks)
        save_results("label_sync", rows, tasks=options.tasks)
    finally:
        server.stop(home)


def _make_home(samples: int) -> Workspace:
    """A folder with as many samples as asked for, all links to a few small pictures."""
    shutil.rmtree(HOME, ignore_errors=True)
    home = Workspace(HOME)
    home.images.mkdir(parents=True)
    pictures = []
    for number in range(1 + samples // 50_000):
        path = HOME / f"{number}.png"
        cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), number, np.uint8))
        pictures.append(path)
    rows = []
    for number in range(samples):
        one = f"{number:064x}"
        os.link(pictures[number // 50_000], home.images / f"{one}.png")
        rows.append({"sample_id": one, "file_name": f"{one}.png", "width": WIDTH, "height": HEIGHT})
    frame = pandas.DataFrame(rows)
    for column in SAMPLES.columns:
        if column not in frame:
            frame[column] = "" if column in ("camera", "site", "captured_at") else 0.0
    write_table(home.raw / "samples.parquet", SAMPLES, frame)
    home.params.write_text(PARAMS.format(title="home"))
    return home


def _project(home: Workspace, title: str) -> Workspace:
    """A project folder of its own on the same server and the same samples."""
    root = HOME / title
    (root / "data").mkdir(parents=True)
    (root / "data" / "raw").symlink_to(home.raw)
    (root / "studio").mkdir()
    for name in ("server.json", "credentials.json"):
        shutil.copy(home.studio_state / name, root / "studio" / name)
    workspace = Workspace(root)
    workspace.params.write_text(PARAMS.format(title=title))
    setup(workspace=workspace)
    return workspace


def _rounds(home: Workspace, rounds: int, size: int) -> list[dict[str, Any]]:
    seconds: dict[str, list[float]] = {"push": [], "import": [], "pull": [], "export": []}
    worked: dict[str, list[float]] = {name: [] for name in seconds}
    for number in range(rounds):
        ours, theirs = _project(home, f"ours{number}"), _project(home, f"theirs{number}")
        answered = _project(home, f"answered{number}")
        _import_answered(answered, 0, size)
        steps: dict[str, Callable[[], float]] = {
            "push": lambda ours=ours: _push(ours, size)[0],
            "import": lambda theirs=theirs: _sdk_import(theirs, 0, size),
            "pull": lambda answered=answered: _run(answered, "pull")[0],
            "export": lambda answered=answered: _sdk_export(answered),
        }
        names = list(steps) if number % 2 == 0 else list(steps)[::-1]
        for name in names:
            before = _processor(home)
            seconds[name].append(steps[name]())
            worked[name].append(_processor(home) - before)
        print(number, {name: round(values[-1], 1) for name, values in seconds.items()}, flush=True)
    return [
        _ratio_row(f"push, tasks a second, {size} at once", seconds["push"], seconds["import"],
                   size, "SDK import_tasks"),
        _ratio_row(f"pull to COCO, tasks a second, {size} at once", seconds["pull"],
                   seconds["export"], size, "SDK export and its converter"),
        *[_work_row(ours, worked[ours], theirs, worked[theirs], size)
          for ours, theirs in (("push", "import"), ("pull", "export"))],
    ]  # fmt: skip


def _work_row(
    ours: str, our_work: list[float], theirs: str, their_work: list[float], size: int
) -> dict[str, Any]:
    return make_row(
        f"{ours} of {size}, processor seconds of Label Studio",
        float(np.median(our_work)),
        peer=float(np.median(their_work)),
        peer_name=f"SDK {theirs}",
        higher_is_better=False,
    )


def _ratio_row(
    claim: str, ours: list[float], theirs: list[float], size: int, name: str
) -> dict[str, Any]:
    ratios = [their / our for our, their in zip(ours, theirs, strict=True)]
    row = make_row(
        claim,
        size / float(np.median(ours)),
        peer=size / float(np.median(theirs)),
        peer_name=name,
        spread=[min(ratios), max(ratios)],
    )
    ratio = float(np.median(ratios))
    return row | {"ratio": ratio, "target": 1.0, "met": ratio >= 1.0}


def _growing(home: Workspace, tasks: int) -> list[dict[str, Any]]:
    """Ours and the peer's time for each 10,000, and the memory of our processes."""
    ours, theirs, answered = (_project(home, name) for name in ("ours", "theirs", "answered"))
    rows, memory = [], {"push": [], "pull": []}
    killed = _kill_once(ours, min(STEP, tasks))
    for end in range(STEP, tasks + 1, STEP):
        push, push_memory = _push(ours, end)
        their_import = _sdk_import(theirs, end - STEP, end)
        _import_answered(answered, end - STEP, end)
        pull, pull_memory = _run(answered, "pull")
        memory["push"].append(push_memory)
        memory["pull"].append(pull_memory)
        times = f"push {push:.1f} import {their_import:.1f} pull {pull:.1f} s"
        print(end, times, f"push {push_memory:.0f} pull {pull_memory:.0f} MB", flush=True)
        rows.append(
            make_row(f"push of the 10,000 tasks up to {end:,}, seconds", push, peer=their_import,
                     peer_name="SDK import_tasks", higher_is_better=False)
        )  # fmt: skip
        rows.append(make_row(f"pull of the 10,000 answers up to {end:,}, seconds", pull,
                             higher_is_better=False))  # fmt: skip
        rows += [make_row(f"memory of {name} up to {end:,}, MB", values[-1],
                          higher_is_better=False) for name, values in memory.items()]  # fmt: skip
    (answered.studio_state / "decisions.sqlite").unlink()
    whole, whole_memory = _run(answered, "pull")
    export = _sdk_export(answered)
    rows.append(
        make_row(f"pull of all {tasks:,} to COCO, seconds", whole, peer=export,
                 peer_name="SDK export and its converter", higher_is_better=False)
    )  # fmt: skip
    again, _ = _run(answered, "pull")
    rows.append(make_row("pull with nothing new, seconds", again, higher_is_better=False))
    doubled = _tasks(ours) - tasks
    rows.append(make_row(f"tasks doubled or lost by a push killed at {killed:,}", doubled,
                         target=0.0, met=doubled == 0))  # fmt: skip
    for name, values in memory.items():
        growth = values[-1] - values[0]
        claim = f"{name}: memory of the step to {tasks:,} beyond that of the first, MB"
        rows.append(make_row(claim, growth, target=100.0, higher_is_better=False))
    rows.append(make_row("pull of all, memory in MB", whole_memory))
    return rows


def _push(workspace: Workspace, count: int) -> tuple[float, float]:
    _select(workspace, count)
    return _run(workspace, "push")


def _kill_once(workspace: Workspace, count: int) -> int:
    """Push is killed after its first request; the number of tasks that are there."""
    _select(workspace, count)
    environment = {**os.environ, "VISIONLOOP_FAILPOINT": "labeling.push:kill:1"}
    killed = subprocess.run(_command(workspace, "push"), env=environment, capture_output=True)
    if killed.returncode != -9:
        raise SystemExit(f"push was to be killed, and ended with {killed.returncode}")
    return _tasks(workspace)


def _select(workspace: Workspace, count: int) -> None:
    ids = [f"{number:064x}" for number in range(count)]
    frame = pandas.DataFrame({"sample_id": ids, "order": range(count), "reason": "a benchmark"})
    write_table(workspace.studio_state / "selection.parquet", SELECTION, frame)


def _command(workspace: Workspace, verb: str) -> list[str]:
    return [sys.executable, "-m", "visionloop.labeling", verb, "-w", str(workspace.root)]


def _run(workspace: Workspace, verb: str) -> tuple[float, float]:
    """Seconds that the verb took in a new process, by that one's clock, and peak memory (MB)."""
    log = HOME / "command.log"
    memory = 0.0
    with log.open("w") as file:
        line = [sys.executable, "-c", CALL.format(verb=verb), str(workspace.root)]
        process = subprocess.Popen(line, stdout=file, stderr=file)
        while process.poll() is None:
            memory = max(memory, _peak_memory(process.pid))
            time.sleep(0.02)
    if process.returncode != 0:
        raise SystemExit(log.read_text())
    return float(log.read_text().splitlines()[-1]), memory


def _peak_memory(pid: int) -> float:
    """Of a running process so far, in MB; what ``wait4`` tells includes its parent's."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def _processor(home: Workspace) -> float:
    """Seconds of a core that Label Studio has had: other programs on the machine add nothing."""
    address = read_address(home)
    assert address is not None
    fields = Path(f"/proc/{address.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tasks(workspace: Workspace) -> int:
    return int(_found(workspace)["task_number"])


def _found(workspace: Workspace) -> dict[str, Any]:
    from visionloop.core.config import load_project

    return find_project(connect(workspace), load_project(workspace.params))


def _contents(start: int, end: int) -> Iterator[dict[str, Any]]:
    for number in range(start, end):
        one = f"{number:064x}"
        yield {
            "image": f"/data/local-files/?d=images/{one}.png",
            "sample_id": one,
            "look": "first",
            "reason": "a benchmark",
            "rank": f"{number + 1:04d}",
            "findings": "",
            "control": "",
            "camera": "",
            "captured_at": "",
        }


def _import_answered(workspace: Workspace, start: int, end: int) -> None:
    """Tasks with a draft and an answer."""
    client, project = connect(workspace), _found(workspace)["id"]
    draft = {"model_version": "m@1", "score": 0.5, "result": to_result(BOXES, WIDTH, HEIGHT)}
    result = to_result(BOXES, WIDTH, HEIGHT, origins={"a": "prediction", "b": "manual"})
    answer = {"result": result, "lead_time": 3.5}
    tasks = [
        {"data": data, "predictions": [draft], "annotations": [answer]}
        for data in _contents(start, end)
    ]
    for first in range(0, len(tasks), 1000):
        client.post(f"/api/projects/{project}/import", tasks[first : first + 1000])
    with open_ledger(workspace) as ledger:
        sync(ledger, client, project)  # as the push that makes such tasks leaves it


def _sdk(workspace: Workspace) -> Any:
    from label_studio_sdk import LabelStudio

    from visionloop.labeling.state import credentials

    client: StudioClient = connect(workspace)
    return LabelStudio(base_url=client.url, api_key=credentials(workspace).token, timeout=1800)


def _sdk_import(workspace: Workspace, start: int, end: int) -> float:
    """All in one call, as its documentation shows; the tasks are made beforehand."""
    project, sdk = _found(workspace)["id"], _sdk(workspace)
    tasks = [{"data": data} for data in _contents(start, end)]
    begun = time.perf_counter()
    sdk.projects.import_tasks(id=project, request=tasks)
    return time.perf_counter() - begun


def _sdk_export(workspace: Workspace) -> float:
    """The JSON export in one call, and the converter on it."""
    from label_studio_sdk.converter import Converter

    found, sdk = _found(workspace), _sdk(workspace)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        path = Path(folder) / "export.json"
        pieces = sdk.projects.exports.download_sync(id=found["id"], export_type="JSON")
        path.write_bytes(b"".join(pieces))
        converter = Converter(
            config=found["label_config"], project_dir=None, download_resources=False
        )
        images = str(Path(folder) / "images")
        converter.convert_to_coco(str(path), folder, output_image_dir=images, is_dir=False)
        seconds = time.perf_counter() - begun
        assert len(read_json(Path(folder) / "result.json")["annotations"]) > 0
        return seconds


if __name__ == "__main__":
    main()
