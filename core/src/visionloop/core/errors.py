"""The errors that visionloop raises on purpose, and the exit code of each.

VisionloopError            1    something failed
├── InputError             2    what a person gave is wrong
│   ├── ConfigError             params.yaml, targets.yaml, a recipe
│   ├── DataError               images, annotations, dataset versions
│   └── PackageError            a model package that must not be loaded
├── MissingExtraError      2    a library of an optional extra is not installed
├── RefusedError           3    a gate or a contract said no
└── UnreachableError       1    a service did not answer after bounded retries

Every message is one screen for a person: which object, what is wrong, what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "ConfigError",
    "DataError",
    "InputError",
    "MissingExtraError",
    "PackageError",
    "RefusedError",
    "UnreachableError",
    "VisionloopError",
]

INTERRUPTED_EXIT_CODE = 130


class VisionloopError(Exception):
    """Something failed.

    Parameters
    ----------
    subject : str
        The object concerned: a file, a sample, a server, a package.
    problems : str or sequence of str
        What is wrong with it, one line each; all problems at once.
    next_step : str
        What the reader can do about it.
    """

    exit_code = 1

    def __init__(self, subject: str, problems: str | Sequence[str], next_step: str = "") -> None:
        self.subject = subject
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        self.next_step = next_step
        super().__init__(subject, self.problems, next_step)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            lines = [f"{self.subject}: {self.problems[0]}"]
        else:
            lines = [f"{self.subject}: {len(self.problems)} problems"]
            lines += [f"  - {problem}" for problem in self.problems]
        if self.next_step:
            lines.append(f"  → {self.next_step}")
        return "\n".join(lines)


class InputError(VisionloopError):
    """What a person gave is wrong; nothing was changed."""

    exit_code = 2


class ConfigError(InputError):
    """A configuration file or option is wrong."""


class DataError(InputError):
    """Images, annotations or a dataset version are wrong or damaged."""


class PackageError(InputError):
    """A model package is damaged, unsigned, or of a kind that must not be loaded."""


class MissingExtraError(InputError):
    """A library of an optional extra is not installed."""


class RefusedError(VisionloopError):
    """A gate or a contract said no."""

    exit_code = 3


class UnreachableError(VisionloopError):
    """A service did not answer after bounded retries; the work can be resumed."""
