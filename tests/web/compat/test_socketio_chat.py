"""The real-time chat that uses Socket.IO and MySQL: each of its events, with the official JavaScript client.

The gateway is a process of its own and keeps everything in a real MariaDB.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from p2pchat.storage.sql import SqlStorage
from tests.databases.fixtures import ServerOf
from tests.docs.pages import ROOT, blocks
from tests.ports import free_ports
from tests.web.compat.javascript import JavaScript, client_directory

PAGE = ROOT / "docs" / "gateway-socketio.md"
LONG_AGO = "2001-02-03T04:05:06.789Z"
MOST_PAIRS = 8  # of the 20 accounts that one address may register at once
_numbers = count(1)


class Gateway:
    """`p2pchat web` in a process of its own, which can be stopped, killed and started again."""

    def __init__(self, data: Path, db: str) -> None:
        self._words = ["--port", "0", "--json", "--data", str(data / "gateway")]
        self._environment = {**os.environ, "P2PCHAT_HOME": str(data / "home"), "P2PCHAT_DB": db}
        self.port = int(free_ports(1)[0])  # which nobody else gets while it is down
        self.start()

    def start(self) -> None:
        """Start it on the same port."""
        command = [sys.executable, "-m", "p2pchat", "web", str(self.port), *self._words]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, env=self._environment
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if told["event"] == "serving":
                assert told["http_port"] == self.port
                return
        raise AssertionError("the gateway has not begun to serve")

    def end(self, signal: int = signal.SIGTERM) -> None:
        self._process.send_signal(signal)
        self._process.communicate(timeout=60)

    def register(self, name: str) -> str:
        """Register a name and return its token."""
        answer = httpx.post(f"{self.url}/accounts", json={"name": name}, timeout=60, trust_env=False, verify=False)
        assert answer.status_code == 201, answer.text
        token: str = answer.json()["token"]
        return token

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def javascript() -> Iterator[JavaScript]:
    running = JavaScript()
    yield running
    running.close()


@pytest.fixture(scope="module")
def database(server_of: ServerOf) -> str:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "one")
    return server_of("mariadb").create(f"socketio_{worker}")


@pytest.fixture(scope="module")
def gateway(database: str, javascript: JavaScript, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(tmp_path_factory.mktemp("gateway"), database)
    yield running
    running.end()


class Person:
    """A user with an account and a Socket.IO client."""

    def __init__(self, javascript: JavaScript, gateway: Gateway, name: str, token: str) -> None:
        self.name = name
        self.token = token
        self._javascript = javascript
        self._gateway = gateway

    def come(self, **options: Any) -> Person:
        """Open the page: connect and register."""
        self._javascript.order("connect", **{"as": self.name, "url": self._gateway.url, "options": options})
        self.hear("connect")
        self.order("register", payload={"userId": self.name, "authToken": self.token})
        assert self.hear("registered") == {"status": "ok", "userId": self.name}
        return self

    def order(self, do: str, **words: Any) -> None:
        self._javascript.order(do, **{"as": self.name, **words})

    def emit(self, event: str, **payload: Any) -> Any:
        """Emit an event and return the payload of its acknowledgement."""
        return self.emit_dated(None, event, **payload)

    def emit_dated(self, dated: str | None, event: str, **payload: Any) -> Any:
        """As emit, with a JavaScript Date as `timestamp`."""
        ref = self._javascript.ref()
        self.order("emit", event=event, payload=payload, dated=dated, ref=ref)
        return self._javascript.hear(self.name, "answer", ref=ref)

    def write(self, to: Person, content: str) -> str:
        """Write a private message; return its id."""
        answer = self.emit("privateMessage", to=to.name, content=content)
        assert answer["status"] == "ok"
        message_id: str = answer["id"]
        return message_id

    def leave(self) -> None:
        """Close the page."""
        self.order("disconnect")
        self.hear("disconnect")

    def hear(self, event: str, where: Callable[[Any], bool] = lambda data: True) -> Any:
        return self._javascript.hear(self.name, event, where)

    def heard(self, event: str) -> list[Any]:
        return self._javascript.heard(self.name, event)

    def hears_status(self, message_id: str, status: str) -> None:
        self.hear("messageStatus", lambda told: told == {"messageId": message_id, "status": status})

    def has_no_status(self, message_id: str, status: str) -> None:
        """Check that an event has not come, after waiting for one that would come later."""
        assert {"messageId": message_id, "status": status} not in self.heard("messageStatus")

    def sees(self, other: Person, status: str) -> None:
        self.hear("presenceUpdate", lambda told: told == {"userId": other.name, "status": status})


Two = tuple[Person, Person]


@pytest.fixture(scope="module")
def everybody() -> list[Two]:
    """Return registered pairs; some serve several tests, since registrations of one address are limited."""
    return []


@pytest.fixture
def people(javascript: JavaScript, gateway: Gateway, everybody: list[Two]) -> Iterator[Two]:
    """Two users who are registered and not connected."""
    number = next(_numbers)
    if number > MOST_PAIRS:
        found = everybody[(number - 1) % MOST_PAIRS]
    else:
        ada, bob = (
            Person(javascript, gateway, f"{name}{number}", gateway.register(f"{name}{number}")) for name in "ab"
        )
        everybody.append(found := (ada, bob))
    yield found
    for person in found:
        person.order("disconnect")
    javascript.order("echo", ref=(ref := javascript.ref()))
    javascript.hear("", "echo", ref=ref)  # what they heard at their ends has come, too
    for person in found:
        javascript.forget(person.name)


def test_register_links_a_socket_to_its_user_and_a_wrong_token_does_not(
    people: Two, javascript: JavaScript, gateway: Gateway
) -> None:
    ada, bob = people
    bob.come()
    liar = Person(javascript, gateway, ada.name, bob.token)
    with pytest.raises(AssertionError):
        liar.come()
    assert liar.hear("error")["code"] == "unauthorized"
    assert liar.hear("disconnect") == "io server disconnect", "so it does not try for ever"


def test_messages_to_an_offline_user_survive_a_restart_in_order(people: Two, gateway: Gateway) -> None:
    """A killed gateway loses nothing, and the writer gets the status once the receiver has the message."""
    ada, bob = people
    bob.come().leave()
    ada.come()
    written = [ada.write(bob, f"{number}") for number in range(3)]
    if sys.platform == "win32":
        raise NotImplementedError
    gateway.end(signal.SIGKILL)
    ada.hear("disconnect")
    gateway.start()
    assert ada.hear("registered")["status"] == "ok", "the client has come back by itself"
    written += [ada.write(bob, f"{number}") for number in range(3, 5)]
    ada.has_no_status(written[0], "delivered")
    bob.come()
    received = [bob.hear("newMessage") for _ in written]
    assert [message["id"] for message in received] == written
    assert [message["content"] for message in received] == ["0", "1", "2", "3", "4"]
    times = [message["timestamp"] for message in received]
    assert times == sorted(times)
    for message_id in written:
        ada.hears_status(message_id, "read")
    bob.leave()
    bob.come()
    last = ada.write(bob, "last")
    assert bob.hear("newMessage")["id"] == last, "what was taken does not come again"


def test_an_offline_writer_gets_message_statuses_on_return(people: Two, gateway: Gateway) -> None:
    ada, bob = people
    ada.come()
    message_id = ada.write(bob, "for later")
    ada.has_no_status(message_id, "delivered")
    ada.leave()
    bob.come()
    bob.hear("newMessage")
    about, bearer = f"{gateway.url}/messages/{message_id}/receipt", {"Authorization": f"Bearer {ada.token}"}
    while httpx.get(about, headers=bearer, timeout=60, trust_env=False, verify=False).json()["status"] != "read":
        pass
    bob.leave()
    ada.come()
    ada.hears_status(message_id, "read")


def test_a_private_message_has_the_gateways_time_and_the_clients_claim(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    before = datetime.now(UTC)
    answer = ada.emit_dated(LONG_AGO, "privateMessage", to=bob.name, content="hello <b>bob</b>")
    message = bob.hear("newMessage")
    assert answer == {"status": "ok", "id": message["id"]}
    assert (message["from"], message["content"]) == (ada.name, "hello <b>bob</b>")
    assert before <= datetime.fromisoformat(message["timestamp"]) <= datetime.now(UTC)
    assert datetime.fromisoformat(message["clientTimestamp"]) == datetime.fromisoformat(LONG_AGO)
    bob.write(ada, "hello yourself")
    back = ada.hear("newMessage")
    assert back["conversationId"] == message["conversationId"] and "clientTimestamp" not in back


def test_a_room_message_reaches_everyone_but_the_writers_socket(people: Two) -> None:
    ada, bob = (person.come(transports=["polling"]) for person in people)
    said = ada.emit("groupMessage", to="room", content="hello, everybody")
    heard = bob.hear("newMessage", lambda message: message["from"] == ada.name)
    assert (heard["id"], heard["content"], heard["kind"]) == (said["id"], "hello, everybody", "room")
    bob.emit("groupMessage", to="room", content="done")
    ada.hear("newMessage", lambda message: message["content"] == "done")
    assert not [message for message in ada.heard("newMessage") if message["from"] == ada.name]


def test_many_messages_at_once_are_all_answered_by_polling(people: Two) -> None:
    """The client posts them together."""
    ada, _ = (person.come(transports=["polling"]) for person in people)
    ada.order("emit", event="groupMessage", payload={"to": "room", "content": "one of many"}, times=40)
    assert [ada.hear("answer")["status"] for _ in range(40)] == ["ok"] * 40


def test_online_and_active_is_delivered_and_read_at_once(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    message_id = ada.write(bob, "look")
    ada.hears_status(message_id, "delivered")
    ada.hears_status(message_id, "read")


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_a_stopped_client_has_neither_taken_nor_read_a_message(
    people: Two, javascript: JavaScript, gateway: Gateway, transport: str
) -> None:
    ada, bob = people
    cyd = Person(javascript, gateway, f"cyd {transport}", gateway.register(f"cyd {transport}")).come()
    ada.come()
    elsewhere = JavaScript()
    Person(elsewhere, gateway, bob.name, bob.token).come(transports=[transport])
    elsewhere.stop()
    message_id, sign = ada.write(bob, "asleep?"), ada.write(cyd, "somebody is awake")
    ada.hears_status(sign, "read")
    ada.has_no_status(message_id, "delivered")
    ada.has_no_status(message_id, "read")
    elsewhere.go_on()
    ada.hears_status(message_id, "delivered")
    ada.hears_status(message_id, "read")
    elsewhere.close()
    cyd.leave()


def test_online_but_inactive_is_delivered_and_read_on_becoming_active(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    bob.emit("activityChange", isActive=False)
    ada.sees(bob, "idle")
    first = ada.write(bob, "one")
    bob.hear("newMessage")
    ada.hears_status(first, "delivered")
    ada.has_no_status(first, "read")
    bob.emit("activityChange", isActive=True)
    ada.hears_status(first, "read")
    ada.sees(bob, "online")


def test_message_ack_marks_a_message_read_even_while_inactive(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    bob.emit("activityChange", isActive=False)
    message_id = ada.write(bob, "one")
    assert bob.emit("messageAck", messageId=bob.hear("newMessage")["id"]) == {"status": "ok"}
    ada.hears_status(message_id, "read")


def test_typing_is_indicated_until_it_stops(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    ada.write(bob, "hi")
    talk = bob.hear("newMessage")["conversationId"]
    for event, state in (("typingStart", True), ("typingStop", False)):
        bob.emit(event, conversationId=talk)
        told = ada.hear("typingIndicator")
        assert (told["userId"], told["isTyping"]) == (bob.name, state)
    ada.emit("typingStart", conversationId=bob.name)
    assert bob.hear("typingIndicator")["isTyping"], "a user's name is the conversation with that user"


def test_connecting_and_disconnecting_change_presence(people: Two) -> None:
    ada, bob = people
    ada.come()
    bob.come()
    ada.sees(bob, "online")
    bob.leave()
    ada.sees(bob, "offline")
    bob.come()
    bob.sees(ada, "online")


def test_a_client_reconnects_after_a_break_and_misses_nothing(people: Two) -> None:
    ada, bob = (person.come() for person in people)
    bob.order("drop")
    bob.hear("disconnect")
    written = [ada.write(bob, f"{number}") for number in range(3)]
    assert bob.hear("registered")["status"] == "ok"
    assert [bob.hear("newMessage")["id"] for _ in written] == written


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_events_made_while_the_connection_is_broken_are_handled_after_it(
    people: Two, javascript: JavaScript, transport: str
) -> None:
    """The client sends them before its `connect` handler runs, which registers it."""
    ada, bob = people
    bob.come()
    ada.come(transports=[transport], reconnectionDelay=1000, reconnectionDelayMax=1000)
    ada.order("drop")
    ada.hear("disconnect")
    ada.order("emit", event="activityChange", payload={"isActive": False}, ref="away")
    ada.order("emit", event="privateMessage", payload={"to": bob.name, "content": "I am away"}, ref="message")
    assert ada.hear("registered")["status"] == "ok"
    assert javascript.hear(ada.name, "answer", ref="away") == {"status": "ok"}
    said = javascript.hear(ada.name, "answer", ref="message")
    assert bob.hear("newMessage")["id"] == said["id"]
    bob.sees(ada, "idle")
    assert ada.emit("activityChange", isActive=True) == {"status": "ok"}, "the client lives on"


def test_the_documented_example_works_as_written_and_survives_a_killed_gateway(
    javascript: JavaScript, gateway: Gateway, tmp_path: Path
) -> None:
    [example] = [block.text for block in blocks(PAGE.read_text("utf-8")) if block.language == "js"]
    program = tmp_path / "example.mjs"
    program.write_text(example.replace("localhost:8000", f"localhost:{gateway.port}"), "utf-8")
    (tmp_path / "node_modules").symlink_to(client_directory() / "node_modules")
    token, bob = gateway.register("ada"), Person(javascript, gateway, "bob", gateway.register("bob")).come()

    def ada(event: str, where: Callable[[Any], bool] = lambda data: True) -> Any:
        return javascript.hear("ada", event, where)

    javascript.order("run", **{"as": "ada", "file": program.as_uri(), "token": token})
    ada("running")
    assert ada("log") == ["ok"], "it is registered"
    message = bob.hear("newMessage")
    assert (message["from"], message["content"]) == ("ada", "hi")
    assert ada("remember") == [message["id"]]
    ada("tick", lambda told: told == [message["id"], "delivered"])
    if sys.platform == "win32":
        raise NotImplementedError
    javascript.order("hide")
    bob.hear("presenceUpdate", lambda told: told == {"userId": "ada", "status": "idle"})
    gateway.end(signal.SIGKILL)
    bob.hear("disconnect")
    gateway.start()
    assert ada("log") == ["ok"], "it has come back by itself and is registered again"
    bob.hear("presenceUpdate", lambda told: told == {"userId": "ada", "status": "idle"})
    welcome = bob.write(Person(javascript, gateway, "ada", token), "welcome back")
    assert ada("show")[:2] == ["bob", "welcome back"]
    bob.hears_status(welcome, "delivered")
    bob.has_no_status(welcome, "read")
    assert not javascript.heard("ada", "warn") and not javascript.heard("ada", "failed")
    bob.leave()


def test_errors_come_as_event_and_as_acknowledgement(people: Two) -> None:
    ada, _ = people
    ada.come()
    answer = ada.emit("privateMessage", to="x" * 100, content="to nobody")
    assert (answer["status"], ada.hear("error")["code"]) == ("error", answer["code"])


def test_messages_and_users_are_in_the_database(people: Two, database: str, gateway: Gateway) -> None:
    ada, bob = people
    ada.come()
    ada.write(bob, "kept in MariaDB")
    storage = SqlStorage(database, read_only=True)
    try:
        assert any("kept in MariaDB" in shown.raw for shown in storage.places(0, 10_000))
        assert {person.name for person in people} <= {user.name for user in storage.hosted()}
    finally:
        storage.close()
