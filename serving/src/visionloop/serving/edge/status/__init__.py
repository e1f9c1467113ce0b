"""The device's own page: last pictures, health, level, outbox; and ``/metrics``."""
