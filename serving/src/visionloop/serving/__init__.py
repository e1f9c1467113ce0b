"""Serving: signed model packages, backends, releases, and the edge agent."""
