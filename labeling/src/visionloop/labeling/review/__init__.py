"""Review: independent second opinions, how well people agree, and who settles a dispute."""
