"""``visionloop demo``: the whole ring twice round on real images, with one command."""
