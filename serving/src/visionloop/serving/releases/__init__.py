"""Releases: numbered packages in a signed index, and how a running program takes a new one."""
