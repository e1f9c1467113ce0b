"""Label Studio as an annotator sees it: a real browser opens, looks, drags and submits."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import pandas
import pytest

from visionloop.core.config import load_project
from visionloop.core.files import read_json
from visionloop.core.geometry import box_iou
from visionloop.core.tables import FINDINGS, write_table
from visionloop.data.formats import coco
from visionloop.labeling.client import connect
from visionloop.labeling.decisions import load_decisions
from visionloop.labeling.interface import COLOURS
from visionloop.labeling.project import find_project, find_tab, setup
from visionloop.labeling.pull import pull
from visionloop.labeling.push import push
from visionloop.labeling.second_look import issues
from visionloop.labeling.state import credentials

WAIT = 60_000
"""Milliseconds: two cores may be busy with other tests."""
STEP = 12
"""Pixels of the screen that the mouse moves at a time, as a hand would."""


@dataclass
class Annotator:
    """A person at Label Studio in a browser; positions in pixels of the sample."""

    page: object
    url: str
    project: int
    size: tuple[int, int]

    def open_tab(self, number: int) -> None:
        """Open a tab of the project, read the instructions, start with its first task."""
        self.page.goto(f"{self.url}/projects/{self.project}/data?tab={number}")
        self.page.get_by_role("button", name="Label All Tasks").click(timeout=WAIT)
        instructions = self.page.get_by_text("Labeling Instructions")
        instructions.wait_for(timeout=WAIT)
        self.page.get_by_text("Draw a box around each object").wait_for(timeout=WAIT)
        self.page.keyboard.press("Escape")
        instructions.wait_for(state="hidden", timeout=WAIT)
        self.wait()

    def open_row(self, number: int, text: str) -> None:
        """Open a tab and click the row that holds a text.

        A task that was opened and not submitted comes first in every stream of tasks, so
        that nobody else is given it meanwhile; a click on a row opens that row.
        """
        self.page.goto(f"{self.url}/projects/{self.project}/data?tab={number}")
        self.page.get_by_text(text).filter(visible=True).first.click(timeout=WAIT)
        self.wait()

    def wait(self) -> None:
        """Until the picture and its draft are there."""
        self.page.wait_for_selector('img[alt="image"]', timeout=WAIT)
        self.page.wait_for_selector("canvas", timeout=WAIT)
        self.page.wait_for_function(
            "() => window.Htx?.annotationStore?.selected?.objects[0]?.imageIsLoaded", timeout=WAIT
        )
        before, now = None, self.frame()
        while before != now:
            self.page.wait_for_timeout(300)  # panels move, then the picture follows
            before, now = now, self.frame()

    @property
    def task(self) -> int:
        """Label Studio's id of the open task."""
        return int(self.page.evaluate("() => window.Htx.task.id"))

    def frame(self) -> dict[str, float]:
        """Where the picture is on the screen: x, y, width, height."""
        return self.page.locator('img[alt="image"]').bounding_box()

    def to_screen(self, x: float, y: float) -> tuple[float, float]:
        """A pixel of the sample as a place on the screen."""
        frame = self.frame()
        scale = frame["width"] / self.size[0], frame["height"] / self.size[1]
        return frame["x"] + x * scale[0], frame["y"] + y * scale[1]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press at one pixel of the sample, let go at another."""
        mouse = self.page.mouse
        mouse.move(*self.to_screen(*start))
        mouse.down()
        mouse.move(*self.to_screen(*end), steps=STEP)
        mouse.up()

    def submit(self) -> None:
        """Submit, and wait until the server has it."""
        with self.page.expect_response(
            lambda answer: "/annotations" in answer.url and answer.request.method == "POST",
            timeout=WAIT,
        ) as answer:
            self.page.get_by_test_id("bottombar-submit-button").click()
        assert answer.value.status == 201

    def drawn(self, colour: str) -> tuple[float, float, float, float]:
        """Corners, in pixels of the sample, of what is painted in a class's colour."""
        frame = self.frame()
        clip = {name: frame[name] for name in ("x", "y", "width", "height")}
        seen = cv2.imdecode(np.frombuffer(self.page.screenshot(clip=clip), np.uint8), 1)
        wanted = np.array([int(colour[place : place + 2], 16) for place in (5, 3, 1)])
        is_painted = np.abs(seen.astype(int) - wanted).sum(axis=2) < 24
        rows, columns = np.flatnonzero(is_painted.any(1)), np.flatnonzero(is_painted.any(0))
        assert len(rows), f"nothing is painted in {colour}"
        x, y = self.size[0] / seen.shape[1], self.size[1] / seen.shape[0]
        return (
            columns[0] * x, rows[0] * y, (columns[-1] + 1) * x, (rows[-1] + 1) * y,
        )  # fmt: skip


@pytest.fixture(scope="module")
def annotator(browser, neighbour) -> Annotator:
    """Somebody who is signed in to a project of boards with drafts."""
    space = neighbour.boards
    made = setup(workspace=space)
    neighbour.select(space, neighbour.ids[:6])
    push(workspace=space)
    url = read_json(space.studio_state / "server.json")["url"]
    account = credentials(space)
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(f"{url}/user/login/", timeout=WAIT)
    page.fill("input[name=email]", account.email)
    page.fill("input[name=password]", account.password)
    page.click("button[type=submit], input[type=submit]")
    page.wait_for_load_state("networkidle")
    return Annotator(page, url, made.project, (60, 40))


def tab(space, title: str) -> int:
    client = connect(space)
    return find_tab(client, find_project(client, load_project(space.params))["id"], title)["id"]


def pulled(space, sample_id: str) -> dict[str, tuple]:
    pull(workspace=space)
    rows = coco.load(space.studio_annotations)[1]
    return {row.class_name: row.xyxy for row in rows if row.sample_id == sample_id}


def decision(space, task: int):
    return [row for row in load_decisions(space) if row.task == task][-1]


def sample_of(space, task: int) -> str:
    return connect(space).get(f"/api/tasks/{task}/")["data"]["sample_id"]


DRAFT = {"open": (6.0, 8.0, 18.0, 17.0), "short": (25.875, 8.5, 37.875, 17.5)}
"""What the tiny detector draws on every board."""


def test_the_least_certain_task_opens_with_its_draft_where_the_objects_are(
    annotator, neighbour
) -> None:
    annotator.open_tab(tab(neighbour.boards, "Next best"))
    client = connect(neighbour.boards)
    tasks = list(client.tasks(view=tab(neighbour.boards, "Next best"), fields="all"))
    assert annotator.task == tasks[0]["id"]
    scale = annotator.frame()["width"] / annotator.size[0]
    for name, colour in zip(("open", "short"), COLOURS, strict=False):
        # On the screen a stroke is two pixels wide, and edges are rounded to whole pixels.
        assert annotator.drawn(colour) == pytest.approx(DRAFT[name], abs=6 / scale)


def test_a_draft_is_accepted_with_one_click(annotator, neighbour) -> None:
    task = annotator.task
    annotator.submit()
    found = pulled(neighbour.boards, sample_of(neighbour.boards, task))
    assert {name: pytest.approx(xyxy, abs=0.01) for name, xyxy in found.items()} == DRAFT
    given = decision(neighbour.boards, task)
    assert (given.actions, given.deleted, given.had_draft) == (["accepted"] * 2, 0, True)
    assert given.lead_time > 0
    assert given.annotator == credentials(neighbour.boards).email


def test_a_dragged_box_and_a_new_one_arrive_as_adjusted_and_added(annotator, neighbour) -> None:
    annotator.open_tab(tab(neighbour.boards, "Next best"))
    task = annotator.task
    annotator.page.mouse.click(*annotator.to_screen(12, 12))  # choose the box
    annotator.drag((12, 12), (15, 16))
    annotator.page.keyboard.press("Escape")
    annotator.page.keyboard.press("3")  # spur
    annotator.drag((40, 25), (52, 34))
    annotator.submit()
    found = pulled(neighbour.boards, sample_of(neighbour.boards, task))
    moved = tuple(value + step for value, step in zip(DRAFT["open"], (3, 4, 3, 4), strict=True))
    assert found["open"] == pytest.approx(moved, abs=0.3)
    assert found["spur"] == pytest.approx((40, 25, 52, 34), abs=0.3)
    given = decision(neighbour.boards, task)
    by_class = {
        region.class_name: action
        for region, action in zip(given.regions, given.actions, strict=True)
    }
    assert by_class == {"open": "adjusted", "short": "accepted", "spur": "added"}


def test_the_second_look_shows_its_reason_and_a_suggestion(annotator, neighbour) -> None:
    space = neighbour.boards
    doubted = load_decisions(space)[0]
    reason = "A short was expected here, and none is annotated."
    place = [40.0, 25.0, 52.0, 34.0]
    row = {"sample_id": doubted.sample_id, "kind": "missing", "reason": reason, "severity": 1.0}
    frame = pandas.DataFrame([{**row, "suggestion": "spur", "xyxy": place}])
    write_table(space.root / "data" / "findings.parquet", FINDINGS, frame)
    assert issues(workspace=space).sent == 1
    annotator.open_row(tab(space, "Second look"), reason)
    header = annotator.page.get_by_role("heading", name=reason)
    assert header.first.is_visible()
    scale = annotator.frame()["width"] / annotator.size[0]
    assert annotator.drawn(COLOURS[2]) == pytest.approx(place, abs=6 / scale)
    annotator.submit()
    found = pulled(space, doubted.sample_id)
    assert set(found) == {"open", "short", "spur"}
    seen = np.array([found["spur"]], np.float32)
    assert box_iou(seen, np.array([place], np.float32))[0, 0] > 0.99
