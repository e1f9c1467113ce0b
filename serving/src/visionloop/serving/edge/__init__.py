"""The edge agent: sources, rules, the outbox, and the record of what was seen.

Needs the ``edge`` extra only.
"""
