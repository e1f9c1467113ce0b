"""Annotation formats: each module has ``load`` and ``save``."""
