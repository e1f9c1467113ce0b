"""Tables of the hub (SQLAlchemy), on SQLite and on PostgreSQL.

``migrations/`` makes them (Alembic); a test compares the two.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Base", "Device", "Picture", "StoredEvent"]

RowId = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only a column that is called INTEGER."""


class Base(DeclarativeBase):
    """All tables."""


class Device(Base):
    """An edge computer that may report.

    Only the SHA-256 of its token is kept. A revoked device stays, with its events.
    """

    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    is_revoked: Mapped[bool] = mapped_column(Boolean, default=False)
    site: Mapped[str] = mapped_column(String(200), default="")
    created_at: Mapped[str] = mapped_column(String(32))
    last_seen_at: Mapped[str] = mapped_column(String(32), default="")


class StoredEvent(Base):
    """An event of a device, as it came; ``(device_id, event_id)`` is there once.

    ``seq`` is the device's own order. Times are RFC 3339; ``created_at`` is the device's clock,
    which counts only where ``clock_ok``.
    """

    __tablename__ = "events"
    __table_args__ = (
        UniqueConstraint("device_id", "event_id", name="uq_events_device_event"),
        Index("ix_events_device_seq", "device_id", "seq"),
        Index("ix_events_received", "received_at"),
    )

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    event_id: Mapped[str] = mapped_column(String(36))
    seq: Mapped[int] = mapped_column(BigInteger)
    boot_id: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(100))
    priority: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[str] = mapped_column(String(40))
    created_monotonic: Mapped[float] = mapped_column(Float)
    clock_ok: Mapped[bool] = mapped_column(Boolean)
    received_at: Mapped[str] = mapped_column(String(32))
    payload: Mapped[dict[str, Any]] = mapped_column(JSON)
    sha256: Mapped[str] = mapped_column(String(64))


class Picture(Base):
    """The picture of an event (JPEG), which may come before or after the event itself."""

    __tablename__ = "pictures"
    __table_args__ = (UniqueConstraint("device_id", "event_id", name="uq_pictures_device_event"),)

    id: Mapped[int] = mapped_column(RowId, primary_key=True)
    device_id: Mapped[int] = mapped_column(ForeignKey("devices.id"))
    event_id: Mapped[str] = mapped_column(String(36))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64))
