"""Trains a model family on a dataset version and exports a signed model package."""
