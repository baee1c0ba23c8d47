"""The table of kinds of entries: what a new row needs and cannot be derived from it; kinds that nobody here knows."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import p2pchat
from p2pchat import DurableEvent, Message, MessageChange, Reaction, Sent
from p2pchat.cli.terminal.terminal_display import TerminalDisplay
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import UNSUPPORTED, EventLine, format_event, shows_presence
from p2pchat.commands.pending_arrivals import PendingArrivals, author_id
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.core.log import Ref, decode_entry, message_id, ref_key
from p2pchat.core.node_context import Now
from p2pchat.core.sync.causal_order import SHARED_AHEAD
from p2pchat.kinds import CALLS, CHANGE_EVENTS, KINDS, LISTS, Kind
from p2pchat.kinds.message_fields import MESSAGE_FIELDS, fields_at
from p2pchat.messaging.messages import ref_of
from p2pchat.storage.contract import count_messages
from p2pchat.testing import Mesh, mesh
from p2pchat.testing.eventlog_parser import _NEEDED as NEEDED
from p2pchat.testing.eventlog_parser import wrong_with
from p2pchat.web.chat_socket import EVENTS
from p2pchat.web.message_form import CHAT, CHAT_EVENTS, SOCKETIO, chat_json, message_json
from p2pchat.web.schemas import MessageOut
from tests.deadlines import WAIT, until, within
from tests.kinds.samples import write

ROOT = Path(p2pchat.__file__).parent.parent
YEAR_US = 31_536_000_000_000


_OF_MESSAGES = "relation_of() of core/edits.py, called by core/sync/causal_order.py"
# Where the core decides what an entry about this does; core/sync/log_validation.py checks the form of all alike. Of the
# changes of one thing by several people, either a number decides (groups), or the newest whose clock is_plausible() of
# core/log.py: without that, one wrong clock hides what all others do.
DECIDED_IN = {
    "": "core/sync/causal_order.py", "own": _OF_MESSAGES, "any": _OF_MESSAGES,
    "user": "on_profile() of core/names.py, called by core/sync/ingest.py", "group": "core/groups/",
}  # fmt: skip


@pytest.fixture
async def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    monkeypatch.setenv("P2PCHAT_HOME", str(tmp_path))
    async with mesh("ada", "bob", "cyd") as net:
        yield net


@cache
def text_of(pattern: str) -> str:
    return "\n".join(path.read_text("utf-8") for path in sorted(ROOT.glob(pattern)))


def class_of(kind: Kind) -> type[Any]:
    """Return what programs get of a kind."""
    public = [one for one in (getattr(p2pchat, name) for name in p2pchat.__all__) if isinstance(one, type)]
    cls = next((one for one in public if getattr(one, "event", "") == kind.event), None)
    assert cls is not None, f"no public class of p2pchat has the event {kind.event!r}"
    return cls


# Not own state, of which each key is told in its own way: tests/messaging/test_own_state.py.
@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.about != "self"], ids=lambda kind: kind.name)
async def test_a_kind_is_everywhere(kind: Kind, net: Mesh) -> None:
    assert kind.about in DECIDED_IN, f"no rule for a change of a {kind.about}; those of others: {DECIDED_IN}"
    ada, bob, _ = net.peers
    cls = class_of(kind)
    seen: list[Any] = []
    await ada.broadcast("before")
    await net.settle()
    events: Any = bob.events(cls)
    reader = asyncio.ensure_future(collect(events, seen))
    if kind.body == "text":
        for refused in ("x" * 32_769, "a\0b"):
            with pytest.raises(ValueError):  # check_text() of core/sync/appender.py: others refuse such an entry
                await write(kind, ada, bob, refused)
    await write(kind, ada, bob, "hi!")
    await net.settle()
    change = {"group": "created"}.get(kind.name)
    await until(lambda: any(getattr(one, "change", None) == change for one in seen), f"the event of a {kind.name}")
    event = next(one for one in seen if getattr(one, "change", None) == change)
    reader.cancel()
    storage = ada._require_running().disk.storage
    entry = [one for shown in storage.places(0, 99) if (one := decode_entry(shown.raw)).k == kind.name][-1]
    assert kind.body == {str: "text", int: "number", dict: "object"}.get(type(entry.b), "null")

    line = event.to_dict()
    assert line["event"] == kind.event and format_event(line, "bob", datetime.now(UTC)), "no text in a terminal"
    assert (kind.event in CHANGE_EVENTS) == issubclass(cls, MessageChange), "about"
    assert not kind.list or hasattr(Message, kind.list), f"Post of messaging/messages.py has no {kind.list}"
    assert (kind.event in CHAT_EVENTS) == issubclass(cls, EVENTS["changes"]), "CHAT_EVENTS of web/message_form.py"
    for page, text in {
        "docs/cli.md": f"`{kind.event}`", "docs/protocol.md": f"`{kind.name}`",
        "docs/protocol-entries.md": f"`{kind.name}`", "docs/reference/*.md": f"::: p2pchat.{cls.__name__}\n",
        "p2pchat/web/page/said.js" if kind.list else "p2pchat/web/page/events.js": f" {kind.event}: ",
    }.items():  # fmt: skip
        assert text in text_of(page), f"{page} lacks it"
    [changes] = re.findall(r"^\| `changes` .*", text_of("docs/gateway-api.md"), re.MULTILINE)
    assert kind.event not in CHAT_EVENTS or kind.event in changes, "docs/gateway-api.md"

    sources = inspect.getsource(TerminalDisplay._show_for_people) + inspect.getsource(shows_presence)
    shown_in_terminal = re.findall(r'"(\w+)"', sources)
    assert kind.event in {*shown_in_terminal, *CHANGE_EVENTS}, "cli/terminal/terminal_display.py"
    await _goes_through_displays(line, event)
    is_change = isinstance(event, DurableEvent) and not isinstance(event, Message | Sent)
    assert not is_change or issubclass(cls, EVENTS["changes"]), "EVENTS of web/chat_socket.py: no client is told of it"
    _needs_its_fields(line)

    if isinstance(event, DurableEvent):  # from memory, and from storage
        assert type(event.seen_by(bob)) is cls and event.seen_by(bob).to_dict() == line and event.seen_by(ada).by.is_me
        async with within(WAIT, "it comes from storage"):
            again = bob.events(cls, consumer="again", start="beginning")
            while (stored := await anext(again)) != event:
                pass
        assert stored.to_dict() == line


async def _goes_through_displays(line: EventLine, event: object) -> None:
    """In a pipe an older one is counted only if it is a message; who does something is here before that."""
    display = Display(StdoutWriter(None), None, as_json=False, echo=True)
    if isinstance(event, DurableEvent):
        await display.show_event(line, older=True)
        assert display.notifier._older.total() == isinstance(event, Message | Sent), "Display._show_line"
    display.close()
    arrivals = PendingArrivals(display.show_event)
    joined = {"event": "joined", "user_id": author_id(line)}
    assert arrivals.lines(joined) == [] and arrivals.lines(line) == [joined, line], "_SEEN of pending_arrivals.py"


def _needs_its_fields(line: EventLine) -> None:
    """A line of an event log without what it says is a fault."""
    assert line["event"] in {*NEEDED, "renamed"}, "_NEEDED of testing/eventlog_parser.py"
    assert set(NEEDED.get(line["event"], ())) <= line.keys() and wrong_with(line) == ""
    said = CHANGE_EVENTS[line["event"]].field if line["event"] in CHANGE_EVENTS else ""
    assert not said or wrong_with({name: line[name] for name in line if name != said})


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.aspect], ids=lambda kind: kind.name)
def test_each_act_on_a_message_has_a_path_and_words(kind: Kind) -> None:
    assert all(call.rest and call.of and call.purpose for call in kind.calls), "rest, of, purpose of its Call"


@pytest.mark.parametrize("name", CALLS)
def test_an_act_can_be_done_on_the_page(name: str) -> None:
    path = CALLS[name].rest.partition(" ")[2]  # where it has to be repeated with a key
    page = "".join(text_of(f"p2pchat/web/page/{file}.js") for file in ("chat", "said", "http"))
    assert f'"{name}"' in page or f'post("{path}"' in page, "chat.js, said.js, http.js"


def test_what_people_say_of_messages_has_the_row_of_its_record_on_the_page() -> None:
    rows = dict(re.findall(r"^  (\w+): \{ (.*) \},$", text_of("p2pchat/web/page/said.js"), re.MULTILINE))
    assert rows.keys() == {kind.event for kind in LISTS.values()}, "SAID of web/page/said.js"
    for kind in LISTS.values():
        marks = ", shared: true" * kind.shared + ", head: true" * kind.head
        calls = ", ".join(f'"{call.name}"' for call in kind.calls)
        assert rows[kind.event].startswith(f'list: "{kind.list}", field: "{kind.field}"{marks}'), "web/page/said.js"
        assert not kind.head or f"toggle: [{calls}], icon: " in rows[kind.event], "web/page/said.js"
        assert kind.words, f"the record of a {kind.name} does not say what its {kind.list} are"
        is_drawn = kind.shared or f"message.{kind.list}" in text_of("p2pchat/web/page/message.js")
        assert is_drawn, f"web/page/message.js: the page shows no {kind.list}"


def test_an_older_version_shows_a_new_message_and_nothing_of_what_is_about_one() -> None:
    """It goes by whether there is a text in `b` (Entry.is_message). The two that differ were in the first version."""
    with_text = {kind.name for kind in KINDS.values() if kind.body == "text"}
    assert with_text == {kind.name for kind in KINDS.values() if not kind.about} | {"edit", "reaction"}


# All but what only one user changes, and what is numbered.
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].about not in ("", "user", "self", "group")])
async def test_a_wrong_clock_hides_nothing_that_others_change_later(kind: str, net: Mesh) -> None:
    ada, bob, cyd = net.peers
    driver = cyd._lifecycle.started_driver
    right = driver._now
    ahead = SHARED_AHEAD // 2 if KINDS[kind].shared else YEAR_US  # what is shared and more than a day ahead is ignored
    driver._now = lambda: Now(right().mono, right().utc + ahead)
    events = bob.events(class_of(KINDS[kind]))
    for peer in (ada, cyd):
        await peer.broadcast("before")
        await net.settle()
    for peer in (cyd, ada):
        await write(KINDS[kind], peer, bob, peer.me.name)
        await net.settle()
        async with within(WAIT, f"a {kind} that is newer than one of a wrong clock: is_plausible() of core/log.py"):
            assert (await anext(events)).by.name == peer.me.name


async def collect(events: Any, into: list[Any]) -> None:
    async for event in events:
        into.append(event)


NOT_ON_PAGE = {  # fields of a message: it knows the place, and shows nothing of the rest
    "conversation_id", "kind", "to", "group", "gap", "automatic", "hops", "after", "old", "mended_id", "closed_id",
    "changed_id",
}  # fmt: skip
IN_LINES: dict[str, type | tuple[type, ...]] = {
    "text": str, "time": str, "bool": bool, "int": int, "list": list, "files": list,
    "said": list,
}  # fmt: skip


async def test_each_field_of_a_message_has_a_row_and_is_in_each_form_that_the_row_names(net: Mesh) -> None:
    """Each field is in a line of one of these messages; a late, an unknown and an expelled one are elsewhere."""
    ada, bob, _ = net.peers
    group = await ada.create_group("ops", ["bob"])
    more: Any = {"files": [("x.txt", b"x")], "claimed_at": datetime.now(UTC), "choices": ["yes", "no"], "hops": 1}
    await ada.send(group, "hi", **more, automatic=True)
    first = await ada.send("bob", "helo", ref="7")
    await ada.send("bob", "who?", first.id, action=True)
    await ada.edit(first.id, "hello")
    await ada.delete((await ada.send("bob", "oops")).id)
    await net.settle()
    [told] = [one for one in await bob.history("ada") if one.text == "hello"]
    await told.react("+1")
    await ada.pin(first.id)
    asked = await ada.poll("bob", "lunch?", ["pizza", "soup"])
    await net.settle()
    await bob.vote(asked.id, 2)
    await net.settle()
    await ada.close_poll(asked.id)
    await net.settle()
    posts = await ada.history()
    lines = [post.to_dict() for post in posts]
    rows = {row.name: row for row in MESSAGE_FIELDS}
    names = set().union(*lines)
    assert names - rows.keys() == {"event", "at", "conversation", "ref"}
    assert rows.keys() - names == {"came", "changed_id", "expelled", "gap", "unsupported"}
    for line in lines:
        assert all(
            isinstance(line[name], IN_LINES[row.type]) for name, row in rows.items() if line.get(name) is not None
        )
        assert {name for name, row in rows.items() if "l" in row.marks} <= line.keys()
    for name in LISTS:  # what people say of a message is seen beside it
        [shown, bare] = [
            format_event({key: line[key] for key in line if key != left_out}, "ada", datetime.now(UTC))
            for line in [next(line for line in lines if name in line)]
            for left_out in ("", name)
        ]
        assert shown != bare, f"message_text() or edit_marks() of commands/event_text.py: a terminal shows no {name}"
    for form, make in {"c": chat_json, "s": lambda post: message_json(post, SOCKETIO)}.items():
        made = set().union(*map(make, posts))
        assert made - {"to"} == {row.other or name for name, row in fields_at(form).items() if name in names - {"to"}}
    shape: Any = MessageOut.model_json_schema()
    assert shape["properties"].keys() == {*CHAT.values()}
    on_page = {name for name in rows if f"line.{name}" in text_of("p2pchat/web/page/model.js")}
    assert on_page == rows.keys() - NOT_ON_PAGE - LISTS.keys()
    assert all(f"`{name}`" in text_of("docs/cli.md") for name in rows)
    assert all(f"`{name}`" in text_of("docs/gateway-socketio.md") for name in {*SOCKETIO.values()} - LISTS.keys())


async def test_a_kind_of_a_later_version_with_a_text_is_a_message_for_everybody(
    net: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown in its place, from memory and from storage, and counted; it is delivered, read and reacted to."""
    monkeypatch.setitem(KINDS, "sticker", Kind("sticker", "text", "message"))  # so that ada can write them
    monkeypatch.setitem(KINDS, "peel", Kind("peel", "null", "peeled", "any"))
    ada, bob, cyd = net.peers
    zoe = await bob.host("zoe")
    readers: list[Any] = [
        cyd.events(Message),
        bob.events(Message),
        zoe.events(Message),
        bob.events(DurableEvent, consumer="slow"),
    ]
    await ada.broadcast("before")
    write = ada._require_running().requests.write
    log, seq = await write(ada.me.key, ada.room.key, "sticker", ["a cat"])
    await write(ada.me.key, ada.room.key, "peel", [""], Ref(ref_key(log.user, log.run), seq))
    await ada.broadcast("after")
    await net.settle()
    expected = [("before", None), ("a cat", "sticker"), ("after", None)]
    for events in (*readers, bob.events(Message, consumer="storage", start="beginning")):
        came: list[Any] = []
        async with within(WAIT, "the last message"):
            while not came or came[-1].text != "after":
                came.append(await anext(events))
        assert [(one.text, one.unsupported) for one in came] == expected
    sticker = (await bob.history("room"))[1]
    assert [one.unsupported for one in await bob.unread("room")] == [None, "sticker", None]
    storage = bob._require_running().disk.storage
    assert count_messages(one.raw for one in storage.places(0, 99)) == 3  # and two profiles
    [found] = await bob.search("cat")
    assert found.unsupported == "sticker"

    line = sticker.to_dict()
    shown = format_event(line, "bob", datetime.now(UTC)) or ""
    assert line["unsupported"] == "sticker" and shown.endswith(f"ada: a cat {UNSUPPORTED}")
    assert chat_json(sticker)["unsupported"] == message_json(sticker, SOCKETIO)["unsupported"] == "sticker"
    for reader in (bob, cyd, zoe):
        (await reader.history("room"))[-1].mark_read()
    receipt = await ada.receipt(message_id(log, seq))
    async with within(WAIT, "that it is read"):
        await receipt.read()

    reactions = ada.events(Reaction)
    with pytest.raises(ValueError, match="this version does not know this kind of message"):
        await sticker.react("+1")
    await bob._require_running().requests.write(bob.me.key, bob.room.key, "reaction", ["+1"], ref_of(sticker))
    async with within(WAIT, "a reaction to it"):
        assert (await anext(reactions)).message.unsupported == "sticker"
