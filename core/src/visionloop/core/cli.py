"""What every command shares: errors as one clear screen, the right exit code, no traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from visionloop.core.errors import INTERRUPTED_EXIT_CODE, VisionloopError
from visionloop.core.privacy import mask_secrets, set_quiet_environment

__all__ = ["WorkspaceOption", "new_app", "run_command"]

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", help="project folder (default: VISIONLOOP_WORKSPACE or this folder)"
    ),
]


INTERRUPTED = "interrupted; run the same command again to go on"


def new_app(description: str) -> typer.Typer:
    """A command group with the project's conventions."""
    return typer.Typer(
        help=description,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


def run_command(command: Callable[[], object]) -> int:
    """Run a command line and return its exit code.

    Known errors become one screen on stderr; ``VISIONLOOP_DEBUG=1`` adds the
    traceback. An unknown error is a defect: its last line is shown and the exit
    code is 1.
    """
    set_quiet_environment()
    try:
        command()
    except VisionloopError as error:
        return _report(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _report(INTERRUPTED, INTERRUPTED_EXIT_CODE)
    except SystemExit as exit_request:
        code = exit_request.code
        if code == INTERRUPTED_EXIT_CODE:  # the command line library caught Ctrl-C itself
            return _report(INTERRUPTED, INTERRUPTED_EXIT_CODE)
        return code if isinstance(code, int) else int(code is not None)
    except Exception as error:
        detail = f"{type(error).__name__}: {error}"
        return _report(f"unexpected failure: {detail}\n  → VISIONLOOP_DEBUG=1 shows where", 1)
    return 0


def _report(text: str, code: int) -> int:
    if os.environ.get("VISIONLOOP_DEBUG") and sys.exc_info()[0] is not None:
        traceback.print_exc()
    print(mask_secrets(text), file=sys.stderr)
    return code
