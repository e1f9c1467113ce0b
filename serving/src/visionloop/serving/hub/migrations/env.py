"""What Alembic runs: the migrations, on the connection that it is given.

Replicas that start together wait for each other on PostgreSQL: the second finds nothing to do.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from visionloop.serving.hub.models import Base

__all__ = ["connection"]

MIGRATION_LOCK = 7_463_150_021

connection = context.config.attributes["connection"]
if connection.dialect.name == "postgresql":
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
context.configure(connection=connection, target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
