"""What holds the alias ``champion`` in MLflow, and its files."""

from __future__ import annotations

from pathlib import Path

from visionloop.core.config import load_project
from visionloop.core.errors import DataError
from visionloop.core.workspace import Workspace

__all__ = ["ALIAS", "fetch_champion", "fetch_champion_evaluation"]

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
        package = registry.download_part(client, version, "package", into)
        if package is None:
            raise DataError(
                f"version {version.version} of {model}",
                "holds the alias champion but no package",
                "set the alias on a version that `visionloop evaluate promote` registered",
            )
        gate = registry.download_part(client, version, "gate", into)
    return str(version.version), package, gate or into / "gate"


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
