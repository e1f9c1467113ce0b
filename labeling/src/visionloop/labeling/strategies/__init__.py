"""What to label next: a table of strategies, each a function of a pool."""
