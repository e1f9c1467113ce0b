"""Model families: one module each, listed in ``table.py``."""
