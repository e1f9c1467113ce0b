import sys

from visionloop.core.cli import run_command
from visionloop.monitoring.cli import app

sys.exit(run_command(app))
