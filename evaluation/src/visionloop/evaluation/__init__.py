"""Measure the package that will be shipped, judge it by targets.yaml, promote it."""
