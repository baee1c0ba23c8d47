"""Failures of a database on a server: another peer writes, connections end, the server stops or is killed."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote, urlencode

import pytest

from p2pchat.core.durable_changes import Change, WantStart
from p2pchat.core.log import RawEntry
from p2pchat.errors import StorageError
from p2pchat.extras import install_command
from p2pchat.storage.dialects.dialect import DatabaseURL, parse_url
from p2pchat.storage.sql_storage import SqlStorage
from tests.databases.fixtures import ServerOf
from tests.databases.servers import KINDS, ROOT, Server, private
from tests.docs.pages import blocks
from tests.storage.conftest import SMALL
from tests.storage.writers import ROOM, Author, is_sound, released, user

NewDatabase = Callable[[str], str]


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, new_database: NewDatabase) -> str:
    return new_database(kind)


@pytest.fixture(scope="module", params=sorted(KINDS))
def own_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server that tests may stop, with durable commits."""
    if missing := KINDS[request.param].missing():
        pytest.skip(missing)
    with private(request.param) as server:
        yield server


def opened(url: str, *, read_only: bool = False) -> SqlStorage:
    return SqlStorage(url, SMALL, read_only=read_only, busy_timeout=0.2)


def all_entries(storage: SqlStorage, name: str) -> list[RawEntry]:
    batches, more = storage.fetch(ROOM, user(name), WantStart(()), batches=10**6)
    assert more is None and all(map(is_sound, batches))
    return [raw for batch in batches for raw in batch.raws]


def url_of(parts: DatabaseURL) -> str:
    kind = f"{parts.kind}+{parts.driver}" if parts.driver else parts.kind
    password = "" if parts.password is None else f":{quote(parts.password, safe='')}"
    login = "" if parts.user is None else f"{quote(parts.user, safe='')}{password}@"
    port = "" if parts.port is None else f":{parts.port}"
    return f"{kind}://{login}{parts.host or ''}{port}/{parts.database}?{urlencode(parts.options)}"


def end_connections(server: Server, url: str) -> None:
    """Have the server end all connections to a database."""
    database = parse_url(url).database
    if server.kind == "mariadb":
        ours = f"select id from information_schema.processlist where db = '{database}'"
        server.admin(f"begin not atomic for one in ({ours}) do kill one.id; end for; end")
    else:
        server.admin(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")


# ---- one writer


def test_a_second_peer_with_the_same_database_is_refused(url: str) -> None:
    ada = Author("ada", 1)
    with closing(opened(url)) as storage:
        with pytest.raises(StorageError, match="is in use by another peer: stop that one, or give each peer"):
            opened(url)
        storage.commit([released(ada.begins("1"), 1)])
        with closing(opened(url, read_only=True)) as reader:
            assert [shown.raw for shown in reader.history(ROOM)] == ada.raws
            with pytest.raises(StorageError, match="for reading only"):
                reader.commit([Change()])
    with closing(opened(url)) as storage:
        storage.commit([ada.appends("2")])
        assert all_entries(storage, "ada") == ada.raws


def test_the_statements_of_the_page_make_a_usable_database(own_server: Server) -> None:
    """A fresh MariaDB has anonymous users, which come before a user of all hosts."""
    pages = blocks((ROOT / "docs" / "databases.md").read_text("utf-8"))
    mariadb, postgresql = [block.text.split(";") for block in pages if block.language == "sql"]
    statements = mariadb if own_server.kind == "mariadb" else postgresql
    own_server.admin(*filter(str.strip, statements))
    with closing(opened(own_server.url("chat", user="ada", password="secret"))) as storage:
        storage.commit([Author("ada", 1).begins("1")])


def test_a_lost_connection_is_replaced_without_an_error(kind: str, url: str, server_of: ServerOf) -> None:
    ada = Author("ada", 1)
    with closing(opened(url)) as storage:
        storage.commit([ada.begins("1")])
        for text in ("2", "3"):
            end_connections(server_of(kind), url)
            storage.commit([ada.appends(text)])
            with pytest.raises(StorageError, match="in use by another peer"):
                opened(url)  # the peer holds the lock again
        assert all_entries(storage, "ada") == ada.raws


def test_a_peer_stops_after_another_one_wrote_to_its_database(kind: str, url: str, server_of: ServerOf) -> None:
    ada, bob = Author("ada", 1), Author("bob", 1)
    with closing(opened(url)) as storage:
        storage.commit([ada.begins("1")])
        end_connections(server_of(kind), url)
        with closing(opened(url)) as other:
            other.commit([bob.begins("mine")])
        change = ada.appends("2")
        for _ in range(2):
            with pytest.raises(StorageError, match="another peer has written into the"):
                storage.commit([change])
        with pytest.raises(StorageError, match="another peer has written"):
            storage.check_writable()
    with closing(opened(url, read_only=True)) as reader:
        assert (len(all_entries(reader, "ada")), all_entries(reader, "bob")) == (1, bob.raws)


# ---- a server that stops


def test_commits_fail_while_the_server_is_away_and_work_again_afterwards(own_server: Server) -> None:
    ada = Author("ada", 1)
    with closing(opened(own_server.create("away"))) as storage:
        storage.commit([ada.begins("1")])
        own_server.stop()
        change = ada.appends("2")
        for ask in (
            lambda: storage.commit([change]),
            storage.check_writable,
            lambda: storage.load([]),
            storage.last_place,
        ):
            with pytest.raises(StorageError, match="does not answer: is the server running"):
                ask()
        own_server.start()
        storage.check_writable()
        (tip,) = storage.load([]).tips
        assert tip.seq == 1
        storage.commit([change])
        assert all_entries(storage, "ada") == ada.raws


def test_a_killed_server_has_every_commit_that_returned(own_server: Server) -> None:
    """Killed three times in the middle of commits, it has every commit that returned, and at most one more."""
    ada, durable, place = Author("ada", 1), 0, 1
    storage = opened(own_server.create("killed"))
    with closing(storage):
        for _ in range(3):
            killer = threading.Timer(0.15, own_server.kill)
            while True:
                change = released(ada.begins("1") if ada.seq == 0 else ada.appends("x" * 300), place)
                try:
                    storage.commit([change])
                except StorageError:
                    break
                durable, place = ada.seq, place + 1
                if killer.ident is None:
                    killer.start()  # once something was stored
            killer.join()
            own_server.start()
            storage.check_writable()
            (tip,) = storage.load([]).tips
            assert tip.seq in (durable, durable + 1)
            if tip.seq == durable:  # it was lost: write it again
                storage.commit([change])
            durable, place = ada.seq, ada.seq + 1
        assert all_entries(storage, "ada") == ada.raws and durable > 3
        assert [shown.place for shown in storage.places(0, 10**6)] == list(range(1, durable + 1))


def test_a_server_that_starts_leaves_the_files_of_another_alone(new_database: NewDatabase) -> None:
    """MariaDB removes all temporary tables of its directory at its start; most of our queries make one for a moment."""
    with closing(opened(new_database("mariadb"))) as storage:
        storage._write.run("create temporary table held (body text) engine=aria")
        with private("mariadb", durable=False):
            storage._write.run("insert into held values ('here')")
            assert storage._write.value("select body from held") == "here"
            storage._write.run("drop temporary table held")


# ---- errors


@pytest.mark.parametrize(
    "wrong, says",
    [
        (lambda url: replace(url, password="sesame"), "refuses the user or the password"),
        (
            lambda url: replace(url, database="elsewhere"),
            "'elsewhere' on .* (is not there: make it first|refuses the user)",
        ),
        (lambda url: replace(url, options=dict.fromkeys(url.options, "/nowhere/s")), "does not answer"),
        (lambda url: replace(url, database=""), "names no database"),
        (lambda url: replace(url, options={**url.options, "colour": "blue"}), "an option"),
        (lambda url: replace(url, driver="pg8000"), "leave \\+'pg8000' out of the URL"),
    ],
    ids=["password", "database", "server", "nothing", "option", "driver"],
)
def test_errors_are_one_sentence_without_the_password(
    url: str, wrong: Callable[[DatabaseURL], DatabaseURL], says: str
) -> None:
    given = wrong(parse_url(url))
    with pytest.raises(StorageError, match=says) as raised:
        opened(url_of(given))
    assert "sesame" not in str(raised.value) and "\n" not in str(raised.value)


def test_a_server_that_is_read_only_says_so(own_server: Server) -> None:
    """The sentence was about rights of this user, which nobody had taken away."""
    word = "read_only" if own_server.kind == "mariadb" else "default_transaction_read_only"
    url = own_server.create("replica")
    with closing(opened(url)) as storage:
        storage.commit([Author("ada", 1).begins("1")])
    own_server.admin(*settings_of(own_server, word, "on"))
    try:
        with pytest.raises(StorageError, match="is read-only, as a replica is: name the server that it copies"):
            opened(url)
    finally:
        own_server.admin(*settings_of(own_server, word, "off"))
    with closing(opened(url)) as storage:
        storage.check_writable()


def settings_of(server: Server, word: str, value: str) -> list[str]:
    """Return the statements that set a setting of a whole server."""
    if server.kind == "mariadb":
        return [f"set global {word} = {value}"]
    return [f"alter database replica set {word} = {value}"]


def test_a_missing_driver_names_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, {"mariadb": "pymysql", "postgresql": "psycopg"}[kind], None)
    extra = {"mariadb": "mysql", "postgresql": "postgresql"}[kind]
    with pytest.raises(StorageError, match=re.escape(f"which is not installed: {install_command(extra)}")):
        opened(f"{kind}://ada:secret@nowhere/chat")


def test_a_database_of_a_newer_version_is_left_alone(url: str) -> None:
    with closing(opened(url)) as storage:
        storage.commit([Change(meta={"network": "k"})])
        with storage._write.transaction():
            storage._write.run("update meta set value = '99' where name = 'schema'")
    with pytest.raises(StorageError, match=r"newer version of p2pchat \(0.99\)"):
        opened(url)
    with pytest.raises(StorageError, match="newer version"):
        opened(url, read_only=True)


def test_a_database_on_a_server_is_verified_like_a_file(url: str) -> None:
    with closing(opened(url)) as storage:
        storage.commit([released(Author("ada", 1).begins("one", "two"), 1), Author("bob", 2).begins("three")])
        assert storage.faults(9) == [] and storage.size_on_disk() > 0 and storage.path is None
        with storage._write.transaction():
            storage._write.run("update entries set body = replace(body, 'two', 'twq')")
        assert storage.faults(9) == ["log 1 is not what its writer signed (entries up to 2)"]
        with pytest.raises(StorageError, match="holds what no peer has written there"):
            all_entries(storage, "ada")
