"""Calibration of a trained network: confidences that mean what they say, thresholds by cost."""
