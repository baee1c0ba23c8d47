"""Request and response bodies of REST, as OpenAPI describes them.

The fields of an answer are the attributes of the object that a call returns.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, RootModel, model_validator
from pydantic_core import PydanticCustomError

from p2pchat.commands.json_commands import without_nulls
from p2pchat.commands.standard_output import iso
from p2pchat.kinds.kind import POINTS
from p2pchat.kinds.message_fields import fields_at
from p2pchat.kinds.question import QUESTION
from p2pchat.web.error_responses import EXAMPLE_ID

_CONVERSATION_ID = "BVMRTKYYVIBVXDV5L7KR6J7XCFRNDE2KA2TVKI7RO6TKXLCZNRMQ"
_USER_ID = "5CC3RP56PBODOGKOETVO5FETNDVQKRWLLQO7CH5U5KYGL4TV4UXQ"
_TIME = "2026-11-20T11:42:10.241117Z"
MESSAGE_ID = r"^[A-Za-z2-7]{64}\.[1-9][0-9]{0,14}$"
MAX_CHARACTERS = 32 * 1024  # of a text of 32 KiB, as each takes at least one byte of UTF-8

Content = Annotated[  # what is longer is refused as everywhere else: 413 too_long
    str, Field(min_length=1, description="At most 32 KiB of UTF-8.", json_schema_extra={"maxLength": MAX_CHARACTERS})
]
Address = Annotated[
    str,
    Field(
        min_length=1,
        max_length=96,
        description="A name as shown (`bob`, `bob#K7QF2M3P`) or an id.",
        examples=["bob"],
    ),
]
Choice = Annotated[str, Field(min_length=1, max_length=POINTS * QUESTION.longest)]  # the library counts characters
UploadId = Annotated[str, Field(min_length=1, max_length=64)]
GroupName = Annotated[
    str,
    Field(min_length=1, max_length=96, description="The name of a group, or its name with its id: `ops#K7QF2M3P`."),
]
Status = Literal["online", "idle", "unreachable", "offline", "unknown"]
_OR_NONE = BeforeValidator(lambda value: value or None)


def _checked_ref(value: object) -> object:
    if value is not None and type(value) not in (str, int):
        raise PydanticCustomError("ref", "it should be a string or an integer")
    return value


Ref = Annotated[str | int | None, BeforeValidator(_checked_ref)]
Label = Annotated[str, BeforeValidator(lambda user: user.label)]  # of a User


class ErrorOut(
    BaseModel,
    json_schema_extra={
        "examples": [{"status": "error", "code": "unknown_name", "text": "nobody here is called 'bob'"}]
    },
):
    """The reason a request failed: `code` is a stable word, `text` is for people."""

    status: Literal["error"]
    code: str
    text: str


class FileOut(BaseModel):
    """One attachment of a message."""

    name: str = Field(description="What its writer calls it: to be shown, never a path.")
    size: int = Field(description="In bytes.")
    type: str = Field(description='The media type, as its writer says; "" for unknown.')
    root: str = Field(description="The hash of its content, in hex.")
    here: bool = Field(description="Whether all of it is on the disk of the gateway, and verified.")
    held_by: int | None = Field(None, description="So many other members are known to have it; absent for none.")
    forgotten: bool | None = Field(None, description="It was removed at the gateway: it comes when somebody asks.")


_SAID = {  # of what a person says of a message
    "by": "string", "by_id": "string", "entry_id": "string", "reaction": "string", "option": "integer",
    "pinned": "integer", "automatic": "boolean",
}  # fmt: skip
_SAID_SHAPE = {"type": "object", "properties": {name: {"type": type} for name, type in _SAID.items()}}
_SHAPES: dict[str, dict[str, Any]] = {  # of the fields of a message, by their types
    "text": {"type": "string"}, "time": {"type": "string"}, "bool": {"type": "boolean"}, "int": {"type": "integer"},
    "list": {"type": "array", "items": {"type": "string"}},
    "files": {"type": "array", "items": FileOut.model_json_schema()},
    "said": {"type": "array", "items": _SAID_SHAPE},
}  # fmt: skip
_MESSAGE_SCHEMA = {
    "type": "object",
    "properties": {
        row.other or row.name: {**_SHAPES[row.type], "description": row.words} for row in fields_at("c").values()
    },
    "required": ["id", "from", "content", "timestamp"],
    "additionalProperties": False,
    "examples": [{"from": "A", "to": "B", "content": "Hello, B!", "timestamp": _TIME, "id": EXAMPLE_ID}],
}


class MessageOut(RootModel[dict[str, Any]], json_schema_extra=_MESSAGE_SCHEMA):
    """A message. In the room it has neither `to` nor `group`."""


class RequestBody(BaseModel, extra="forbid"):
    """The body of a request. A field that is null is absent, a receiver that is null an error."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: object) -> object:
        return without_nulls(given) if isinstance(given, dict) else given


class NewMessage(
    RequestBody,
    json_schema_extra={
        "examples": [{"to": "bob", "content": "lunch?"}, {"group": "ops", "content": "done"}],
        "oneOf": [{"required": ["to"]}, {"required": ["group"]}],
        "anyOf": [{"required": ["content"]}, {"required": ["files"]}],
    },
):
    """A message to one user, to `room`, or to a group."""

    to: Address = Field(default_factory=str)
    group: GroupName = Field(default_factory=str)
    content: Annotated[
        str, Field(description="At most 32 KiB of UTF-8.", json_schema_extra={"maxLength": MAX_CHARACTERS})
    ] = Field(default_factory=str)
    files: list[UploadId] = Field(
        [], max_length=10, description="Uploads of the caller, by id; then there may be no text."
    )
    choices: list[Choice] = Field(
        [], max_length=6, description="2 to 6 answers that readers may press, no two alike; none: no choices."
    )
    ref: Ref = Field(None, description="A word of yours, returned with the answer.")
    reply_to: str | None = Field(None, pattern=MESSAGE_ID, description="The message this answers, by its id.")

    @model_validator(mode="after")
    def _has_one_receiver(self) -> Self:
        if bool(self.to) == bool(self.group):
            raise ValueError('give either "to" (a user, or "room") or "group"')
        if not self.content and not self.files:
            is_missing = "content" not in self.model_fields_set
            raise ValueError(f"content: {'it is missing' if is_missing else 'it should have at least 1 character'}")
        return self


class MessageAccepted(
    BaseModel, json_schema_extra={"examples": [{"status": "ok", "id": EXAMPLE_ID, "timestamp": _TIME}]}
):
    """The message is stored on this gateway's disk, safe from a crash."""

    status: Literal["ok"] = "ok"
    id: str
    timestamp: str
    ref: str | int | None = None
    reserved: bool | None = Field(
        None, description="With `--trust-loopback`: nobody has the name of the receiver yet, and the message waits."
    )
    text: str | None = Field(None, description="That in words, with known names that are one letter away.")
    safe: bool | None = Field(None, description="With `--safe`: whether a second gateway of the cluster has it too.")


class UploadOut(BaseModel):
    """A file is stored on this gateway's disk, to be sent with messages."""

    status: Literal["ok"] = "ok"
    id: str = Field(description="To be given as one of the `files` of a message, within an hour, by this account.")
    name: str
    size: int = Field(description="In bytes.")
    type: str = Field(description='Its media type, from Content-Type or the name; "" for unknown.')
    root: str = Field(description="The hash of its content, in hex.")


class FetchOut(BaseModel):
    """A file is not here yet, and is being fetched."""

    status: Literal["fetching"] = "fetching"
    stored: int = Field(description="Bytes that have come; 0 as long as no member who has it is linked.")
    size: int = Field(description="Bytes of the whole.")


class LinkOut(BaseModel):
    """A link to a file."""

    status: Literal["ok"] = "ok"
    path: str = Field(description="Relative to the address of the gateway.")


class Done(BaseModel):
    """The request was carried out."""

    status: Literal["ok"] = "ok"


class CauseOut(BaseModel):
    """Why a receiver lacks a message."""

    user: str
    user_id: str
    cause: Literal["away", "online", "carried", "unreachable", "expelled"]
    since: str | None = Field(description="Since when it is away, if that is known.")
    text: str = Field(description="What ends its wait, and the cause; since when is left out.")
    by: str | None = Field(description="Who carries its link, says that it reaches it, or expelled it.")


class ReceiptStatus(
    BaseModel,
    json_schema_extra={
        "examples": [{"id": EXAMPLE_ID, "status": "read", "delivered_to": ["bob"], "read_by": ["bob"], "missing": []}]
    },
):
    """Delivery of a message of the caller, in its latest version."""

    id: str
    status: Literal["accepted", "delivered", "read"] = Field(
        description="The step that all receivers have reached; accepted: it is stored on this gateway."
    )
    delivered_to: list[str] = Field(
        description="Receivers of this gateway whose clients have taken it, and others whose peers have it on disk."
    )
    read_by: list[str]
    missing: list[str] = Field(description="Receivers not known to have it yet.")
    causes: list[CauseOut] = Field([], description="Why these lack it, of each of whom something is known.")
    files_delivered_to: list[str] | None = Field(
        None, description="Of a message with files: those who are known to have all of them, whole and verified."
    )


class UserOut(
    BaseModel, json_schema_extra={"examples": [{"user": "bob", "name": "bob", "id": _USER_ID, "status": "online"}]}
):
    """A user of the mesh, on this gateway or elsewhere."""

    user: str = Field(
        validation_alias="label",
        description="As shown: the name, with the beginning of the id if others have the same name.",
    )
    name: str
    id: str
    status: Status
    text: Annotated[str | None, _OR_NONE] = Field(
        None, validation_alias="status_text", description="What the user says with the status."
    )
    since: Annotated[str | None, BeforeValidator(lambda moment: moment and iso(moment))] = None
    me: Annotated[bool | None, _OR_NONE] = Field(None, validation_alias="is_me")


class ConversationOut(
    BaseModel, json_schema_extra={"examples": [{"id": _CONVERSATION_ID, "kind": "room", "name": "room"}]}
):
    """A conversation of the caller."""

    id: str
    kind: Literal["room", "dm", "group"]
    name: str = Field(description="`room`, the other user, or the name of the group.")


class NewGroup(RequestBody, json_schema_extra={"examples": [{"name": "ops", "members": ["bob", "carol"]}]}):
    """A new group; the caller becomes its owner and a member."""

    name: str = Field(min_length=1, max_length=32)
    members: list[Address] = Field([], max_length=255)


class NewMembers(RequestBody, json_schema_extra={"examples": [{"members": ["dave"]}]}):
    """New members of a group; they get all its earlier messages."""

    members: list[Address] = Field(min_length=1, max_length=255)


class GroupChange(RequestBody, json_schema_extra={"examples": [{"name": "operations"}]}):
    """A new name or a new owner of a group."""

    name: str | None = Field(None, min_length=1, max_length=32)
    owner: Address | None = None


class GroupOut(
    BaseModel,
    json_schema_extra={
        "examples": [
            {"id": _CONVERSATION_ID, "name": "ops", "owner": "ada", "admins": ["bob"], "members": ["ada", "bob"]}
        ]
    },
):
    """A group."""

    id: str
    name: str
    owner: Label | None
    admins: list[Label]
    members: list[Label]


class HealthOut(BaseModel):
    """The gateway is healthy, or ready."""

    status: str = "ok"


class SignUp(RequestBody, json_schema_extra={"examples": [{"name": "zoe"}]}):
    """A name to register, of 1 to 32 visible characters."""

    name: str


class NewAccount(BaseModel):
    """An account and its token, which cannot be shown again."""

    name: str
    token: str
