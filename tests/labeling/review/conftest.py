"""People with accounts of their own in the Label Studio of the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from visionloop.core.config import load_project
from visionloop.labeling.client import StudioClient, connect
from visionloop.labeling.project import find_project, find_tab
from visionloop.labeling.regions import Region, to_result
from visionloop.labeling.state import credentials

PASSWORD = "for-the-tests-only-1"


@dataclass(frozen=True)
class Person:
    """Somebody who works in Label Studio with his own account."""

    email: str
    client: StudioClient
    project: int

    def tasks(self, tab: str) -> list[dict[str, Any]]:
        """What a tab offers."""
        view = find_tab(self.client, self.project, tab)
        return list(self.client.tasks(view=view["id"], fields="all"))

    def answer(self, task: dict[str, Any], regions: list[Region], size=(60, 40)) -> None:
        """Submit regions, as drawn by hand."""
        content = {"result": to_result(regions, *size, origins={}), "lead_time": 4.0}
        self.client.post(f"/api/tasks/{task['id']}/annotations/", content, project=self.project)

    def skip(self, task: dict[str, Any]) -> None:
        """Press the button Skip."""
        content = {"result": [], "was_cancelled": True, "lead_time": 1.0}
        self.client.post(f"/api/tasks/{task['id']}/annotations/", content, project=self.project)


def sign_up(workspace, email: str) -> StudioClient:
    """Take up the organization's invitation: the only way in while signing up is closed."""
    owner = connect(workspace)
    invitation = owner.get("/api/invite")["invite_url"]
    with httpx.Client(base_url=owner.url, follow_redirects=True, trust_env=False) as http:
        http.get("/user/login/")
        headers = {"Referer": owner.url}
        form = {
            "email": email,
            "password": PASSWORD,
            "csrfmiddlewaretoken": http.cookies["csrftoken"],
        }
        if email in {row["email"] for row in owner.get("/api/users/")}:
            http.post("/user/login/", data=form, headers=headers)
        else:
            http.post(invitation, data=form, headers=headers)
        headers["X-CSRFToken"] = http.cookies["csrftoken"]
        for old in http.get("/api/token/").json():
            http.post("/api/token/blacklist/", json={"refresh": old["token"]}, headers=headers)
        answer = http.post("/api/token/", headers=headers)
    assert answer.status_code == 201, answer.text
    return StudioClient(owner.url, answer.json()["token"])


@pytest.fixture(scope="module")
def accounts(studio) -> dict[str, StudioClient]:
    """Two more people in the organization."""
    emails = ("bea@example.org", "carl@example.org")
    return {email: sign_up(studio.cells, email) for email in emails}


@pytest.fixture(scope="module")
def people(space, accounts) -> dict[str, Person]:
    """Everybody who works in the project of the module's ``space``, the owner last."""
    project = find_project(connect(space), load_project(space.params))["id"]
    clients = {**accounts, credentials(space).email: connect(space)}
    return {email: Person(email, client, project) for email, client in clients.items()}
