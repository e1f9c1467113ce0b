"""Cameras that are watched at once: decoding processes, the gate before the network, clips."""
