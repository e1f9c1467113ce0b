"""Label Studio's REST interface: bounded retries, a fresh key, clear errors.

A personal access token buys access keys that live 300 s; the client renews them. The
token never appears in a message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx

from visionloop.core.errors import UnreachableError, VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling.state import credentials, read_address, save_token

__all__ = ["StudioClient", "connect", "ensure_token"]

WAITS = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between tries: an absent server is reported after about 6 s."""

ACCESS_SECONDS = 240.0
"""Keys live 300 s; they are renewed a minute earlier."""

PAGE_SIZE = 500
NEXT_STEP = "start it with 'visionloop up', then run the same command again: it goes on"


class StudioClient:
    """A Label Studio server and a key to it; safe to share between threads.

    Parameters
    ----------
    url : str
    token : str
        Personal access token.
    """

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._token = token
        self._http = httpx.Client(base_url=url, timeout=120, trust_env=False)
        self._access = ""
        self._access_until = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"StudioClient({self.url!r})"

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET."""
        return self.request("GET", path, params=query)

    def post(self, path: str, content: Any, **query: Any) -> Any:
        """The JSON answer to a POST; repeated only if it never reached the server."""
        return self.request("POST", path, json=content, params=query)

    def patch(self, path: str, content: Any) -> Any:
        """The JSON answer to a PATCH."""
        return self.request("PATCH", path, json=content)

    def tasks(self, **query: Any) -> Iterator[dict[str, Any]]:
        """All tasks of a query to ``/api/tasks``, page by page, in the server's order."""
        page = 1
        while True:
            answer = self.get("/api/tasks", page=page, page_size=PAGE_SIZE, **query)
            yield from answer["tasks"]
            if page * PAGE_SIZE >= answer["total"]:
                return
            page += 1

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request, with bounded retries.

        Raises
        ------
        UnreachableError
            If no try was answered.
        VisionloopError
            If the server refused; with its reason.
        """
        response = self._send(method, path, arguments)
        if response.status_code == 401:  # the key was revoked early: once more with a new one
            self._access_until = 0.0
            response = self._send(method, path, arguments)
        if response.status_code >= 400:
            raise VisionloopError(
                f"Label Studio, {method} {path}", f"{response.status_code}: {_reason(response)}"
            )
        return response.json() if response.content else None

    def _send(self, method: str, path: str, arguments: dict[str, Any]) -> httpx.Response:
        reason = ""
        for wait in (*WAITS, None):
            try:
                headers = {"Authorization": f"Bearer {self._fresh_access()}"}
                response = self._http.request(method, path, headers=headers, **arguments)
                if response.status_code not in (502, 503, 504):
                    return response
                reason = f"answers {response.status_code}"
            except httpx.ConnectError:
                reason = "does not answer"
            except httpx.TransportError as error:
                reason = f"broke off ({type(error).__name__})"
                if method == "POST":  # it may have been done: the caller reconciles
                    break
            if wait is not None:
                time.sleep(wait)
        raise UnreachableError(f"Label Studio at {self.url}", reason, NEXT_STEP)

    def _fresh_access(self) -> str:
        with self._lock:
            if time.monotonic() >= self._access_until:
                answer = self._http.post("/api/token/refresh/", json={"refresh": self._token})
                if answer.status_code >= 400:
                    raise VisionloopError(
                        f"Label Studio at {self.url}",
                        "does not accept the stored key",
                        "'visionloop down' and 'visionloop up' make a new one",
                    )
                self._access = answer.json()["access"]
                self._access_until = time.monotonic() + ACCESS_SECONDS
            return self._access


def connect(workspace: Workspace) -> StudioClient:
    """The client of this workspace's server.

    Raises
    ------
    UnreachableError
        If none was started here.
    """
    address = read_address(workspace)
    if address is None:
        raise UnreachableError("Label Studio", "was not started in this workspace", NEXT_STEP)
    return StudioClient(address.url, credentials(workspace).token)


def ensure_token(workspace: Workspace, url: str) -> None:
    """Make a personal access token the first time, and again if the server forgot it."""
    account = credentials(workspace)
    with httpx.Client(base_url=url, timeout=60, follow_redirects=True, trust_env=False) as http:
        if account.token:
            answer = http.post("/api/token/refresh/", json={"refresh": account.token})
            if answer.status_code == 200:
                return
        http.get("/user/login/")
        form = {"email": account.email, "password": account.password}
        form["csrfmiddlewaretoken"] = http.cookies["csrftoken"]
        http.post("/user/login/", data=form, headers={"Referer": url})
        headers = {"X-CSRFToken": http.cookies["csrftoken"], "Referer": url}
        answer = http.post("/api/token/", headers=headers)
        if answer.status_code == 409:  # one exists, but its text is shown only once
            for old in http.get("/api/token/").json():
                body = {"refresh": old["token"]}
                http.post("/api/token/blacklist/", json=body, headers=headers)
            answer = http.post("/api/token/", headers=headers)
        if answer.status_code >= 400:
            raise VisionloopError(
                f"Label Studio at {url}",
                "does not accept the stored password",
                "move the folder 'studio' away to begin anew",
            )
    save_token(workspace, answer.json()["token"])


def _reason(response: httpx.Response) -> str:
    try:
        content = response.json()
    except ValueError:
        return f"{len(response.content)} bytes that are not JSON"
    if not isinstance(content, dict):
        return str(content)[:400]
    return str(content.get("validation_errors") or content.get("detail") or content)[:400]
