"""Texts that users paste, type and see: invites, names, typed lines, command objects, safe text, folded lines."""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache
from itertools import pairwise

from prompt_toolkit.utils import get_cwidth

from p2pchat.addresses import normal_endpoint
from p2pchat.commands.command_table import BY_NAME as ORDERS
from p2pchat.commands.exit_codes import UsageError
from p2pchat.commands.json_commands import BadCommand, LineBuffer, parse_json_command
from p2pchat.commands.typed_commands import (
    BY_NAME,
    CommandInput,
    TextInput,
    help_lines,
    parse_line,
    split_name,
    typed_name,
)
from p2pchat.commands.wrap import CONTINUED_NARROW, NARROW, fold_row, plain_text
from p2pchat.core.names import (
    RESERVED,
    default_name,
    is_valid_name,
    is_visible,
    look_alike,
    skeleton,
    split_label,
    validate_name,
)
from p2pchat.core.node_context import Invitation
from p2pchat.errors import InviteError
from p2pchat.identity.invite_text import encode_invite, parse_invite
from p2pchat.identity.network import MAX_ENDPOINTS, Network
from p2pchat.safe_text import CONTINUED, safe_json, safe_line, safe_text
from tests.fuzz.choices import Supply, any_text
from tests.fuzz.target import Target, hold

ODD = [
    "\x1b[2J", "\x9b2J", "\r", "\t", "\0", "\x7f", "\u202e", "\u2066", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029",
    "\u0301", "\u0430", "\u3000", "\u00a0", "\u1160", "\u3164", "\u2800", "\U000e0041", "\U0001f468\u200d\U0001f469",
    "\ufe0f",
    "\u0301" * 6, "\u4e16", "\uff0f", "\u2044", "\ufb01", "\u0130", "\u1e9e", "\ud800", "\udcff", "\n", "    | ",
    "\U0001d173",
]  # fmt: skip
ODD_WORDS = [one.encode("utf-8", "surrogatepass") for one in ODD]

# ---- invites

TERMS = Invitation("11" * 32, "0a0b0c0d", 1, 1_800_000_000, b"5" * 16)
MANY = Invitation("11" * 32, "ffffffff", 64, 2**40 - 1, bytes(16))
SOME_INVITE = encode_invite(Network("22" * 16, "33" * 32), TERMS, ["Host.example:8080", "[2001:db8::1]:99"])
LOCAL_INVITE = encode_invite(Network("22" * 16, "44" * 32), MANY, ["127.0.0.1:1"])
ENDPOINT = re.compile(r"(\[[0-9a-f:.]+(%[a-z0-9_.-]+)?\]|[a-z0-9_.-]+):[1-9][0-9]{0,4}")


def read_invite(data: bytes) -> None:
    text = any_text(data)
    try:
        invite = parse_invite(text)
    except InviteError as error:
        for_people(str(error))
        endpoint_too(text)
        return
    hold(0 < len(invite.endpoints) <= MAX_ENDPOINTS, "an invite without an address, or with too many")
    for endpoint in invite.endpoints:
        hold(ENDPOINT.fullmatch(endpoint) and len(endpoint) <= 100, "an endpoint that is none")
        hold(normal_endpoint(endpoint) == endpoint, "an endpoint that is not in normal form")
    hold(len(invite.peer_id) == 64 and len(invite.network.id) == 32, "ids of another length")
    hold(1 <= invite.invitation.uses <= 64 and len(invite.invitation.secret) == 16, "terms that no invite has")
    again = encode_invite(invite.network, invite.invitation, invite.endpoints)
    hold(parse_invite(again) == invite, "an invite that is another one when written and read")
    hold(
        "".join(text.split()).lower().partition("@")[0] == again.lower().partition("@")[0], "an invite read as another"
    )


def endpoint_too(text: str) -> None:
    try:
        endpoint = normal_endpoint(text)
    except ValueError as error:
        for_people(str(error))
        return
    hold(ENDPOINT.fullmatch(endpoint) and len(endpoint) <= 100, "an endpoint that is none")
    hold(normal_endpoint(endpoint) == endpoint, "an endpoint that is not in normal form")


def for_people(sentence: str) -> None:
    hold(sentence and not any(map(acts, sentence)), "a sentence that acts on a terminal")
    hold(len(sentence) < 8000, "a sentence without an end")


def invite_seeds() -> list[bytes]:
    more = [SOME_INVITE.upper(), SOME_INVITE[:40] + "\n  " + SOME_INVITE[40:], SOME_INVITE.partition("@")[0] + "@"]
    ends = ["localhost:8080", "[::1]:1", "[fe80::1%eth0]:22", "a.b-c.d:65535", "x:0", ":8080", "h:99999", "[]:1"]
    return [one.encode() for one in (SOME_INVITE, LOCAL_INVITE, *more, *ends, "p2pchat:")]


# ---- names


def name(data: bytes) -> None:
    """Check two names, one per line."""
    one, _, other = any_text(data).partition("\n")
    for text in (one, other):
        a_name(text)
    hold(look_alike(one, other) == look_alike(other, one), "alike one way only")
    hold(one != other or look_alike(one, other), "a name that does not look like itself")


def a_name(text: str) -> None:
    skeleton(text)
    label, suffix = split_label(text)
    hold(label == text.partition("#")[0] and suffix == suffix.upper(), "a label that was cut elsewhere")
    for port in (0, 8080):
        usual = default_name(text, port)
        hold(is_valid_name(usual), f"the name made of a login is none: {usual!a}")
    try:
        name = validate_name(text)
    except ValueError as error:
        for_people(str(error))
        return
    hold(is_valid_name(name) and validate_name(name) == name, "a name that is none the second time")
    hold(not any(map(acts, name)) and not set(name) & set(RESERVED), "a name that acts, or means something else")
    hold(name == name.strip() and 0 < len(name) <= 32 and all(map(is_visible, name)), "a name that cannot be seen")
    hold(get_cwidth(name[0]) > 0, f"a name that begins with nothing: {name!a}")
    typed = parse_line(f"/whois {typed_name(name)}") if '"' not in name else None
    hold(typed is None or typed == CommandInput("whois", (name,)), f"a name that cannot be typed: {name!a}")


def name_seeds() -> list[bytes]:
    texts = ["ada\nаda", "Anna Maria\nanna maria", "room\nrооm", "é\ne\u0301", "x" * 33, "a#B\n@b", " a\na ", "rn\nm"]
    return [text.encode() for text in texts] + [word + b"\n" + word for word in ODD_WORDS]


# ---- typed lines and command objects


def typed(data: bytes) -> None:
    line = any_text(data)
    try:
        meant = parse_line(line)
    except UsageError as error:
        for_people(str(error))
        return
    if isinstance(meant, TextInput):
        hold(not line.startswith("/") or line.startswith("//"), "a command was taken for text")
        hold(meant.text == (line[1:] if line.startswith("//") else line), "another text than was typed")
        hold(meant.text.strip(), "nothing was taken for text")
    elif isinstance(meant, CommandInput):
        command = BY_NAME[meant.name]
        hold(line.startswith("/") and meant.name in (command.word, *command.aliases), "text was taken for a command")
        enough = command.many or len(meant.arguments) <= command.most
        hold(command.least <= len(meant.arguments) and enough, "too few arguments, or too many")
        hold(all(argument for argument in meant.arguments), "an argument of nothing")
        hold(all(argument in line for argument in meant.arguments) or '"' in line, "an argument nobody typed")
    else:
        hold(not line.strip(), "a line that means nothing")
    try:
        found, rest = split_name(line)
    except UsageError as error:
        for_people(str(error))
        found, rest = "", line
    hold(line.endswith(rest) and len(found) + len(rest) <= len(line), "a name that nobody typed")
    try:
        hold(help_lines(line), "no help")
    except UsageError as error:
        for_people(str(error))


def typed_seeds() -> list[bytes]:
    lines = [command.example for command in set(BY_NAME.values())]
    lines += [
        '/msg "Anna Maria"#K7QF2M3P hi',
        "//shrug",
        "/ msg a",
        "hello",
        "  ",
        "/msg",
        "/gropu",
        "／msg bob hi",
        '/go "',
    ]
    return [line.encode() for line in sorted(lines)] + [b"/" + word + b"msg bob " + word for word in ODD_WORDS]


def orders(data: bytes) -> None:
    """Parse a command object from a pipe or the control socket."""
    line = any_text(data)
    try:
        order = parse_json_command(line, ORDERS)
    except BadCommand as error:
        for_people(str(error))
        hold(error.ref is None or isinstance(error.ref, str), "a ref that is no text")
    else:
        shape = ORDERS[order.do].json
        kinds = {key: (one.type, int) if one.type is float else (one.type,) for key, one in shape.items()}
        hold(all(type(value) in kinds[key] for key, value in order.fields.items()), "a field of another type")
        hold(all(key in order.fields for key, one in shape.items() if one.required), "a field is missing")
        hold("text" not in repr(order) or order.do == "text", "a repr that shows what somebody wrote")


def order_seeds() -> list[bytes]:
    lines = [
        {"do": "send", "to": "bob", "text": "two\nlines", "ref": "7", "action": True, "reply_to": "ID"},
        {"do": "history", "to": "bob", "limit": 20}, {"do": "search", "words": "x"}, {"do": "receipts", "id": "ID"},
        {"do": "who"}, {"do": "nick", "name": "Ada"}, {"do": "connect", "endpoint": "localhost:8080"},
        {"do": "find", "to": "bob"}, {"do": "wait", "timeout": 5}, {"do": "tail", "to": "bob", "last": 10},
        {"do": "export", "path": "/tmp/x", "to": "bob"}, {"do": "import", "path": "x"}, {"do": []}, {"ref": 1},
    ]  # fmt: skip
    made = [json.dumps(line).encode() for line in lines]
    return [
        *made,
        json.dumps(lines[0]).encode("utf-16-le"),
        b"[" * 3000,
        b'{"limit":' + b"1" * 5000 + b"}",
        b"\xff{",
        b"",
    ]


ORDER_WORDS = [
    *(f'"{word}":'.encode() for word in ("do", "to", "text", "ref", "limit", "path", "timeout", "last", "id")),
    *(f'"{do}"'.encode() for do in ORDERS),
    b"true", b"null", b"1e999", b"NaN", b"-1", b"9" * 400, b"\\ud800", b"\\u0000", b"\\u202e", b"{", b"}", b"[" * 1000,
]  # fmt: skip


def control_lines(data: bytes) -> None:
    """Split a stream into lines like the control socket; the first two bytes choose the limit and the cuts."""
    supply = Supply(data)
    head = supply.take(4) + bytes(4)
    limit, cuts, stream = 1 + head[0] % 40, head[1:4], supply.rest()
    whole, pieces = LineBuffer(limit), LineBuffer(limit)
    expected = [*whole.feed(stream), *whole.end()]
    got: list[bytes | None] = []
    at = turn = 0
    while at < len(stream):
        size = 1 + cuts[turn % 3] % 9
        got += pieces.feed(stream[at : at + size])
        hold(len(pieces._rest) <= limit, "more is kept than a line may have")
        at, turn = at + size, turn + 1
    got += pieces.end()
    hold(got == expected, f"lines that depend on how they were cut: {got} for {expected}")
    lines = stream.split(b"\n")
    lines = lines if lines[-1] else lines[:-1]
    hold(got == [None if len(line) > limit else line.removesuffix(b"\r") for line in lines], "other lines than came")


def line_seeds() -> list[bytes]:
    return [b"\x09\1\2\3ab\r\ncd\n" * 3]


# ---- output

# From the tables of Unicode, not from the list in safe_text.py. Visible format characters (Cf) are kept: Arabic number
# signs and the joiners of hieroglyphs.
DRAWN = {
    *range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD, *range(0x13430, 0x13456),
}  # fmt: skip


JOINABLE = ("Lo", "Lm", "Mn", "Mc", "So", "Sm", "Sk", "Cn")  # no script of capital and small letters has joiners


LONG_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://[!-~]+\Z")
MANY_MARKS = re.compile("[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u20d0-\u20ff\ufe20-\ufe2f]{5,}")


def acts(character: str) -> bool:
    """Return True if a terminal may react to this character instead of drawing it; joiners apart."""
    drawn = ord(character) in DRAWN or character in "\u200c\u200d"
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and not drawn


def lost_joiner(text: str) -> bool:
    """Return True if a joiner is at a place where it draws nothing: not after a mark, emoji or letter that may join."""
    return any(
        joiner in "\u200c\u200d" and (before in "\u200c\u200d" or unicodedata.category(before) not in JOINABLE)
        for before, joiner in pairwise(" " + text)
    )


def shown(data: bytes) -> None:
    """Make a text safe and fold it; the first bytes choose the width and the places where styles change."""
    supply = Supply(data)
    head = supply.take(3) + bytes(3)
    width, text = 1 + head[0] % 100, any_text(supply.rest())
    safe = safe_text(text)
    for line in safe.split("\n"):
        hold(not any(map(acts, line)), f"something that acts: {[hex(ord(c)) for c in line if acts(c)]}")
    hold(not lost_joiner(safe), "a joiner that joins nothing")
    hold(all(line.startswith(CONTINUED) for line in safe.split("\n")[1:]), "a further line without its mark")
    hold(not MANY_MARKS.search(safe), "marks heaped on one letter")
    hold(safe.count("\n") == text.count("\n"), "another number of lines")
    hold(not any(map(acts, safe_line(text))), "a line that acts")
    document = json.dumps({"text": text}, ensure_ascii=False)
    hold(not any(map(acts, safe_json(document))), "JSON that acts")
    hold(json.loads(safe_json(document)) == json.loads(document), "JSON that means something else")
    folded(safe, width, head[1] % 9, head[2])


def folded(text: str, width: int, cut: int, way: int) -> None:
    hang = "" if way & 1 else "  "
    fragments = [("time", "12:00 "), ("name", text[:cut]), ("", text[cut:])]
    rows = [plain_text(row) for row in fold_row(fragments, width, hang=hang, style="mark")]
    mark = hang or (CONTINUED if width >= NARROW else CONTINUED_NARROW)
    room = max(width, len(mark) + 2)
    marks = (mark.rstrip(), CONTINUED.rstrip())  # the prefixes of a folded row and of a further line of the text
    hold(all(row.startswith(marks) for row in rows[1:]) or (hang and "\n" in text), "a further row without its mark")
    hold(all("\n" not in row for row in rows), "a row with two lines in it")
    wide = [row for row in rows if get_cwidth(row) > room]
    hold(all(LONG_ADDRESS.search(row) for row in wide), f"a row wider than {room}: {rows!a}")
    left_out = str.maketrans("", "", " |\n")
    kept = "".join(rows).translate(left_out)
    hold(kept == ("12:00 " + text).translate(left_out), f"folding lost or made text: {rows!a}")


def shown_seeds() -> list[bytes]:
    texts = [
        "hello world " * 12,
        "a\n12:00 bob: I owe you\n",
        "世界" * 40,
        "x" * 120,
        "a " * 60,
        "\U0001f600\ufe0f" * 30,
        "see https://example.org/" + "x" * 120 + " and that",
    ]
    return [bytes((width, 3, 0)) + text.encode() for text in texts for width in (0, 9, 40)] + [
        b"\x14\x02\x01ab" + word * 3 for word in ODD_WORDS
    ]


@cache
def targets() -> tuple[Target, ...]:
    invite_words = [
        b"p2pchat:",
        b"@",
        b",",
        b"[::1]:1",
        b":",
        b" ",
        b"\xc2\xa0",
        b"=",
        "ｐ".encode(),
        "\u0130".encode(),
    ]
    slashed = [f"/{name} ".encode() for name in BY_NAME] + [
        b"//",
        b'"',
        b"#",
        b"@",
        b" ",
        *ODD_WORDS,
    ]
    return (
        Target("invites", "invites and endpoints", read_invite, invite_seeds, invite_words, 1024, 300),
        Target("names", "names, labels and likeness", name, name_seeds, ODD_WORDS, 256, 300),
        Target("typed", "typed lines", typed, typed_seeds, slashed, 512, 200),
        Target("orders", "command objects", orders, order_seeds, ORDER_WORDS, 6000, 300),
        Target("lines", "lines of the control socket", control_lines, line_seeds, [b"\r", b"\n", b"\r\n"], 512, 300),
        Target("shown", "text made safe, and folded", shown, shown_seeds, [*ODD_WORDS, b" ", b"    | "], 600, 300),
    )  # fmt: skip
