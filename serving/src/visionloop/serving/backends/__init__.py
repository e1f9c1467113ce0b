"""Backends: what runs a model package on this machine."""
