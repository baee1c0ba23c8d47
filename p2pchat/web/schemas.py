"""What REST takes and answers, as OpenAPI describes it: field by field, with examples."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from p2pchat import Conversation, Group, Message, Receipt, Sent, UnknownName, User, validate_name
from p2pchat.web.accounts import Account
from p2pchat.web.errors import Forbidden
from p2pchat.web.gateway import Gateway

_ID = "BVMRTKYYVIBVX456ELKXGTEOBNWGV3G7HDRQAPQ.2"
_CONVERSATION_ID = "BVMRTKYYVIBVXDV5L7KR6J7XCFRNDE2KA2TVKI7RO6TKXLCZNRMQ"
_USER_ID = "5CC3RP56PBODOGKOETVO5FETNDVQKRWLLQO7CH5U5KYGL4TV4UXQ"
_TIME = "2026-11-20T11:42:10.241117Z"
MESSAGE_ID = r"^[A-Za-z2-7]{39}\.[1-9][0-9]{0,14}$"
MOST_CHARACTERS = 32 * 1024  # of a text: each is a byte of UTF-8 or more, and 32 KiB is what a text may have
MOST_REACTION = 8

Content = Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS, description="At most 32 KiB of UTF-8.")]
Address = Annotated[
    str,
    Field(
        min_length=1,
        max_length=64,
        description="A name as shown (`bob`, `bob#K7QF2M3P`) or an id. A name that nobody has is reserved: what is "
        "written to it waits for whoever registers it.",
        examples=["bob"],
    ),
]
GroupName = Annotated[
    str,
    Field(min_length=1, max_length=64, description="Its name, or its name with its id: `ops#K7QF2M3P`."),
]
Status = Literal["online", "idle", "offline", "unknown"]


class ErrorOut(BaseModel):
    """Why something was not done: `code` is a stable word, `text` for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"status": "error", "code": "unknown_name", "text": "nobody here is called 'bob'"}]
        }
    )
    status: Literal["error"]
    code: str
    text: str


class MessageOut(BaseModel):
    """One message. In the room it has neither `to` nor `group`."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "examples": [{"from": "A", "to": "B", "content": "Hello, B!", "timestamp": _TIME, "id": _ID}]
        },
    )
    from_: str = Field(alias="from", description="Who wrote it, as shown.")
    to: str | None = Field(None, description="To whom alone.")
    group: str | None = Field(None, description="To which group.")
    content: str = Field(description='What it says now; "" once deleted.')
    timestamp: str = Field(description="When it was written, UTC, set once and never changed.")
    id: str = Field(description="The same on every peer, for ever.")
    reply_to: str | None = Field(None, description="The id of the message this answers.")
    action: bool | None = Field(None, description="It says what the writer does.")
    edited: bool | None = None
    deleted: bool | None = None
    reactions: dict[str, list[str]] | None = Field(None, description="Who reacted how.", examples=[{"👍": ["bob"]}])

    @classmethod
    def of(cls, post: Message | Sent) -> MessageOut:
        reactions = {what: [user.label for user in users] for what, users in post.reactions.items()}
        return cls(**message_json(post), reactions=reactions or None)


class _NewMessage(BaseModel):
    content: Content
    ref: str | int | None = Field(None, description="A word of yours, given back with the answer.")
    reply_to: str | None = Field(None, pattern=MESSAGE_ID, description="The message there that this answers.")


class ToUser(_NewMessage):
    """A message to be written to one user, or to `room`."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"to": "bob", "content": "lunch?"}]})
    to: Address


class ToGroup(_NewMessage):
    """A message to be written to a group."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"group": "ops", "content": "done"}]})
    group: GroupName


NewMessage = ToUser | ToGroup


class MessageAccepted(BaseModel):
    """It is kept: on this gateway's disk, safe from a crash."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok", "id": _ID, "timestamp": _TIME}]})
    status: Literal["ok"] = "ok"
    id: str
    timestamp: str
    ref: str | int | None = None


class Done(BaseModel):
    """It is done."""

    status: Literal["ok"] = "ok"


class NewContent(BaseModel):
    """What a message is to say from now on."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"content": "lunch at one?"}]})
    content: Content


class NewReaction(BaseModel):
    """A reaction, in place of one's former one; "" takes it back."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reaction": "👍"}]})
    reaction: str = Field(max_length=MOST_REACTION)


class ReceiptStatus(BaseModel):
    """What became of a message of one's own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": _ID, "status": "read", "delivered_to": ["bob"], "read_by": ["bob"], "missing": []}]
        }
    )
    id: str
    status: Literal["accepted", "delivered", "read"] = Field(description="What is true of all it is for.")
    delivered_to: list[str] = Field(description="Whose peers have it on disk.")
    read_by: list[str]
    missing: list[str] = Field(description="Who is not known to have it yet.")

    @classmethod
    def of(cls, receipt: Receipt) -> ReceiptStatus:
        return cls(
            id=receipt.id,
            status=receipt.status,  # type: ignore[arg-type]
            delivered_to=labels(receipt.delivered_to),
            read_by=labels(receipt.read_by),
            missing=labels(receipt.missing),
        )


class UserOut(BaseModel):
    """Somebody of the mesh, on this gateway or elsewhere."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"user": "bob", "name": "bob", "id": _USER_ID, "status": "online"}]}
    )
    user: str = Field(description="As shown: the name, with the beginning of the id where others are called so too.")
    name: str
    id: str
    status: Status
    me: bool | None = None

    @classmethod
    def of(cls, user: User) -> UserOut:
        return cls(user=user.label, name=user.name, id=user.id, status=status_of(user), me=user.is_me or None)


class PresenceOut(BaseModel):
    """How somebody is now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user": "bob", "status": "idle", "text": "lunch"}]})
    user: str
    status: Status
    text: str | None = None
    since: str | None = None

    @classmethod
    def of(cls, user: User) -> PresenceOut:
        since = None if user.since is None else iso(user.since)
        return cls(user=user.label, status=status_of(user), text=user.status_text or None, since=since)


class ConversationOut(BaseModel):
    """A conversation one takes part in."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": _CONVERSATION_ID, "kind": "room", "name": "room"}]}
    )
    id: str
    kind: Literal["room", "dm", "group"]
    name: str = Field(description="`room`, the other user, or what the group is called.")

    @classmethod
    def of(cls, talk: Conversation) -> ConversationOut:
        return cls(id=talk.id, kind=talk.kind, name=talk.name)  # type: ignore[arg-type]


class NewGroup(BaseModel):
    """A group to be made; whoever makes it is its owner and a member."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "ops", "members": ["bob", "carol"]}]}
    )
    name: str = Field(min_length=1, max_length=32)
    members: list[Address] = Field([], max_length=255)


class NewMembers(BaseModel):
    """Who is to belong to a group as well; they get everything that was said in it before."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"members": ["dave"]}]})
    members: list[Address] = Field(min_length=1, max_length=255)


class GroupChange(BaseModel):
    """What a group is called from now on, or who is its owner."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "operations"}]})
    name: str | None = Field(None, min_length=1, max_length=32)
    owner: Address | None = None


class GroupOut(BaseModel):
    """A group as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"id": _CONVERSATION_ID, "name": "ops", "owner": "ada", "members": ["ada", "bob"]}]
        }
    )
    id: str
    name: str
    owner: str | None
    members: list[str]

    @classmethod
    def of(cls, group: Group) -> GroupOut:
        owner = group.owner
        return cls(
            id=group.id, name=group.name, owner=None if owner is None else owner.label, members=labels(group.members)
        )


def labels(users: list[User]) -> list[str]:
    return [user.label for user in users]


def status_of(user: User) -> Any:
    return user.status


# ---- wording
#
# Messages as clients of `/chat` and REST know them: `{"id","from","to"|"group"?,"content","timestamp"}`.


def iso(moment: datetime) -> str:
    """Return an aware time in UTC, as all of p2pchat writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def message_json(post: Message | Sent) -> dict[str, Any]:
    """Return a message as an object; the same whoever reads it. Without `to` and `group` it stands in the room."""
    conversation = post.conversation
    told: dict[str, Any] = {"id": post.id, "from": post.sender.label}
    if conversation.kind == "dm" and conversation.user is not None:
        told["to"] = (
            conversation.user.label if isinstance(post, Sent) else post.viewer.people.label(post.viewer.people.me)
        )
    elif conversation.kind == "group":
        told["group"] = conversation.name
    told |= {"content": post.text, "timestamp": iso(post.sent_at)}
    if post.reply_to is not None:
        told["reply_to"] = post.reply_to
    return told | {word: True for word in ("action", "edited", "deleted") if getattr(post, word)}


# ---- addressing
#
# Where a message goes: a name as people type it, made a conversation of one account.
#
# A name nobody known carries is reserved: what is written to it waits until somebody registers it here.


async def resolve_conversation(gateway: Gateway, account: Account, to: str) -> Conversation:
    """Return the conversation an address names: `room`, `bob`, `bob#K7QF2M3P`, `#ops`, an id.

    Raises:
        UnknownName, AmbiguousName: It is nobody and can be nobody, or several. Forbidden: This account has reserved
            as many names as one may.
    """
    found = find_conversation(gateway, account, to)
    if found is not None:
        return found
    try:
        name = validate_name(to.strip().removeprefix("@"))
    except ValueError:
        raise UnknownName(to) from None
    return account.user.find((await gateway.accounts.reserve(name, account)).user.me)


def find_conversation(gateway: Gateway, account: Account, to: str) -> Conversation | None:
    """Return the conversation an address names; None when nobody is called so. Raises AmbiguousName."""
    try:
        return account.user.find(to)
    except UnknownName:
        other = gateway.accounts.find(to.strip().removeprefix("@"))
        return None if other is None else account.user.find(other.user.me)


def group_of(account: Account, name: str) -> Group:
    """Return a group this account belongs to. Raises UnknownName, AmbiguousName, Forbidden."""
    group = account.user.group(name)
    if not group.is_member:
        raise Forbidden("you are not a member of this group")
    return group


def is_me(account: Account, name: str) -> bool:
    """Whether somebody means this account by a name."""
    me = account.user.me
    return name.casefold() == account.name.casefold() or name in (me.label, me.id)
