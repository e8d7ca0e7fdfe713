"""The tables of a small AI-chat app, as each of the three databases keeps them."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.mysql import DATETIME
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

VERSION = 5
metadata = MetaData()


class Utc(TypeDecorator[datetime]):
    """An instant: timestamptz on PostgreSQL, DATETIME(6) in UTC on MySQL, text that sorts in UTC on SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the dialect's own type."""
        if dialect.name == "mysql":
            return dialect.type_descriptor(DATETIME(fsp=6))
        return dialect.type_descriptor(DateTime(timezone=dialect.name == "postgresql"))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn an aware instant into what the database stores."""
        if value is None:
            return None
        instant = value.astimezone(UTC)
        return instant if dialect.name == "postgresql" else instant.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give every stored instant back as UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def _table(name: str, about: str, *parts: Column[Any] | Index | UniqueConstraint) -> Table:
    return Table(name, metadata, *parts, info={"about": about}, mysql_charset="utf8mb4", mysql_engine="InnoDB")


def _id(name: str = "id", length: int = 16) -> Column[str]:
    return Column(name, String(length), primary_key=True)


def _of(parent: str, name: str, *, unique: bool = False) -> Column[str]:
    """A reference that leaves with its parent; indexed, or every delete of a parent would read the whole table."""
    key = ForeignKey(f"{parent}.id", ondelete="CASCADE")
    return Column(name, String(16), key, nullable=False, index=True, unique=unique)


def _at(name: str, *, index: bool = False, nullable: bool = False) -> Column[datetime]:
    return Column(name, Utc(), nullable=nullable, index=index)


users = _table(
    "users", "people with an account",
    _id(),
    Column("email", String(254), nullable=False, unique=True),
    Column("name", String(80), nullable=False),
    Column("password_hash", String(200), nullable=False),
    _at("created_at"),
    _at("last_active_at"),
    _at("email_verified_at", nullable=True),
    _at("deactivated_at", index=True, nullable=True),
)  # fmt: skip

user_email_preferences = _table(
    "user_email_preferences", "which mail people want",
    Column("user_id", String(16), ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("welcome_emails", Boolean, nullable=False, default=True),
    Column("product_updates", Boolean, nullable=False, default=True),
    Column("marketing_emails", Boolean, nullable=False, default=False),
)  # fmt: skip

deactivation_feedback = _table(
    "deactivation_feedback", "why people left",
    _id(),
    _of("users", "user_id"),
    Column("category", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    _at("created_at"),
)  # fmt: skip

sessions = _table(
    "sessions", "browsers that are signed in",
    _id("token_hash", 64),
    _of("users", "user_id"),
    _at("created_at"),
    _at("expires_at", index=True),
)  # fmt: skip

projects = _table(
    "projects", "folders for chats",
    _id(),
    _of("users", "user_id"),
    Column("name", String(120), nullable=False),
    _at("created_at"),
    _at("updated_at"),
)  # fmt: skip

project_sources = _table(
    "project_sources", "files that belong to projects",
    _id(),
    _of("projects", "project_id"),
    Column("name", String(200), nullable=False),
    Column("media_type", String(80), nullable=False),
    Column("size", Integer, nullable=False),
    Column("blob_key", String(200), nullable=False, index=True),
    _at("created_at"),
)  # fmt: skip

chats = _table(
    "chats", "conversations, and shells nobody wrote in",
    _id(),
    _of("users", "user_id"),
    Column("project_id", String(16), ForeignKey("projects.id", ondelete="SET NULL"), nullable=True, index=True),
    Column("title", String(200), nullable=True),
    Column("is_saved", Boolean, nullable=False, default=False),
    _at("created_at", index=True),
    _at("updated_at"),
)  # fmt: skip

messages = _table(
    "messages", "what was asked and answered",
    _id(),
    _of("chats", "chat_id"),
    Column("role", String(16), nullable=False),
    Column("parts", JSON, nullable=False),
    Column("stream_id", String(36), nullable=True, unique=True),
    Column("state", String(16), nullable=True),
    _at("created_at"),
)  # fmt: skip

message_sources = _table(
    "message_sources", "files that hang on messages",
    _id(),
    _of("chats", "chat_id"),
    _of("messages", "message_id"),
    Column("name", String(200), nullable=False),
    Column("media_type", String(80), nullable=False),
    Column("size", Integer, nullable=False),
    Column("blob_key", String(200), nullable=False, index=True),
    Column("origin", String(16), nullable=False),
    _at("created_at"),
)  # fmt: skip

mcp_servers = _table(
    "mcp_servers", "tools that people have connected",
    _id(),
    _of("users", "user_id"),
    Column("name", String(80), nullable=False),
    Column("url", String(300), nullable=False),
    _at("created_at"),
)  # fmt: skip

oauth_tokens = _table(
    "oauth_tokens", "access to those tools",
    _id(),
    _of("mcp_servers", "server_id", unique=True),
    Column("access_token", String(120), nullable=False),
    Column("refresh_token", String(120), nullable=False),
    _at("created_at"),
    _at("expires_at"),
    _at("refresh_locked_at", index=True, nullable=True),
)  # fmt: skip

oauth_pkce_states = _table(
    "oauth_pkce_states", "connections begun and not yet finished",
    _id("state", 64),
    _of("mcp_servers", "server_uuid"),
    _of("users", "user_id"),
    Column("code_verifier", String(128), nullable=False),
    Column("redirect_uri", String(300), nullable=False),
    Column("integrity_hash", String(64), nullable=False),
    _at("created_at"),
    _at("expires_at", index=True),
)  # fmt: skip

mcp_oauth_sessions = _table(
    "mcp_oauth_sessions", "sessions with tools; no foreign key holds them",
    _id(),
    Column("state", String(64), nullable=False, unique=True),
    Column("server_uuid", String(16), nullable=False, index=True),
    Column("profile_uuid", String(16), nullable=False, index=True),
    Column("callback_url", String(300), nullable=False),
    Column("provider", String(80), nullable=False),
    _at("created_at"),
    _at("expires_at", index=True),
)  # fmt: skip

TABLES = tuple(metadata.tables.values())
"""The application's tables, in an order in which rows may be inserted."""

marker = _table(
    "nightcrew_demo", "says that this database belongs to the demo",
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    _at("seeded_at"),
    Column("travelled_seconds", BigInteger, nullable=False),
)  # fmt: skip
