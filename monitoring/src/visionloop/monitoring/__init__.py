"""Watching the model in the field: windows, calibrated drift tests, what to annotate next."""
