"""Precision variants: how FP16 and INT8 forms are made, and what they lose."""
