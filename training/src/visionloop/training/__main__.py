"""``python -m visionloop.training``."""

import sys

from visionloop.core.cli import run_command
from visionloop.training.cli import app

sys.exit(run_command(app))
