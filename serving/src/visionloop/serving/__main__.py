"""``python -m visionloop.serving``."""

import sys

from visionloop.core.cli import run_command
from visionloop.serving.cli import app

sys.exit(run_command(app))
