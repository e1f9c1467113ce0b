"""Where events go: one module a kind of sink, one table for all."""
