"""The MLflow registry: versions of the model, their tags, aliases and artifacts.

A version's artifacts lie in its run below ``candidate-<package>/``: ``package``,
``gate``, ``evaluation``, ``card`` and so on, so that a second export of the same run
never overwrites what a registered version refers to.
"""

from __future__ import annotations

import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.errors import UnreachableError
from visionloop.core.privacy import mask_secrets, set_quiet_environment
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = [
    "PACKAGE_TAG",
    "REPORT_TAG",
    "alias_holder",
    "artifact_root",
    "connect",
    "download_part",
    "find_version",
    "has_registry",
    "has_version",
    "reaching",
    "set_alias",
    "tell_version",
]

ATTEMPTS = 2
ATTEMPT_SECONDS = 3.0
PACKAGE_TAG = "package"
REPORT_TAG = "report"
"""Start of the SHA-256 of the gate report: the artifact and the version name each other."""
RELEASE_WORDS = ("Released as ", "Not released: ")


def has_registry(workspace: Workspace) -> bool:
    """Whether there can be a registered model at all: a server, or a database file."""
    uri = workspace.tracking_uri
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


def set_alias(client: MlflowClient, model: str, alias: str, version: str) -> None:
    """Move an alias; of two clients that make it at the same moment MLflow fails one."""
    from mlflow.exceptions import MlflowException

    try:
        client.set_registered_model_alias(model, alias, version)
    except MlflowException as error:
        if "UNIQUE constraint" not in str(error) and "duplicate key" not in str(error):
            raise
        client.set_registered_model_alias(model, alias, version)  # it is there now, and moves


def connect(workspace: Workspace) -> MlflowClient:
    """A client of the workspace's MLflow, which has answered.

    Raises
    ------
    UnreachableError
        After two attempts of three seconds.
    """
    set_quiet_environment()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    uri = workspace.tracking_uri
    if uri.startswith(("http://", "https://")):
        _wait_for(uri)
    from mlflow.tracking import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with reaching(workspace):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def reaching(workspace: Workspace) -> Iterator[None]:
    """Turn the failures of a server that went away into one error.

    Raises
    ------
    UnreachableError
        Where the client gave up after its own bounded retries.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (OSError, MlflowException) as error:
        if isinstance(error, MlflowException):
            is_lost = error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
        else:  # the errors of requests are OSErrors; those of the disk are not meant
            is_lost = type(error).__module__.startswith("requests")
        if not is_lost:
            raise
        raise _unreachable(workspace.tracking_uri, error) from error


def find_version(client: MlflowClient, model: str, package: str) -> Any:
    """The registered version of a package (SHA-256), or None."""
    token = None
    while True:
        page = client.search_model_versions(f"name='{model}'", page_token=token)
        for version in page:
            if version.tags.get(PACKAGE_TAG) == package[:12]:
                return version
        token = page.token
        if not token:
            return None


def alias_holder(client: MlflowClient, model: str, alias: str) -> Any:
    """The version that holds an alias, or None."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(model, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def has_version(client: MlflowClient, model: str, version: str) -> bool:
    """Whether a version still is in the registry."""
    from mlflow.exceptions import MlflowException

    try:
        client.get_model_version(model, version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise
    return True


def tell_version(client: MlflowClient, version: Any, tags: dict[str, str], sentence: str) -> None:
    """Set tags, and put one sentence first in a version's description.

    The table of versions shows short tags and the raw start of the description. A sentence
    that was put there before is replaced; saying the same thing twice changes nothing.
    """
    model, number = str(version.name), str(version.version)
    known = client.get_model_version(model, number)
    first, _, rest = str(known.description or "").partition("\n\n")
    if not first.startswith(RELEASE_WORDS):
        rest = str(known.description or "")
    text = f"{' '.join(sentence.split())}\n\n{rest}".strip()
    if text != known.description:
        client.update_model_version(model, number, text)
    for name, value in tags.items():
        if known.tags.get(name) != value:
            client.set_model_version_tag(model, number, name, value)


def artifact_root(package: str) -> str:
    """Where the artifacts of a package (SHA-256) lie in its run."""
    return f"candidate-{package[:12]}"


def download_part(client: MlflowClient, version: Any, part: str, into: Path) -> Path | None:
    """Fetch ``package``, ``gate`` or ``evaluation`` of a version; None where it has none."""
    prefix, _, path = str(version.source).removeprefix("runs:/").partition("/")
    root = path.rpartition("/")[0]
    wanted = f"{root}/{part}" if root else part
    if prefix != version.run_id or not client.list_artifacts(version.run_id, wanted):
        return None
    into.mkdir(parents=True, exist_ok=True)
    return Path(client.download_artifacts(version.run_id, wanted, str(into)))


def _wait_for(uri: str) -> None:
    """Ask the server's health page; any answer but a server error means that it is there."""
    last: Exception | None = None
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(1.0)
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ATTEMPT_SECONDS):
                return
        except urllib.error.HTTPError as error:
            if error.code < 500:
                return
            last = error
        except OSError as error:
            last = error
    raise _unreachable(uri, last)


def _unreachable(uri: str, error: Exception | None) -> UnreachableError:
    text = " ".join(str(error).split())[:200]
    return UnreachableError(
        f"MLflow at {mask_secrets(uri)}",
        f"does not answer ({mask_secrets(text)})",
        "start it (visionloop up) and run the same command again: it goes on where it was",
    )
