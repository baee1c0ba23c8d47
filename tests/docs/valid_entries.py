"""Which entries can be read: the tables of docs/protocol-entries.md and docs/protocol-groups.md, with examples.

`python -m docs.tables` writes the tables into the pages. The examples are the test vectors entries.json and facts.json.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

REF = f'["{"ab" * 24}",1]'  # somebody's entry, which nobody holds
MARK = f'["{"cd" * 8}",1,"{"ef" * 32}"]'
OWN = "8139770ea87d175f56a35466c34c7ecc"  # the first 16 bytes of the id of bob, who writes the examples (tests/vectors)
OWN_REF = f'["{OWN}{"ab" * 8}",1]'
FILE = f'{{"name":"a.txt","size":3,"type":"text/plain","root":"{"ab" * 32}"}}'
CHOICES = '["yes","no"]'
NO_EFFECT = "taken, no effect"
UNSUPPORTED = "taken, unsupported"
NOT_SHOWN = "taken, not shown"


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        name: Unique in its table; that of its examples, with a number behind it.
        verdict: `taken`; with that it has no effect, or cannot be read; or the code with which the link ends.
        c, last_c: The clock of each example, and of the entry before it; 0: it is the first of its log.
    """

    name: str
    rule: str
    verdict: str
    examples: tuple[str, ...]
    c: int = 2
    last_c: int = 0


def entry(**changed: str) -> str:
    """Return the text of a valid text entry with these keys set to JSON, or without them when that is ""."""
    keys = {"k": '"text"', "at": "1", "b": '"x"'} | changed
    return "{" + ",".join(f'"{key}":{value}' for key, value in keys.items() if value) + "}"


def entries(key: str, *values: str, **others: str) -> tuple[str, ...]:
    """Return one entry for each value of a key."""
    return tuple(entry(**others, **{key: value}) for value in values)


def nested(levels: int) -> str:
    """Return arrays inside an entry that is `levels` deep."""
    return "[" * (levels - 1) + "]" * (levels - 1)


def of_bytes(size: int) -> str:
    """Return an entry of so many bytes."""
    empty = entry(later='""')
    return entry(later=f'"{"x" * (size - len(empty))}"')


# What each kind holds and is about, as its record says: test_records.py compares them. Vectors are not made from the
# package that is tested with them. A number has the greatest of its kind behind it.
BODIES = {
    "text": "text", "action": "text", "poll": "text", "edit": "text own", "delete": "null own", "reaction": "text any",
    "pin": "number any 1", "vote": "number any 8", "close": "null own",
}  # fmt: skip
WITH_TEXT = [kind for kind, body in BODIES.items() if body.startswith("text")]
ABOUT = [kind for kind, body in BODIES.items() if " " in body]
OWN_ONES = [kind for kind, body in BODIES.items() if body.endswith("own")]
EMPTY = [kind for kind, body in BODIES.items() if body.startswith("null")]
NUMBERS = {kind: int(body.split()[-1]) for kind, body in BODIES.items() if body.startswith("number")}


def listed(kinds: Iterable[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds)


def about(kind: str, **changed: str) -> str:
    """Return an entry of a kind with a body that has an effect."""
    body = {"text": '"x"', "number": "1", "null": ""}[BODIES[kind].split()[0]]
    return entry(**{"k": f'"{kind}"', "b": body} | changed)


JSON = [
    Row("blanks",
        "one object, with blanks (space, tab, CR, LF) around and inside, its keys in any order", "taken",
        (entry(), ' \t\r\n{ "b" : "x",\n"at":1, "k":"text" }\n')),
    Row("no object",
        "another value; nothing; anything after the object; a byte order mark, a comment, a trailing comma",
        UNSUPPORTED,
        ("[]", "7", "null", "", "  ", entry() + "x", entry() + entry(), "\ufeff" + entry(), entry()[:-1] + ",}",
         entry()[:-1] + "/* */}", "\u00a0" + entry(), "{'k':'text','at':1,'b':'x'}", "hello")),
    Row("control character",
        "tab, LF or CR in a string; an escape that JSON does not have", UNSUPPORTED,
        entries("b", '"a\nb"', '"a\tb"', r'"\x41"')),
    Row("other control character",
        "a character below U+0020 other than tab, CR and LF, anywhere", "malformed",
        (*entries("b", '"a\0b"', '"a\x1fb"'), "\0", "no entry\x08")),
    Row("any character",
        "any character from U+0020 on, as two escapes, unassigned and U+FFFE too", "taken",
        entries("b", r'"\ud83d\ude00"', '"\U0001f600"', '"\ufffe\u2028\x7f"', r'"\uFFFF"')),
    Row("16 levels",
        "16 levels of objects and arrays, the entry counted; brackets in strings do not count", "taken",
        (*entries("later", nested(16)), *entries("b", f'"{"[{" * 40}"', r'"\"[[[[[[[[[[[[[[[[[[[[[\\"'))),
    Row("17 levels",
        "17 levels", UNSUPPORTED,
        (*entries("later", nested(17), nested(300)), entry(k='"later"', b=nested(17)))),
    Row("unknown key",
        "unknown keys, the empty one and other spellings of known ones (`K`) too", "taken",
        (entry(later='{"a":[1,null,true]}'), entry(K="7"), entry()[:-1] + ',"":1}', entry(**{"\\u0000": "1"}),
         *entries("c", "7", '"x"', "null", "-1", "[]"), entry(before="7"))),
    Row("65,536 bytes",
        "65,536 bytes of UTF-8", "taken", (of_bytes(65536),)),
    Row("65,537 bytes",
        "65,537 bytes", "limit", (of_bytes(65537), entry(k='"later"', b=f'"{"ü" * 32768}"'))),
]  # fmt: skip

KEYS = [
    Row("k",
        "`k`: any string, `\"\"` too", "taken", entries("k", '"text"', '""', '"later"', r'"a\u0000"')),
    Row("k or at missing",
        "`k` or `at`: absent, `null`, of another type, or below 0", UNSUPPORTED,
        (*entries("k", "", "null", "7"), *entries("at", "", "null", '"1"', "true"))),
    Row("at",
        "`at`: an integer from 0", "taken", entries("at", "0", "-0", "1", str(2**53 - 1))),
    Row("at of another form",
        "`k` or `at`: absent, `null`, of another type, or below 0", UNSUPPORTED, entries("at", "-1")),
    Row("clock",
        "a clock above that of the entry before, however far ahead", "taken",
        (entry(), entry(k='"later"')), 2**53 - 1, 7),
    Row("clock that stays",
        "a clock that is not above that of the entry before", "head", (entry(), "no entry"), 7, 7),
    Row("null as absent",
        "`re`, `t`, `b`: `null` is read as absent", "taken",
        (*(entry(**{key: "null"}) for key in ("re", "t")), entry(k='"delete"', b="null", re=OWN_REF))),
    Row("null in after",
        "`after`: `null`, or three or more", UNSUPPORTED, (entry(after="null"),)),
    Row("re",
        "`re`: a reference, of an entry that nobody holds too", "taken",
        entries("re", REF, f'["{"0" * 48}",{2**53 - 1}]')),
    Row("re or after of another form",
        "`re`, or an item of `after`: not exactly a hex16 in lower case and an integer from 1", UNSUPPORTED,
        (*entries("re", "[]", "{}", '"x"', "7", REF.replace("1", "0"), REF[:-1] + ",1]",
                  REF.replace("ab", "AB"), REF.replace("ab", "a", 1)),
         *entries("after", f"[{REF[:-2]}0]]", "[[]]", "{}"))),
    Row("after",
        "`after`: none, one or two references, equal ones too", "taken",
        entries("after", "[]", f"[{REF}]", f"[{REF},{REF}]")),
    Row("three after",
        "`after`: `null`, or three or more", UNSUPPORTED, entries("after", f"[{REF},{REF},{REF}]")),
    Row("t",
        "`t`: an integer from 0", "taken", entries("t", "0", "-0", str(2**53 - 1))),
    Row("t of another form",
        "`t`: any other value", UNSUPPORTED, entries("t", '"yesterday"', "-1", "false")),
    Row("of any form",
        "`files`, `auto`, `choices`, `hops`: any value, in an entry of any kind", "taken",
        (*entries("files", f"[{FILE}]", "[]", "null", "7", f'[{FILE},"x"]', f"[{','.join([FILE] * 11)}]"),
         *entries("auto", "true", "false", "null", "1", '"true"', "{}"),
         *entries("choices", CHOICES, '["yes"]', "[]", "null", "7", '["yes","yes"]', '["yes",7]', r'["yes","\u0000"]',
                  '["yes","certainly"]'),
         *entries("hops", "1", "255", "256", "-1", "1.0", "true", "null", '"1"'),
         entry(k='"later"', files=f"[{FILE}]", auto="true", choices=CHOICES, hops="1"))),
]  # fmt: skip

KINDS = [
    Row("text in b",
        f"{listed(WITH_TEXT)}: `b` is a string, `\"\"` too", "taken",
        tuple(about(kind, b=body, re=OWN_REF) for kind in WITH_TEXT for body in ('"x"', '""'))),
    Row("no text in b",
        f"{listed(WITH_TEXT)}: `b` is absent, `null` or no string", UNSUPPORTED,
        tuple(about(kind, b=body) for kind in WITH_TEXT for body in ("", "null", "7", '{"a":"x"}'))),
    Row("U+0000 in b",
        "any kind: a string with U+0000 in `b`", UNSUPPORTED,
        tuple(entry(k=f'"{kind}"', b=r'"a\u0000b"') for kind in (*WITH_TEXT, "later"))),
    Row("without re",
        "all kinds that are about a message, without `re`", NO_EFFECT,
        tuple(about(kind) for kind in ABOUT)),
    Row("of another user",
        f"{listed(OWN_ONES)} of an entry of another user", NO_EFFECT,
        tuple(about(kind, re=REF) for kind in OWN_ONES)),
    Row("with b",
        f"{listed(EMPTY)} with a `b` other than `null`", NO_EFFECT,
        tuple(about(kind, b=body, re=OWN_REF) for kind in EMPTY for body in ('"x"', '""', "7"))),
    Row("without b",
        f"{listed(EMPTY)} of an own entry without `b`", "taken",
        tuple(about(kind, re=OWN_REF) for kind in EMPTY)),
    Row("number",
        f"{listed(NUMBERS)}: `b` is an integer in the [range](protocol.md#entries) of the kind", "taken",
        tuple(about(kind, b=str(body), re=REF) for kind, most in NUMBERS.items() for body in sorted({0, 1, most}))),
    Row("no number",
        f"{listed(NUMBERS)} with any other `b`", NO_EFFECT,
        tuple(about(kind, b=body, re=REF) for kind, most in NUMBERS.items()
              for body in ("", "null", "-1", str(most + 1), '"1"', "true", "[1]"))),
    Row("long reaction",
        "`reaction` of more than 80 code points", NO_EFFECT, (entry(k='"reaction"', re=REF, b=f'"{81 * "x"}"'),)),
    Row("profile without a name",
        "`profile` without an object in `b`, or with a `name` that is no [name](protocol.md#users-peers-networks)",
        NO_EFFECT,
        tuple(entry(k='"profile"', b=body) for body in ("", "7", '"robert"', "{}", '{"name":7}', '{"name":"a@b"}',
                                                        '{"name":" robert"}', r'{"name":"rob\u0000ert"}'))),
    Row("profile with an odd about",
        "`profile` with an `about` that is no string or holds U+0000: its name counts", "taken",
        tuple(entry(k='"profile"', b=f'{{"name":"robert","about":{about}}}') for about in ("7", "null", r'"a\u0000"'))),
    Row("profile with more",
        "`profile` with `re`, `after` or unknown keys in `b`", "taken",
        (entry(k='"profile"', b='{"name":"robert","later":[1]}', re=REF, after=f"[{REF}]"),)),
    Row("group or leave",
        "`group`: any `b`, in any conversation", "taken",
        tuple(entry(k='"group"', b=body) for body in ("", "7", '{"k":0}'))),
    Row("own state",
        "`own`: of the keys in `b`, those with a string count", "taken",
        tuple(entry(k='"own"', b=body) for body in ('{"receipts":"off"}', '{"x":"","y":7}'))),
    Row("no own state",
        "`own` without an object in `b`, or with no key that has a string", NO_EFFECT,
        tuple(entry(k='"own"', b=body) for body in ("", "7", "{}", '{"x":7}', '{"":"x"}', f'{{"{"x" * 129}":"1"}}'))),
    Row("other kind",
        "a kind that is not known: `b` is a string, `\"\"` too", "taken",
        tuple(entry(k='"later"', b=body, re=REF) for body in ('"Lunch? pizza or soup"', '""'))),
    Row("other kind without a text",
        "a kind that is not known: `b` is no string", NOT_SHOWN,
        tuple(entry(k='"later"', b=body, re=re) for re in ("", REF) for body in ("", "null", "7", "[]", '{"to":0}'))),
    Row("first without profile",
        "entry 1 of a log of the room that is no `profile`", "taken", (entry(), entry(k='"later"'))),
]  # fmt: skip

BOB = OWN + "cb8d8a91b4ee37a25df60f5b8fc9b394"
ADA = "8a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
ENDS = f'"{"ab" * 16}"'


def fact(k: str = '"add"', **changed: str) -> str:
    """Return the text of a fact with these parts of its body set to JSON, or left out for ""."""
    body = {"k": k, "who": f'{{"{ADA}":[]}}'} | changed
    shown = ",".join(f'"{key}":{value}' for key, value in body.items() if value)
    return entry(k='"group"', b=f"{{{shown}}}")


def facts(key: str, *values: str, **others: str) -> tuple[str, ...]:
    return tuple(fact(**others, **{key: value}) for value in values)


def users(count: int) -> str:
    return "{" + ",".join(f'"{number:064x}":[]' for number in range(count)) + "}"


ODD = "`who`, `name`, `n`, `cuts`, `said`, `salt` of another form"

FACTS = [
    Row("needless",
        "needless fields, unknown keys in `b`", "taken",
        (fact(name='"#x"', n="7", later="[1]"), fact(k='"leave"', who="", said=f"[{MARK}]"))),
    Row("who",
        "`who`: none to 256 hex32, each with none to 256 hex16", "taken",
        facts("who", "", "{}", users(256), f'{{"{ADA}":[{ENDS},{ENDS}]}}', f'{{"{ADA}":[{",".join([ENDS] * 256)}]}}')),
    Row("n",
        "`n`: absent is 0", "taken", facts("n", "", "0", k='"name"', name='"dev"')),
    Row("marks",
        "no `cuts`, `said`", "taken",
        (*facts("cuts", "", "[]", f"[{MARK},{MARK}]", k='"remove"'), *facts("said", f"[{MARK}]", k='"unadmin"'))),
    Row("k of another form",
        "`k`: absent or unknown", NO_EFFECT, (fact(k=""), fact(k="7"), fact(k='"vote"'), fact(k="null"))),
    Row("who of another form",
        ODD, NO_EFFECT,
        facts("who", "null", "[]", users(257), f'{{"{ADA}":null}}', f'{{"{ADA}":["ab"]}}', f'{{"{ADA.upper()}":[]}}',
              f'{{"{ADA}":[{",".join([ENDS] * 257)}]}}')),
    Row("n of another form", ODD, NO_EFFECT, facts("n", "-1", "1.0", '"1"', "null")),
    Row("marks of another form",
        ODD, NO_EFFECT,
        (*facts("cuts", "null", "{}", "[[]]", f"[{MARK.replace(',1,', ',0,')}]", k='"remove"'),
         *facts("said", "7", f"[{MARK[:-1]},1]]"))),
    Row("salt of another form", ODD, NO_EFFECT, facts("salt", "7", '"ab"', "null")),
    Row("no name",
        "`name` in `create` and `name`: no [name](protocol.md#users-peers-networks)", NO_EFFECT,
        (*facts("name", "", '""', '"#ops"', f'"{"x" * 33}"', r'"e\u0301"', k='"name"'), fact(name="7"))),
    Row("no salt",
        "`salt`: absent in `create`, present elsewhere", NO_EFFECT,
        (fact(k='"create"', name='"ops"'), fact(salt=f'"{"ab" * 16}"'))),
    Row("not about one",
        "`who` in `remove`, `unadmin`, `heir`: not exactly one; in `leave`: any", NO_EFFECT,
        (*(fact(k=f'"{kind}"', who=who) for kind in ("remove", "unadmin", "heir") for who in ("", users(2))),
         fact(k='"leave"'))),
    Row("another create",
        "`create` that does not hash to G", NO_EFFECT,
        (fact(k='"create"', name='"ops"', salt=f'"{"ab" * 16}"'),)),
]  # fmt: skip

TABLES = {"json": JSON, "keys": KEYS, "kinds": KINDS, "facts": FACTS}
