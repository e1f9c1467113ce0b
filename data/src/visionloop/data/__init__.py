"""Collect, import, version, check, split and embed samples."""
