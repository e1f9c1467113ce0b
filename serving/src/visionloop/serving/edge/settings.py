"""The agent's configuration, and its changes while it runs."""

from __future__ import annotations

from pathlib import Path

from visionloop.core.config import load_block, load_project, load_yaml_model
from visionloop.core.errors import ConfigError, VisionloopError
from visionloop.core.progress import say_step
from visionloop.core.workspace import Workspace
from visionloop.serving.edge_params import EdgeParams
from visionloop.serving.params import ServingParams

__all__ = ["SettingsFile"]


class SettingsFile:
    """The file with the configuration: ``edge.yaml``, or ``params.yaml``.

    Parameters
    ----------
    workspace : Workspace
    config : Path or None
        A YAML file with the keys of ``serving.edge``; None takes ``params.yaml``.

    Attributes
    ----------
    params : EdgeParams
    model : str
        Name of the releases.

    Raises
    ------
    ConfigError
        If it is wrong.
    """

    def __init__(self, workspace: Workspace, config: Path | None) -> None:
        self._workspace, self._config = workspace, config
        self.path = config or workspace.params
        self._stamp = self._look()
        self.params, self.model = self._read()

    def has_changed(self) -> bool:
        """Whether the file is another one than when it was read last."""
        return self._look() != self._stamp

    def read_again(self) -> bool:
        """Read it again; what is wrong is said, and the old configuration stays.

        Returns
        -------
        bool
            Whether there is a new configuration. Another model or releases folder counts
            only after a restart.
        """
        self._stamp = self._look()
        try:
            params, model = self._read()
        except VisionloopError as error:
            say_step(f"edge: the new configuration is wrong, the old one stays: {error}")
            return False
        if model != self.model or params.releases != self.params.releases:
            say_step("edge: another model or releases folder counts after a restart")
        if params == self.params:
            return False
        self.params = params
        return True

    def _look(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except OSError:
            return (0, 0)
        return (found.st_mtime_ns, found.st_size)

    def _read(self) -> tuple[EdgeParams, str]:
        if self._config is not None:
            params = load_yaml_model(self._config, EdgeParams)
        else:
            params = load_block(self._workspace.params, "serving", ServingParams).edge
        if not params.sources and not params.cameras:
            raise ConfigError(
                str(self.path),
                "there are no sources and no cameras",
                "add one below sources or cameras",
            )
        return params, params.model or load_project(self._workspace.params).model
