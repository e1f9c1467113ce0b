"""Dataset versions: freeze, load, diff, verify."""
