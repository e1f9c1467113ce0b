"""What runs best on this device: every form measured, one chosen, with reasons."""
