"""Camera health: whether what a camera sends can still be judged at all."""
