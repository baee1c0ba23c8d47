"""The trace of a peer: what both ends of a link saw, what is left out, the file and its ends.

Peers are linked over sockets.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pchat import Message, TCPPeer, Warned, parse_invite
from p2pchat.cli.profiles import PeerOptions, make_peer
from p2pchat.commands.exit_codes import UsageError
from p2pchat.core.mesh.handshake import proof, transcript
from p2pchat.protocol import LENGTH
from p2pchat.runtime.connection_manager import dial
from p2pchat.settings import Settings
from p2pchat.trace import Trace
from tests.deadlines import WAIT, until, within
from tests.json_lines import lines_of
from tests.link_ends import Recorder, make_client
from tests.messaging.conftest import home as home
from tests.ports import free_ports

posix = pytest.mark.skipif(sys.platform == "win32", reason="modes, FIFOs and limits of POSIX")
WRITTEN = ("see you at noon", "make that one", "cats eat fish", "ada-lovelace", "bob-babbage", "engine room", "+1")
FIELDS = (
    "id",
    "u",
    "c",
    "e",
    "users",
    "name",
    "text",
    "status",
    "marks",
    "tips",
    "sum",
    "sums",
    "prev",
    "head",
    "cert",
)
ABOUT, STATUS = "difference engines", "gone for tea"


def frames_of(path: Path, direction: str) -> list[dict[str, Any]]:
    return [line["frame"] for line in lines_of(path) if line.get("direction") == direction]


def names(frames: list[dict[str, Any]]) -> list[str]:
    """Return the types of these frames, each where it first came: a slow machine repeats some."""
    return list(dict.fromkeys(frame["t"] for frame in frames))


async def everything_written(ada: TCPPeer, bob: TCPPeer) -> None:
    """Write whatever a person can write, and wait until it has arrived."""
    text, edit, room, _, _, group, reaction = WRITTEN
    events = bob.events(Message, consumer="test", start="beginning")
    receipt = await ada.send(bob.me.label, text)
    await receipt.delivered(timeout=WAIT)
    async with within(WAIT, "the message"):
        message = await anext(events)
    await message.react(reaction)
    await (await ada.message(receipt.id)).edit(edit)
    ada.set_presence("idle", STATUS)
    await ada.rename(ada.me.name, about=ABOUT)
    await ada.create_group(group, [bob.me.label])
    await (await bob.broadcast(room)).delivered(timeout=WAIT)
    await until(lambda: [one.name for one in bob.groups()] == [group], "the group")
    await until(lambda: bob.user(ada.me.id).about == ABOUT, "the profile")
    await until(lambda: bob.user(ada.me.id).status_text == STATUS, "the status")


@asynccontextmanager
async def traced(home: Path, *, texts: bool = False) -> AsyncIterator[tuple[TCPPeer, TCPPeer]]:
    """Run ada and bob, linked. Their traces are in the files `ada` and `bob`."""
    async with TCPPeer(data=home / "1", name=WRITTEN[3], trace=home / "ada", trace_texts=texts) as ada:
        async with TCPPeer(
            data=home / "2", name=WRITTEN[4], invite=await ada.make_invite(), trace=home / "bob", trace_texts=texts
        ) as bob:
            await ada.wait_user(WRITTEN[4], timeout=WAIT)
            for one, other in ((ada, bob), (bob, ada)):  # names are entries, too
                people, key = one._driver.node.replicator.people, other.me.key
                await until(lambda people=people, key=key: people.has_profile(key), "the name of the other")  # type: ignore[misc]
            yield ada, bob


def direct(frames: list[dict[str, Any]], peer: TCPPeer) -> list[dict[str, Any]]:
    """Return the frames with entries of direct conversations: those of the room have names."""
    return [frame for frame in frames if frame["t"] == "entries" and frame["c"] != peer.room.key]


async def test_what_one_peer_sent_the_other_received(home: Path) -> None:
    async with traced(home, texts=True) as (ada, bob):
        await (await ada.send(WRITTEN[4], WRITTEN[0])).delivered(timeout=WAIT)
    sent, received = frames_of(home / "ada", "out"), frames_of(home / "bob", "in")
    assert sent == received
    assert frames_of(home / "bob", "out") == frames_of(home / "ada", "in")
    ada_decides = ada.me.key < bob.me.key  # and founded the network: bob joins it by her invite
    go = ["go"]
    about = ["peers", "statements", "here", "digest"]
    assert names(sent)[: 7 + ada_decides] == ["hello", "welcome", "admit", *go * ada_decides, *about]
    answers = names(frames_of(home / "bob", "out"))
    assert answers[: 6 + (not ada_decides)] == ["hello", "show", *go * (not ada_decides), *about]
    assert answers[-1] == "bye"
    ends = {}
    for name, me, far in (("ada", ada, bob), ("bob", bob, ada)):
        start, *lines = lines_of(home / name)
        assert (start["event"], start["schema"], start["peer"], start["texts"]) == ("start", 1, me.me.key, True)
        lines = [line for line in lines if line["event"] != "failed"]  # who stops last may dial the other in vain
        assert {line["link"] for line in lines} == {1}
        assert [line["event"] for line in lines if line["event"] != "frame"] == ["begin", "end"]
        assert {line["peer"] for line in lines[3:]} == {far.me.key}
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["at"]) for line in [start, *lines])
        assert sorted(line["at"] for line in lines) == [line["at"] for line in lines]
        ends[name] = lines[0]["side"], lines[-1]["reason"]
    closed_by = ends["ada"][1]
    assert ends == {"ada": ("accepted", closed_by), "bob": ("dialled", "local")}
    assert closed_by in ("closed", "local")  # once she has read his `bye`, she may be the first
    [batch] = direct(sent, ada)
    assert WRITTEN[0] in batch["e"][0][1]  # verbatim: who writes a peer hashes it


async def test_without_the_option_nothing_that_people_wrote_is_in_it(home: Path) -> None:
    async with traced(home) as (ada, bob):
        await everything_written(ada, bob)
    for name in ("ada", "bob"):
        trace = (home / name).read_text("utf-8")
        assert [text for text in (*WRITTEN, ABOUT, STATUS) if text in trace] == []
        kinds = re.findall(r'\{"k":"(\w+)","bytes":\d+\}', trace)
        assert set(kinds) >= {"text", "reaction", "edit", "profile", "group"}
    assert names(frames_of(home / "ada", "out")) == names(frames_of(home / "bob", "in"))


async def test_with_the_option_everything_is_in_it_that_people_wrote(home: Path) -> None:
    async with traced(home, texts=True) as (ada, bob):
        await everything_written(ada, bob)
    for name in ("ada", "bob"):
        trace = (home / name).read_text("utf-8")
        assert [text for text in (*WRITTEN, ABOUT, STATUS) if text not in trace] == []


@pytest.mark.parametrize("texts", [False, True])
async def test_keys_signatures_and_proofs_are_never_in_it(home: Path, texts: bool) -> None:
    async with traced(home, texts=texts) as (ada, bob):
        invite = await ada.make_invite()
        (await ada.host("eve")).set_presence("online")  # with a certificate that the user has signed
        await bob.wait_user("eve", timeout=WAIT)
    key = parse_invite(invite).network.key
    assert key is not None
    hellos = [frame for direction in ("out", "in") for frame in frames_of(home / "ada", direction)][:1]
    [answer] = [frame for frame in frames_of(home / "ada", "in") if frame["t"] == "hello"]
    t = transcript(2, ada.me.key, bob.me.key, hellos[0]["nonce"], answer["nonce"])
    signed = bob._lifecycle.require_resources().identity.sign(t).hex()
    secrets = [key, invite.partition("@")[0], proof(key, "client", t), proof(key, "server", t), signed]
    for name in ("ada", "bob"):
        trace = (home / name).read_text("utf-8")
        assert [secret for secret in secrets if secret in trace] == []
        assert '"proof":"<left out>"' in trace and '"cert":{' in trace
        assert re.findall(r'"(?:sig|proof)":(?!"<left out>")', trace) == []


async def test_a_hash_made_of_texts_is_left_out(home: Path) -> None:
    """A hash with its other parts known would confirm a guessed text."""
    async with traced(home) as (ada, _):
        await (await ada.send(WRITTEN[4], "yes")).delivered(timeout=WAIT)
    [batch] = direct(frames_of(home / "ada", "out"), ada)
    how_it_went = {"n", "names"}  # asked for, or told with the name of its conversation
    assert set(batch) - how_it_went == {"t", "c", "u", "r", "first", "prev", "e", "head", "h"}
    assert (batch["prev"], batch["head"]) == ("<64 bytes>", "<128 bytes>")
    assert [list(entry) for _, entry in batch["e"]] == [["k", "bytes"]]
    haves = [frame for frame in frames_of(home / "ada", "in") if batch["c"] in frame.get("marks", ())]
    [mark] = haves[-1]["marks"][batch["c"]][batch["u"]]
    assert mark == [batch["r"], 1, "<64 bytes>"]


# Frames that cannot be read, connections that fail


def framed(payload: str | bytes) -> bytes:
    data = payload if isinstance(payload, bytes) else payload.encode()
    return LENGTH.pack(len(data)) + data


async def send_to(ada: TCPPeer, data: bytes) -> None:
    """Send bytes as a stranger, and wait until the link ends."""
    recorder = Recorder()
    client = make_client(await dial("127.0.0.1", ada.port, timeout=60), recorder, server_side=False)
    await client.handshake(60)
    client.start()
    client.send(data)
    await recorder.until(lambda: bool(recorder.reason))


ODD = {
    "not JSON": (framed(b'{"t":"hello",'), "malformed", None),
    "not UTF-8": (framed(b'{"t":"\xff"}'), "malformed", None),
    "no object": (framed("[1,2]"), "malformed", None),
    "a field of another type": (framed('{"t":"go","run":7,"n":1}'), "malformed", {"t": "go", "run": 7, "n": 1}),
    "numbers JSON does not have": (
        framed('{"t":"go","n":[NaN,1e999]}'),
        "malformed",
        {"t": "go", "n": ["<3 bytes>", "<5 bytes>"]},
    ),
    "nested too deep": (framed('{"t":"go","n":' + "[" * 1500 + "]" * 1500 + "}"), "malformed", None),
    "a length of 0": (b"\0\0\0\0", "malformed", None),
    "too large": (b"\0\1\0\0" + b"x" * 100, "limit", None),
}


@pytest.mark.parametrize("what", ODD)
async def test_a_frame_that_cannot_be_read_is_traced_with_the_reason(home: Path, what: str) -> None:
    data, code, shown = ODD[what]
    async with TCPPeer(data=home / "1", trace=home / "ada", trace_texts=True) as ada:
        await send_to(ada, data)
    lines = [line for line in lines_of(home / "ada") if line.get("direction") == "in"]
    assert [(line["bytes"], line["code"], line["frame"]) for line in lines] == [
        (LENGTH.unpack_from(data)[0], code, shown)
    ]
    bye = frames_of(home / "ada", "out")[-1]
    assert (bye["t"], bye["code"], bye["text"]) == ("bye", code, lines[0]["reason"])


async def test_a_misspelt_proof_is_not_in_it_either(home: Path) -> None:
    secret = "f" * 64
    async with TCPPeer(data=home / "1", trace=home / "ada", trace_texts=True) as ada:
        await send_to(ada, framed(json.dumps({"t": "Hello", "v": 1, "Proof": secret, secret[:-1]: 1})))
    trace = (home / "ada").read_text("utf-8")
    assert '"frame":{"t":"Hello","v":1,"Proof":"<64 bytes>","<63 bytes>":1}' in trace and secret[:-1] not in trace


async def test_a_failed_tls_handshake_and_a_failed_dial_are_in_it(home: Path) -> None:
    [nobody] = free_ports(1)
    async with TCPPeer(data=home / "1", trace=home / "ada") as ada:
        _, writer = await asyncio.open_connection("127.0.0.1", ada.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await ada.connect(nobody)
        await until(lambda: {"end", "failed"} <= {line["event"] for line in lines_of(home / "ada")}, "both lines")
        writer.close()
    found = {line["event"]: line for line in lines_of(home / "ada")}
    assert (found["failed"]["endpoint"], found["failed"]["reason"]) == (f"127.0.0.1:{nobody}", "nobody listens there")
    assert found["begin"]["address"] == "127.0.0.1" and found["end"]["error"]


async def test_a_connection_of_too_many_strangers_is_in_it(home: Path) -> None:
    async with TCPPeer(data=home / "1", trace=home / "ada", settings=Settings(max_strangers_loopback=0)) as ada:
        reader, writer = await asyncio.open_connection("127.0.0.1", ada.port)
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
    assert [(line["event"], line["address"]) for line in lines_of(home / "ada")[1:]] == [("refused", "127.0.0.1")]


# The file


def new_trace(path: Path, limit: int = 1 << 20) -> Trace:
    ticks = iter(range(10**9))
    return Trace(path, texts=False, limit_bytes=limit, peer="a" * 64, clock=lambda: next(ticks))


async def test_a_full_file_becomes_the_former_one(home: Path) -> None:
    trace, path, limit = new_trace(home / "ada", 20_000), home / "ada", 20_000
    for n in range(1000):
        trace.put(n=n)
    trace.close()
    former = home / "ada.1"
    assert sorted(file.name for file in home.iterdir() if file.is_file()) == ["ada", "ada.1"]
    assert max(path.stat().st_size, former.stat().st_size) <= limit
    assert [lines_of(file)[0]["event"] for file in (former, path)] == ["start", "start"]
    numbers = [line["n"] for file in (former, path) for line in lines_of(file) if "n" in line]
    assert numbers == list(range(numbers[0], 1000)) and len(numbers) > 200


@posix
async def test_a_new_file_is_for_its_owner_only(home: Path) -> None:
    trace = new_trace(home / "ada", 1)
    trace.put(n=1)
    trace.close()
    assert {(home / name).stat().st_mode & 0o777 for name in ("ada", "ada.1")} == {0o600}


@pytest.mark.parametrize("path", ["missing/ada", "/dev/full", "zero\0byte"])
async def test_a_file_that_cannot_be_written_costs_the_trace_and_one_warning(home: Path, path: str) -> None:
    if path == "/dev/full" and not os.path.exists(path):
        pytest.skip("there is no /dev/full")
    ada = TCPPeer(data=home / "1", trace=home / path)
    warnings = ada.events(Warned, consumer=None)
    async with ada:
        async with TCPPeer(data=home / "2", name="bob", invite=await ada.make_invite()):
            await ada.wait_user("bob", timeout=WAIT)
            await (await ada.send("bob", "hello")).delivered(timeout=WAIT)
        trace = ada._lifecycle._trace
        assert trace is not None
        await until(lambda: bool(trace._failure), "the warning")
    found = [(one.code, one.text) async for one in warnings]
    assert [code for code, _ in found] == ["trace"]
    assert found[0][1].startswith(f"cannot write the trace {home / path}: ") and "goes on without it" in found[0][1]


@pytest.mark.parametrize("direction", ["in", "out"])
async def test_a_defect_of_the_trace_ends_the_trace_and_nothing_else(home: Path, direction: str) -> None:
    ticks = [1, 2, 3]  # for three lines
    path = home / "ada"
    trace = Trace(path, texts=True, limit_bytes=1 << 20, peer="", clock=ticks.pop)
    warnings: list[str] = []
    trace.report_to(warnings.append)
    link, ping = trace.link(1, "dialled", "here"), framed('{"t":"ping"}')
    for _ in range(3):
        link.on_frames(direction, memoryview(ping))
    trace.close()
    assert warnings == [f"cannot write the trace {path}: IndexError; the peer goes on without it"]
    assert len(lines_of(path)) == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("Zq9 written"),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from((*FIELDS, "t", "at", "code")) | st.text(), inner, max_size=4)
    ),
)


@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON), proving=st.booleans(), texts=st.booleans())
def test_whatever_a_frame_holds_its_line_is_json(fields: dict[str, Any], proving: bool, texts: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "trace")
        trace = Trace(path, texts=texts, limit_bytes=1 << 20, peer="", clock=lambda: 0)
        link = trace.link(1, "accepted", "there")
        link._proving = proving
        link.on_frames("out", framed(json.dumps({**fields, "proof": "Zq8"})))
        trace.close()
        _, _, line = lines_of(path)
        assert line["frame"]["proof"] == "<left out>"
        if proving or not texts:
            assert "Zq9" not in path.read_text("ascii")


def test_texts_need_a_file() -> None:
    with pytest.raises(ValueError, match="--trace FILE"):
        TCPPeer(trace_texts=True)
    with pytest.raises(UsageError, match="--trace FILE"):
        make_peer(PeerOptions(trace_texts=True), None)
