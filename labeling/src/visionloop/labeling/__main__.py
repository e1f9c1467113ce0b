"""``python -m visionloop.labeling``: the same verbs as ``visionloop label``."""

import sys

from visionloop.core.cli import run_command
from visionloop.labeling.cli import app

sys.exit(run_command(app))
