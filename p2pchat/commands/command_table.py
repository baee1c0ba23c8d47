"""The table of commands: one row each.

Derived from the rows: the parsers of typed lines and of JSON commands, which commands a chat, the control socket and a
gateway take, whose limits a command counts for at a gateway, Tab, /help, the table of typed lines in docs/cli.md, and
the description of `POST /v1/do`. The handler of a command is the function of its name in *_commands.py,
and its parameters are the fields of the row.

A row has data only. A command that needs more than that gets it in its handler. tests/test_features.py walks the rows.

TOOLS are what an agent is offered in place of commands (`p2pchat mcp`): a model reads all of it at each start, so they
are few, and have names, fields and texts of their own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from p2pchat.commands.chat_settings import INHERIT, SETTINGS
from p2pchat.kinds import CALLS, HEADS
from p2pchat.kinds.call import NUMBERS, OR_TEXT, SAYS_YES, Call
from p2pchat.kinds.message_fields import fields_at

ALL = "-a"  # before all else behind /list, /search and /who: not only what is most likely meant
# The JSON types of fields, by kind. A `conversation`, a `group`, a `user`, `users` and a `message` are found before the
# handler is called, a `time` is read; a `place` is a conversation, and the room if it is left out.
FIELD_TYPES: Mapping[str, type] = {
    "text": str, "int": int, "float": float, "bool": bool, "list": list, "conversation": str, "place": str,
    "group": str, "user": str, "users": list, "message": str, "entry": str, "time": str,
}  # fmt: skip
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array"}
_COMPLETED = {"NAME": "user", "PEER": "user", "CONVERSATION": "conversation", "COMMAND": "command",
    "HOST:PORT": "endpoint"}  # fmt: skip
_NOT_COUNTED = re.compile(r"^\[(?:N|-a)\] (?=.)|^\[-a\]$")  # no argument by itself: it is a part of the text behind it


@dataclass(frozen=True)
class Field:
    """One field of a JSON command; its kind is one of FIELD_TYPES."""

    kind: str
    required: bool

    @property
    def type(self) -> type:
        return FIELD_TYPES[self.kind]


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of a field of this kind."""
    type = FIELD_TYPES[kind]
    return {"type": _JSON_TYPES[type]} | ({"items": {"type": "string"}} if type is list else {})


def object_schema(
    fields: Mapping[str, Field], schema_of: Callable[[str], dict[str, Any]] = schema_of
) -> dict[str, Any]:
    """Return the JSON schema of an object with these fields, and with no others."""
    return {
        "type": "object",
        "properties": {name: schema_of(field.kind) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.required],
        "additionalProperties": False,
    }


def switch_of(name: str) -> str:
    """Return the word at the end of a line that sets this field."""
    return f"--{name.replace('_', '-')}"


def fields_of(text: str) -> dict[str, Field]:
    """Return the fields that are written as NAME or NAME:KIND, with a `?` behind those that may be left out."""
    found = (word.rstrip("?").partition(":") for word in text.split())
    required = (not word.endswith("?") for word in text.split())
    return {name: Field(kind or "text", needed) for (name, _, kind), needed in zip(found, required, strict=True)}


@dataclass(frozen=True)
class CommandRow(Call):
    """One command.

    Attributes:
        kind: What it counts for at a gateway: "read"; "small", which is not stored; "message", "write" and "group" for
            entries; "choice" for what is stored about others. "operator": it is about the peer itself. Only "read" and
            "small" do not wait for files that are sent before them. Of a tool: the word of --may that allows it.
        doors: Where its JSON form is taken: c chat, s control socket, l `/lines`, d `POST /v1/do`, m `p2pchat mcp`.
        aliases: Its other words.
        typed_as: Its word when typed, if it is not its name.
        completes: What Tab completes, for each argument, where their words do not tell.
        here: The field that is the current conversation in a typed line.
        switches: Fields that are set by a word at the end of the line: `--NAME`.
        result: What a tool answers, written as `fields`; further kinds are those of TOOL_PARTS, and several of them.
    """

    kind: str = "read"
    doors: str = "csld"
    aliases: tuple[str, ...] = ()
    typed_as: str = ""
    completes: tuple[str, ...] = ()
    here: str = ""
    switches: tuple[str, ...] = ()
    result: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError if it names a field that it has not, IndexError if an argument has none.

        Without one `/mute bob` would mute the conversation that is open.
        """
        if not set(self.bound) | set(self.switches) | {self.here} <= self.json.keys() | {""}:
            raise ValueError(f"the row of {self.name!r} has other fields than it names")

    @cached_property
    def json(self) -> dict[str, Field]:
        """The fields by name."""
        return fields_of(self.fields)

    @property
    def word(self) -> str:
        return self.typed_as or self.name

    @property
    def usage(self) -> str:
        words = [f"/{self.word}", self._arguments, *(f"[{switch_of(name)}]" for name in self.switches)]
        return " ".join(filter(None, words))

    @property
    def _arguments(self) -> str:
        return re.sub(r"=\w*", "", self.typed or "")

    @cached_property
    def words(self) -> list[str]:
        """One word for each argument, in brackets if it may be left out."""
        return _NOT_COUNTED.sub("", self._arguments).split()

    @cached_property
    def bound(self) -> list[str]:
        """The field of each argument but those that say that they have none."""
        free = [name for name in self.json if name != self.here][bool(self.latest) :]
        given = [word.strip("[]").partition("=") for word in _NOT_COUNTED.sub("", self.typed or "").split()]
        return [name or free[at] for at, (_, says, name) in enumerate(given) if name or not says]

    @property
    def least(self) -> int:
        """The number of arguments that are needed."""
        return sum(not word.startswith("[") for word in self.words)

    @property
    def most(self) -> int:
        return len(self.words)

    @property
    def many(self) -> bool:
        """True if the last argument is repeated: each further word is a name."""
        return "..." in self.usage

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of words that Tab completes, one for each argument; "" for a text."""
        return self.completes or tuple(_COMPLETED.get(word.strip("[.]"), "") for word in self.words)

    @property
    def writes(self) -> bool:
        """True if it writes entries."""
        return self.kind in ("message", "write", "group")


_SETTINGS = [
    f"{one.name} {'|'.join(one.values)}{', also for one conversation' if one.by_conversation else ''}"
    for one in SETTINGS
]
_in_group = partial(CommandRow, kind="group", here="to")
_operator = partial(CommandRow, kind="operator", doors="cs")
_for_scripts = partial(CommandRow, kind="operator", doors="s")
_tool = partial(CommandRow, doors="m")

TABLE = (
    CommandRow("msg", "to:conversation text?", "NAME [TEXT]", kind="message", doors="",
        help="message one person (delivered later if they're away)", example="/msg bob see you at ten", aliases=("dm",),
        details=("with no text: switch there, as /go does", 'quote a name with blanks: /msg "Anna Maria" hi')),
    CommandRow("go", "to?", "[CONVERSATION]", doors="",
        help="switch to this conversation; with no name: the room", example="/go bob", aliases=("join", "query"),
        details=(
            "a conversation is `room`, a name, or a name with its id: bob#K7QF2M3P",
            "@bob is a user, #ops a group; bob is whichever of them exists",
        )),
    CommandRow("group", "name members:users?", "NAME [MEMBER...]", kind="group",
        help="create a group with these people, and go there", example="/group ops bob carol", completes=("", "user"),
        details=("members who are offline get everything later", "name people you never met by their full id")),
    _in_group("add", "to:group users:users", "NAME...",
        help="add people to the current group", example="/add dave", details=("they get its whole history",)),
    _in_group("kick", "to:group users:users", "NAME...",
        help="remove people from the current group", example="/kick mallory", completes=("member",),
        details=("what they write there later is shown to nobody; earlier messages stay",)),
    _in_group("leave", "to:group", "",
        help="leave the current group", example="/leave", aliases=("part",), asks=True,
        details=("its owner hands it over first: /owner NAME", SAYS_YES)),
    _in_group("rename", "to:group name", "NAME",
        help="rename the current group", example="/rename night-shift", completes=("",)),
    _in_group("owner", "to:group user:user", "NAME",
        help="make another member the owner of the current group", example="/owner bob", completes=("member",)),
    CommandRow("members", "to:conversation?", "[-a]", here="to",
        help="the members of the current group, elsewhere those of this network", example="/members",
        details=("/members -a lists everyone of this network, and who was expelled from it",)),
    CommandRow("list", "", "[-a]",
        help="your conversations, with unread counts", example="/list",
        details=(
            "if there are very many: those with unread messages, and the latest",
            "/list -a shows every one, by name",
        )),
    CommandRow("who", "", "[-a]",
        help="who is here and with whom you talk, and since when", example="/who", aliases=("names",),
        details=("/who -a shows everyone known: programs that ran once, closed accounts",)),
    CommandRow("whois", "user:user", "NAME", help="details about one person, with their id", example="/whois bob"),
    CommandRow("me", "text", "TEXT", kind="message", doors="",
        help="say what you do, as in: * ada waves", example="/me waves"),
    CommandRow("nick", "name", "NAME", kind="write", help="change your name", example="/nick Ada", completes=("",)),
    CommandRow("about", "text?", "[TEXT]", kind="write",
        help="say something about yourself; with no text: show it", example="/about on call this week",
        details=("others see it with /whois, also while you are offline; /about - removes it",)),
    CommandRow("reply", "reply_to:message text", "[N] TEXT", kind="message", doors="", latest="shown",
        help="reply to the message shown last, or to line N", example="/reply yes, at ten",
        details=("it goes where that message came, also if it was private", NUMBERS, OR_TEXT)),
    *(CommandRow(**vars(call), kind="write") for call in CALLS.values()),
    _operator("delete_history", "to:conversation sender:user? before:time?", "[CONVERSATION=to]",
        typed_as="delete-conversation", here="to",
        help="delete what is stored here of a conversation", example="/delete-conversation bob", asks=True,
        details=(
            "asks first; with no name: the current one. The others keep theirs",
            "your messages that nobody else has yet stay, and new ones come as before",
            "`p2pchat delete` can delete what one person wrote, or what is older",
            SAYS_YES,
        )),
    CommandRow("send",
        "to:place? text? files:list? choices:list? action:bool? reply_to? claimed_at:time? key? hops:int?",
        "FILE [TEXT]", kind="message", own_parser=True,
        help="send a file to the current conversation", example="/send plan.pdf the plan", completes=("file", ""),
        details=(
            "Tab completes the path; quote blanks, or drop the file onto the terminal",
            "several files: their full paths, one after the other",
            "a large one is copied first; /send stop ends that, and it is not sent",
        )),
    CommandRow("get", "id:message number:int? path? stop:bool?", "[FILE] [PATH]", doors="cs", own_parser=True,
        help="save a file; with nothing behind it: the newest one here", example="/get 3",
        completes=("shown file", "file"), asks=True,
        details=(
            "FILE is the number behind it, as in /files, or its name",
            "PATH is a directory or file; without: Downloads, or where p2pchat started",
            "/get stop ends it; what has come stays, and /get goes on there",
            "asks before it replaces a file",
            SAYS_YES,
        )),
    CommandRow("files", "to:conversation? limit:int? id:message?", "[N]", doors="cs", here="to",
        help="the last N files here (10), with their numbers", example="/files"),
    CommandRow("history", "to:conversation? limit:int? before:message? after:entry? ignored:bool? changes:bool?", "[N]",
        here="to",
        help="the last N messages here (20), with numbers", example="/history 50"),
    *(CommandRow(name, "to:conversation", "", here="to",
        help=f"the {kind.event} messages of the conversation", example=f"/{name}")
      for name, kind in HEADS.items()),
    CommandRow("search", "words to:conversation? limit:int? ignored:bool?", "[-a] WORDS", here="to",
        help="the newest messages here that contain all these words", example="/search backup failed",
        details=(
            "/search -a finds them in all conversations",
            '"backup failed" finds the exact phrase; fail also finds failed',
            "from:bob finds only messages of bob",
            "case and accents do not matter; at most 50 messages",
        )),
    CommandRow("receipts", "to:conversation? limit:int? before:message? id:message?", "[N]", here="to",
        help="who has your last N messages here (5), who lacks them, why", example="/receipts",
        details=("delivered means: on the disk of that user's peer",)),
    CommandRow("away", "text?", "[TEXT]", kind="small",
        help="tell others that you are away; with no text: that you are back", example="/away lunch, back at one"),
    CommandRow("back", "", "", kind="small", help="tell others that you are back", example="/back"),
    CommandRow("set", "name? value? to:conversation?", "[NAME [VALUE [CONVERSATION]]]", kind="choice",
        help="change a setting; with no name: show all settings", example="/set joins off",
        completes=("setting", "value", "conversation"),
        details=(
            *_SETTINGS,
            f"/set typing off bob: only with bob; {INHERIT} ends that",
            "settings are the same on all your machines",
        )),
    CommandRow("mute", "to:conversation", "[CONVERSATION=to]", kind="choice", here="to",
        help="ring for nothing there, on no machine of yours", example="/mute bob",
        details=("with no name: here. It is counted, and a mention of you rings neither", "/unmute ends it")),
    CommandRow("unmute", "to:conversation", "[CONVERSATION=to]", kind="choice", here="to",
        help="ring there as usual", example="/unmute bob"),
    CommandRow("muted", "", "", help="what is muted", example="/muted"),
    CommandRow("invite", "uses:int? days:float?", "[N]", kind="choice",
        help="make an invite to this network, and show the command to join it", example="/invite",
        details=("it admits one person, or N people, within seven days", "while this peer runs and may invite")),
    _operator("invites", "", "",
        help="the invites that this peer made, and who came by them", example="/invites"),
    _operator("revoke", "invite", "INVITE",
        help="admit nobody any more by an invite that this peer made", example="/revoke 1f4c09ab",
        details=("INVITE is its id, as /invites shows it", "who came by it stays: /expel")),
    _operator("expel", "user:user? invite? only:bool? hide:bool? with_admitted:bool? since:time? plan:bool?", "NAME",
        help="expel a person from this network, with all their profiles and programs", example="/expel mallory",
        switches=("only", "hide", "with_admitted"), asks=True,
        details=(
            "asks first: it names everybody else for whom the same member answers",
            "an account of a gateway is expelled alone; --only: anybody else, too",
            "what they wrote stays; --hide: it is shown to nobody any more",
            "whom an admin admitted stays; --with-admitted: they are expelled too",
            "for the founder and the admins of the network; /pardon takes it back",
            SAYS_YES,
        )),
    _operator("pardon", "user:user", "NAME",
        help="take back that this person was expelled", example="/pardon mallory",
        details=("an admin takes back its own decisions alone, the founder all",)),
    _in_group("admin", "to:conversation? user:user", "NAME",
        help="make a person an admin: of the open group, else of this network", example="/admin bob",
        details=("adds and removes members; for the group's owner, or the network's founder",)),
    _in_group("unadmin", "to:conversation? user:user", "NAME",
        help="make an admin a plain member again", example="/unadmin bob", asks=True,
        details=("in a group: of that", "elsewhere: who was an admin once can never be one again", SAYS_YES)),
    _operator("devices", "", "",
        help="your machines, and how to add one", example="/devices"),
    _operator("rename_device", "machine name", "MACHINE NAME", typed_as="rename-device",
        help="call a machine of yours otherwise", example="/rename-device KVXSQCHM attic",
        details=("by its name or id in /devices; you alone see it",)),
    _operator("revoke_device", "machine", "MACHINE", typed_as="revoke-device",
        help="shut out a machine of yours that was lost", example="/revoke-device KVXSQCHM", asks=True,
        details=("by its name or id in /devices; it keeps what it has", SAYS_YES)),
    _operator("connect", "endpoint", "HOST:PORT",
        help="connect to a peer; one is enough to join its network", example="/connect 192.168.1.20:8080"),
    _operator("forget", "peer", "PEER",
        help="stop connecting to a peer: a name, an id or HOST:PORT", example="/forget 192.168.1.20:8080",
        details=("a link that is up stays until it ends; messages stay too",)),
    CommandRow("ignore", "user:user?", "[NAME]", kind="choice",
        help="hide this person's messages; with no name: list who is ignored", example="/ignore mallory",
        details=("by id, so a new name does not help; --json and --log still have everything",)),
    CommandRow("unignore", "user:user", "NAME", kind="choice",
        help="show this person's messages again", example="/unignore mallory"),
    CommandRow("block", "user:user?", "[NAME]", kind="choice",
        help="take nothing of this person; with no name: list who is blocked", example="/block mallory",
        details=(
            "no link, no presence, no message is stored; what is stored is hidden",
            "nobody is told: messages to you stay undelivered",
        )),
    CommandRow("unblock", "user:user", "NAME", kind="choice",
        help="take everything of this person again, and what was missed", example="/unblock mallory"),
    _operator("allow", "user:user", "NAME",
        help="store everything this person writes, without a limit", example="/allow bob",
        details=("a warning says who reached the limit; messages that were refused arrive then",)),
    CommandRow("clear", "", "", doors="", help="clear the screen (terminal only)", example="/clear"),
    CommandRow("help", "command?", "[COMMAND]", doors="",
        help="list the commands, or explain one", example="/help msg"),
    CommandRow("quit", "", "[TEXT=]", doors="cs",
        help="leave the chat", example="/quit", aliases=("exit",),
        details=("the text is sent to nobody: others see that you left",)),
    CommandRow("read", "id:message", kind="small", rest="POST read",
        purpose="Mark everything in the conversation up to this message as read; writers receive read receipts."),
    CommandRow("typing", "to:place? on:bool?", kind="small"),
    CommandRow("find", "to:conversation", doors="sld"),
    CommandRow("latest", doors="ld"),
    CommandRow("unread", "to:conversation", doors="ld"),
    CommandRow("active", "on:bool", kind="small", doors="l"),
    _for_scripts("wait", "timeout:float? what?"),
    CommandRow("tail", "to:conversation? last:int? ignored:bool? consumer?", doors="s"),
    _for_scripts("taken"),
    CommandRow("inbox", "to:conversation? limit:int? changed:list?", doors="s"),
    CommandRow("shown", "to:conversation ids:list", kind="small", doors="s"),
    CommandRow("unread_text", doors="s"),
    CommandRow("stored_files", "before:time? keep:int?", doors="s"),
    _for_scripts("forget_files", "before:time? keep:int? force:bool?"),
    _for_scripts("forget_file", "what force:bool?"),
    _for_scripts("send_files", "to:conversation text paths:list"),
    _for_scripts("export", "path to:conversation? files:bool?"),
    _for_scripts("import", "path files:bool?"),
    _for_scripts("web_token", "name label?"),
    _for_scripts("web_users"),
    _for_scripts("web_revoke", "name label?"),
    _for_scripts("web_rename", "name new_name"),
    _for_scripts("web_delete", "name"),
    _for_scripts("web_purge", "idle:int"),
)  # fmt: skip
_GIVEN = (f"{name}:{row.type if row.type in FIELD_TYPES else 'list'}?" for name, row in fields_at("a").items())
TOOL_PARTS = {
    "post": " ".join(["id from in at text mine:bool?", *_GIVEN]),
    "member": "name here:bool about?",
}


def _tool_of(call: Call) -> CommandRow:
    """Return the tool of an act: it needs what the command may be without, a place, and has nothing else of that."""
    needed = (field for field in call.fields.replace("to:place?", "to:conversation").split() if field[-1] != "?")
    return _tool(call.name, " ".join(needed), kind="write", result="id next?", help=call.purpose)


_SENT = "id status of:int delivered:int read:int missing:list why:list again:bool? next?"
TOOLS = (
    _tool("who", result="me members:members more:int? groups:list next?",
        help="Who is a member here, people and agents, and whether each is online now; and your groups. Write to a "
        "member by its name, to a group as #name, to everybody here as room."),
    _tool("send", "to:conversation text? files:list? reply_to:message? wait:float? until? key?", kind="write",
        result=_SENT,
        help="Send a message. The answer says what became of it: accepted (on this disk), delivered (on the disks of "
        "all it is for), read. It goes by itself to those who are away: never send it again for that. `wait`: for how "
        "many seconds at most to wait until it is delivered (default 2), or with `until` read: until it is read. "
        "`files`: paths of attachments. The same text to the same place within 10 minutes, while nobody else wrote "
        "there, is not sent twice: `status` is repeated then. To send it once more give a `key`, any word."),
    _tool("ask", "to:conversation text reply_to:message? choices:list? wait:float? key?", kind="write",
        result=f"answered:bool answer:post? choice? by? at? seen? {_SENT}",
        help="Send a question and wait for the answer, at most `wait` seconds (default 40). In a direct conversation "
        "the answer is the next message of that member; elsewhere a reply to the question. With `choices`, 2 to 6 "
        "words of 8 characters at most, it is the first that a person presses, and nothing else is. No answer in time "
        "is no answer: the same call again goes on waiting and does not ask twice. Else as send."),
    _tool("inbox", "seen? to:conversation? wait:float? limit:int?",
        result="messages:posts more:bool seen? next?",
        help="Everything unread, direct messages and mentions of you first, of each the oldest first; with `to` of "
        "one conversation. What you read comes again, with `changed_id`, if it was edited or deleted, or its choice "
        "pressed. `wait`: so many seconds at most for a message; a further call ends it. Give back the `seen` of each "
        "answer that came: only that marks its messages as read, which their writers may see. All others are shown "
        "again."),
    _tool("history", "to:conversation? limit:int? before:message? after:entry?",
        result="messages:posts more:bool next?",
        help="The newest messages of a conversation or all, oldest first; `before` an id: those before; `after` one: "
        "what came or changed since. Marks nothing as read. `limit`: default 20, at most 100."),
    _tool("search", "words to:conversation? limit:int?", result="messages:posts more:bool next?",
        help='The newest messages that contain all these words; "two words" finds the phrase, from:NAME a writer. '
        "`limit`: default 20, at most 100."),
    *(_tool(name, "to:conversation", result="messages:posts more:bool next?",
        help=f"The {kind.event} messages of a conversation.") for name, kind in HEADS.items()),
    _tool("receipt", "id:message", result=_SENT,
        help="What became of a message that you sent: who has it, read it, lacks it and why."),
    *(_tool_of(call) for call in CALLS.values() if call.tool),
    _tool("get", "id:message number:int? path? wait:float?", kind="files",
        result="saved:bool path? next?",
        help="Save an attachment of a message, the first or the one of this `number`, in the operator's directory or "
        "at `path` below it; waits at most `wait` seconds (default 40) until it has come."),
    _tool("group", "name members:users?", kind="groups", result="to members:int next?",
        help="Create a group of these members and you. It is written to as #name."),
    _tool("add", "to:group users:users", kind="groups", result="to members:int next?",
        help="Add members to a group that you own; they get its whole history."),
)  # fmt: skip
BY_NAME = {row.name: row for row in TABLE}
TYPED = tuple(row for row in TABLE if row.typed is not None)


def commands_at(door: str) -> dict[str, CommandRow]:
    """Return the JSON commands that are taken at one of the doors of a row, by their `do`."""
    return {row.name: row for row in (*TABLE, *TOOLS) if door in row.doors}
