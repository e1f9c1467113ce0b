"""The hub's database: opened, brought to the newest tables, with devices and their tokens."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from visionloop.core.errors import ConfigError, InputError, UnreachableError
from visionloop.serving.hub.models import Device

__all__ = ["add_device", "hash_token", "now", "open_database", "revoke_device"]

MIGRATIONS = Path(__file__).parent / "migrations"


def open_database(url: str) -> Engine:
    """Open a database and bring its tables up to date.

    Parameters
    ----------
    url : str
        ``sqlite:///path/hub.db`` or ``postgresql://user:password@host/name``.

    Raises
    ------
    ConfigError
        If the URL is of another kind.
    UnreachableError
        If the database does not answer.
    """
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise ConfigError("database", "is no URL", "sqlite:///hub.db or postgresql://…") from None
    shown = parsed.render_as_string(hide_password=True)
    kind = parsed.get_backend_name()
    if kind == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
        # A replica that waits longer than a device does would only collect dead requests.
        engine = create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": 5})
    elif kind == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": 30})
        event.listen(engine, "connect", _make_durable)
    else:
        raise ConfigError(shown, "is neither SQLite nor PostgreSQL")
    try:
        _migrate(engine)
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", error)).splitlines()[0]
        raise UnreachableError(shown, f"cannot be used: {reason}") from None
    return engine


def add_device(engine: Engine, name: str) -> str:
    """Let a device report; returns its token, which is shown this once.

    Raises
    ------
    InputError
        If there is a device of that name.
    """
    token = secrets.token_urlsafe(32)
    with Session(engine) as session, session.begin():
        if session.scalar(select(Device).where(Device.name == name)) is not None:
            raise InputError(f"device '{name}'", "is known already", "revoke it or choose a name")
        session.add(Device(name=name, token_sha256=hash_token(token), created_at=now()))
    return token


def revoke_device(engine: Engine, name: str) -> None:
    """Refuse a device from now on; what it reported stays.

    Raises
    ------
    InputError
        If there is no such device.
    """
    with Session(engine) as session, session.begin():
        device = session.scalar(select(Device).where(Device.name == name))
        if device is None:
            raise InputError(f"device '{name}'", "is not known")
        device.is_revoked = True


def hash_token(token: str) -> str:
    """SHA-256 of a token. Tokens are 256 random bits: a slow hash would add nothing."""
    return hashlib.sha256(token.encode()).hexdigest()


def now() -> str:
    """UTC, RFC 3339, to the millisecond."""
    moment = datetime.datetime.now(datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _make_durable(connection: Any, _: Any) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _migrate(engine: Engine) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
