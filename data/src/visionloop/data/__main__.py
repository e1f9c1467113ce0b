"""``python -m visionloop.data``: the same verbs as ``visionloop data``."""

import sys

from visionloop.core.cli import run_command
from visionloop.data.cli import app

sys.exit(run_command(app))
