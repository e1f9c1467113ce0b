"""``visionloop plan``: from ``targets.yaml`` to a model family and a place to run it."""
