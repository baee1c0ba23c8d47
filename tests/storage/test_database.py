"""URLs of databases: their parts, and what the drivers get of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from p2pchat.errors import StorageError
from p2pchat.storage.dialects.dialect import DatabaseURL, parse_url
from p2pchat.storage.dialects.sqlite_dialect import sqlite_url
from p2pchat.storage.sql_storage import dialect_of

URLS = {
    "sqlite:////var/chat.db": DatabaseURL("sqlite", database="/var/chat.db"),
    "sqlite:///chat.db": DatabaseURL("sqlite", database="chat.db"),
    "sqlite://": DatabaseURL("sqlite"),
    "mysql://ada@db/chat": DatabaseURL("mysql", user="ada", host="db", database="chat"),
    "mysql+pymysql://ada:a%2Fb%40c@db:3307/chat": DatabaseURL("mysql", "pymysql", "ada", "a/b@c", "db", 3307, "chat"),
    "mariadb://ada:s@localhost/chat?unix_socket=%2Frun%2Fs": DatabaseURL(
        "mariadb", "", "ada", "s", "localhost", None, "chat", {"unix_socket": "/run/s"}
    ),
    "postgresql://ada@/chat?host=%2Frun%2Fpostgresql": DatabaseURL(
        "postgresql", user="ada", database="chat", options={"host": "/run/postgresql"}
    ),
    "postgresql://[::1]:5433/chat": DatabaseURL("postgresql", host="::1", port=5433, database="chat"),
}


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_parsed_into_its_parts(url: str) -> None:
    assert parse_url(url) == URLS[url]


def test_postgres_means_postgresql() -> None:
    assert parse_url("postgres://h/d") == DatabaseURL("postgresql", host="h", database="d")


@pytest.mark.parametrize("url", ["", "nonsense", "mysql:/host/db", "mysql://host:port/db", "mysql://h:1x/db"])
def test_anything_else_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(StorageError, match="that is no database URL: write sqlite:") as raised:
        parse_url(url)
    assert not url or url not in str(raised.value)


def test_a_password_is_not_in_the_repr() -> None:
    assert "secret" not in repr(parse_url("mysql://ada:secret@db/chat?password=secret"))


@pytest.mark.parametrize("name", ["a b.db", "wh?t.db", "50%.db", "ünï#.db"])
def test_a_path_survives_its_url(tmp_path: Path, name: str) -> None:
    assert dialect_of(sqlite_url(tmp_path / name), 1.0).path == tmp_path / name


def test_pymysql_gets_numbers_and_a_tls_context() -> None:
    pytest.importorskip("pymysql")
    options = "ssl_ca=ca.pem&ssl_check_hostname=false&max_allowed_packet=99&connect_timeout=1"
    dialect = dialect_of(f"mysql://ada:secret@db:3307/chat?{options}", 1.0)
    given = dialect._connect_args(writes=True)  # type: ignore[attr-defined]
    assert given["ssl"] == {"ca": "ca.pem", "check_hostname": False}
    assert (given["max_allowed_packet"], given["connect_timeout"]) == (99, 5)
    parts = {"host": "db", "port": 3307, "user": "ada", "password": "secret", "database": "chat", "charset": "utf8mb4"}
    assert parts.items() <= given.items() and not any(name.startswith("ssl_") for name in given)


@pytest.mark.parametrize(
    ("options", "host", "port"),
    [
        ("", "db", None),
        ("?host=/run/pg", "/run/pg", None),
        ("?host=one,two&port=1,2", "one,two", "1,2"),
        ("?host=::1", "::1", None),
    ],
)
def test_libpq_gets_hosts_and_ports(options: str, host: str, port: str | None) -> None:
    pytest.importorskip("psycopg")
    given = dialect_of(f"postgresql://ada@db/chat{options}", 1.0)._connect_args(writes=False)  # type: ignore[attr-defined]
    assert (given["host"], given.get("port"), given["user"], given["dbname"]) == (host, port, "ada", "chat")


def test_a_database_in_a_file_needs_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("pymysql", "psycopg"):
        monkeypatch.setitem(sys.modules, driver, None)
    assert dialect_of("sqlite:///chat.db", 1.0).path == Path("chat.db")
