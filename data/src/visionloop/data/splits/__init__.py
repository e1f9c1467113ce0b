"""Train, val and test by group; near-duplicates."""
