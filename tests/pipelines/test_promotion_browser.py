"""Promotion as the release owner does it: a real browser sets the alias in the MLflow UI.

With ``VISIONLOOP_PICTURES`` set to a folder, the pictures of the documentation are written there.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from visionloop.pipelines.watch import watch
from visionloop.serving.package import load_package
from visionloop.serving.releases.store import read_index

WAIT = 60_000
"""Milliseconds: two cores may be busy with other tests."""
ALIASES = 6
"""Place of the column of aliases in the table of versions."""


class ModelPage:
    """The page of a registered model in the MLflow UI."""

    def __init__(self, browser, url: str, model: str) -> None:
        self.page = browser.new_page(viewport={"width": 1240, "height": 850})
        self.address = f"{url}/#/models/{model}"

    def open(self) -> None:
        """Load it anew, with what is beside it closed."""
        self.page.goto("about:blank")
        self.page.goto(self.address)
        self.row("1").wait_for(timeout=WAIT)
        for name in ("Close", "Toggle sidebar"):
            button = self.page.get_by_role("button", name=name, exact=True)
            if button.count() and not (name == "Toggle sidebar" and self._is_narrow()):
                button.first.click()

    def row(self, version: str):
        """The line of a version."""
        link = self.page.locator(f'a[href$="/versions/{version}"]')
        return self.page.get_by_role("row").filter(has=link)

    def set_champion(self, version: str) -> None:
        """As a person does: the pencil, the word, the button."""
        self.row(version).get_by_role("cell").nth(ALIASES).get_by_role("button").last.click()
        dialog = self.page.get_by_role("dialog")
        dialog.get_by_role("combobox").click(timeout=WAIT)
        self.page.keyboard.type("champion")
        self.page.keyboard.press("Enter")
        dialog.get_by_text("@ champion").first.wait_for(timeout=WAIT)
        with self.page.expect_response(
            lambda answer: "/registered-models/alias" in answer.url, timeout=WAIT
        ) as answer:
            dialog.get_by_role("button", name="Save aliases").click()
        assert answer.value.status == 200

    def until(self, version: str, *texts: str) -> None:
        """Load the page again until a version's line shows all of it."""
        deadline = time.monotonic() + WAIT / 1000
        while True:
            self.open()
            seen = " ".join(self.row(version).inner_text().split())
            if all(text in seen for text in texts):
                return
            assert time.monotonic() < deadline, seen
            time.sleep(1.0)

    def show(self, name: str) -> None:
        """Keep a picture, where somebody wants one."""
        if folder := os.environ.get("VISIONLOOP_PICTURES"):
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(500)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))

    def _is_narrow(self) -> bool:
        return not self.page.get_by_text("Experiments", exact=True).first.is_visible()


@pytest.mark.parametrize("owner", ["solar-cells"], indirect=True)
def test_promotion_refusal_and_rollback_in_the_ui(owner, browser, mlflow_server) -> None:
    first, second, bad = (owner.register(kind) for kind in ("good", "steeper", "inverted"))
    stop = threading.Event()
    options = {"interval": 0.3, "build_engines": False, "should_stop": stop.is_set}
    watcher = threading.Thread(target=watch, kwargs={"workspace": owner.workspace, **options})
    watcher.start()
    try:
        page = ModelPage(browser, mlflow_server.url, owner.model)
        page.open()
        page.set_champion(first)
        page.until(first, "@ champion", "release : 1", "Released as number 1")
        page.set_champion(second)
        page.until(second, "@ champion", "release : 2", "Released as number 2")
        page.show("mlflow-promotion")
        page.set_champion(bad)
        page.until(bad, "release : refused", "Not released: ")
        page.until(second, "@ champion")
        page.show("mlflow-refusal")
        page.set_champion(first)
        page.until(first, "@ champion", "release : 3", "Released as number 3")
        page.show("mlflow-rollback")
    finally:
        stop.set()
        watcher.join(WAIT / 1000)
    found = [one.package_sha256 for one in read_index(owner.workspace.releases)]
    good, steeper = (
        load_package(owner.judged[kind] / "artifacts" / "package").sha256
        for kind in ("good", "steeper")
    )
    assert found == [good, steeper, good]
