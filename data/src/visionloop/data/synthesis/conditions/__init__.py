"""Bad light, fog, vibration, sensor noise, dirt, a narrow link: what a plant does to a picture.

One engine for evaluation, galleries and training data. ``table.py`` names every condition;
the modules beside it hold them by cause, each with its physical parameters in one line.
"""
