"""What holds the alias ``champion`` in MLflow, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from visionloop.core.config import load_project
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

__all__ = ["ALIAS", "fetch_champion", "fetch_champion_evaluation", "fetch_version"]

ALIAS = "champion"


def fetch_champion(*, workspace: Workspace, into: Path) -> tuple[str, Path, Path] | None:
    """Download package and gate report of the champion. Neither is verified here.

    Parameters
    ----------
    into : Path
        Folder to download into.

    Returns
    -------
    (version, package folder, gate folder) or None
        None where nothing holds the alias. The gate folder may not exist: a version
        that did not come through ``promote`` has none.

    Raises
    ------
    DataError
        If the champion holds no package.
    UnreachableError
        If MLflow does not answer.
    """
    from visionloop.evaluation import registry

    if not registry.has_registry(workspace):
        return None
    model = load_project(workspace.params).model
    client = registry.connect(workspace)
    with registry.reaching(workspace):
        version = registry.alias_holder(client, model, ALIAS)
        if version is None:
            return None
        package, gate = fetch_version(client, version, into=into)
    return str(version.version), package, gate


def fetch_version(client: MlflowClient, version: Any, *, into: Path) -> tuple[Path, Path]:
    """Download package and gate report of a version. Neither is verified here.

    Returns
    -------
    (package folder, gate folder)
        The gate folder may not exist: a version that did not come through ``promote``
        has none.

    Raises
    ------
    DataError
        If the version holds no package.
    """
    from visionloop.evaluation import registry

    package = registry.download_part(client, version, "package", into)
    if package is None:
        raise DataError(
            f"version {version.version} of {version.name}",
            "holds no package",
            "set the alias on a version that `visionloop evaluate promote` registered",
        )
    gate = registry.download_part(client, version, "gate", into)
    return package, gate or into / "gate"


def fetch_champion_evaluation(*, workspace: Workspace, into: Path) -> tuple[str, Path] | None:
    """Download the evaluation folder of the champion.

    Returns
    -------
    (version, evaluation folder) or None
        None where nothing holds the alias, or the version holds no evaluation.

    Raises
    ------
    UnreachableError
        If MLflow does not answer.
    """
    from visionloop.evaluation import registry

    if not registry.has_registry(workspace):
        return None
    client = registry.connect(workspace)
    model = load_project(workspace.params).model
    with registry.reaching(workspace):
        version = registry.alias_holder(client, model, ALIAS)
        if version is None:
            return None
        folder = registry.download_part(client, version, "evaluation", into)
    return None if folder is None else (str(version.version), folder)
