"""How the hub's tables came to be (Alembic)."""
