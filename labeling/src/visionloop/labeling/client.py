"""Label Studio's REST interface: bounded retries, a fresh key, clear errors.

A personal access token buys access keys that live 300 s; the client renews them. The
token never appears in a message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from visionloop.core.errors import UnreachableError, VisionloopError
from visionloop.core.workspace import Workspace
from visionloop.labeling.queries import condition, to_query
from visionloop.labeling.state import credentials, read_address, save_token

__all__ = ["StudioClient", "TooLargeError", "UncertainError", "connect", "ensure_token"]

WAITS = (0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds between tries: an absent server is reported after about 6 s."""

ACCESS_SECONDS = 240.0
"""Keys live 300 s; they are renewed a minute earlier."""

PAGE_SIZE = 500
NEXT_STEP = "start it with 'visionloop up', then run the same command again: it goes on"


class UncertainError(UnreachableError):
    """A request broke off and may have been carried out: look before it is repeated."""


class TooLargeError(VisionloopError):
    """The server takes no request of this size."""


class StudioClient:
    """A Label Studio server and a key to it; safe to share between threads.

    Parameters
    ----------
    url : str
    token : str
        Personal access token.
    renew : callable or None
        Gives another token where the server no longer takes this one.
    """

    def __init__(self, url: str, token: str, *, renew: Callable[[], str] | None = None) -> None:
        self.url = url
        self._token = token
        self._renew = renew
        # Label Studio sends head and body of an answer apart. On a connection that was used
        # before, the kernel holds the body back until the head is acknowledged: 40 ms a request.
        fresh = httpx.Limits(max_keepalive_connections=0)
        # Certificates are loaded, for a while, only where there is an encrypted connection.
        verify = not url.startswith("http://")
        self._http = httpx.Client(
            base_url=url, timeout=120, trust_env=False, limits=fresh, verify=verify
        )
        self._access = ""
        self._access_until = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"StudioClient({self.url!r})"

    def get(self, path: str, **query: Any) -> Any:
        """The JSON answer to a GET."""
        return self.request("GET", path, params=query or None)

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

    def sweep(
        self, project: int, *conditions: dict[str, Any], after: int = 0, size: int, **query: Any
    ) -> Iterator[list[dict[str, Any]]]:
        """Tasks of a project by rising id, a list at a time; what changes meanwhile is not missed.

        Pages by number shift when a task is deleted between two of them; a page that begins
        after the last id seen does not.

        Parameters
        ----------
        project : int
        *conditions
            See :func:`visionloop.labeling.queries.condition`.
        after : int
            Tasks up to this id are left out.
        size : int
            Tasks in a list.
        """
        while True:
            beyond = to_query(*conditions, condition("id", "greater", "Number", after))
            answer = self.get(
                "/api/tasks", project=project, page=1, page_size=size, query=beyond,
                resolve_uri="false", **query,
            )  # fmt: skip
            tasks = sorted(answer["tasks"], key=lambda task: int(task["id"]))
            if tasks:
                yield tasks
                after = tasks[-1]["id"]
            if answer["total"] <= len(tasks):
                return

    def request(self, method: str, path: str, **arguments: Any) -> Any:
        """Send a request, with bounded retries.

        Raises
        ------
        UncertainError
            If a POST broke off after it was sent.
        UnreachableError
            If no try was answered.
        TooLargeError
            If the server takes no request of this size.
        VisionloopError
            If the server refused; with its reason.
        """
        response = self._send(method, path, arguments)
        if response.status_code == 401:  # the key was revoked early: once more with a new one
            self._access_until = 0.0
            response = self._send(method, path, arguments)
        if response.status_code >= 400:
            kind = TooLargeError if response.status_code in (413, 414) else VisionloopError
            place = path.partition("?")[0]
            raise kind(
                f"Label Studio, {method} {place}", f"{response.status_code}: {_reason(response)}"
            )
        return response.json() if response.content else None

    def _send(self, method: str, path: str, arguments: dict[str, Any]) -> httpx.Response:
        """A POST is repeated only where it never reached the server."""
        subject = f"Label Studio at {self.url}"
        reason = ""
        for wait in (*WAITS, None):
            try:
                headers = {"Authorization": f"Bearer {self._fresh_access()}"}
                response = self._http.request(method, path, headers=headers, **arguments)
                if response.status_code not in (502, 503, 504):
                    return response
                reason = f"answers {response.status_code}"
                if method == "POST" and response.status_code != 503:
                    raise UncertainError(subject, reason, NEXT_STEP)
            except httpx.ConnectError:
                reason = "does not answer"
            except httpx.TransportError as error:
                reason = f"broke off ({type(error).__name__})"
                if method == "POST":
                    raise UncertainError(subject, reason, NEXT_STEP) from None
            if wait is not None:
                time.sleep(wait)
        raise UnreachableError(subject, reason, NEXT_STEP)

    def _fresh_access(self) -> str:
        with self._lock:
            if time.monotonic() >= self._access_until:
                answer = self._exchange()
                if answer.status_code in (401, 403) and self._renew is not None:
                    self._token = self._renew()
                    answer = self._exchange()
                if answer.status_code >= 500:
                    raise httpx.ConnectError(f"no key: {answer.status_code}")
                if answer.status_code >= 400:
                    raise VisionloopError(
                        f"Label Studio at {self.url}",
                        "does not accept the stored key",
                        "'visionloop down' and 'visionloop up' make a new one",
                    )
                self._access = answer.json()["access"]
                self._access_until = time.monotonic() + ACCESS_SECONDS
            return self._access

    def _exchange(self) -> httpx.Response:
        return self._http.post("/api/token/refresh/", json={"refresh": self._token})


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
    url = address.url

    def renew() -> str:
        ensure_token(workspace, url)
        return credentials(workspace).token

    return StudioClient(url, credentials(workspace).token, renew=renew)


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
