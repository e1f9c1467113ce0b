"""The hub: where the devices of many sites report to. Its first piece is the receiving end.

Needs the ``serving`` extra.
"""
