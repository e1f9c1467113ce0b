"""``python -m visionloop.evaluation``: the same commands as ``visionloop evaluate``."""

import sys

from visionloop.core.cli import run_command
from visionloop.evaluation.cli import app

sys.exit(run_command(app))
