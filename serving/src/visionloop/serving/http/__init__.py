"""The HTTP server: predictions for programs elsewhere, from the newest release."""
