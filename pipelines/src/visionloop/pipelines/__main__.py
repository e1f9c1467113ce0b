"""``python -m visionloop.pipelines`` is the ``visionloop`` command."""

from visionloop.pipelines.cli import main

main()
