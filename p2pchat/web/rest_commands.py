"""`POST /v1/do`: one command of an account over HTTP, with the limits and rules of `/lines`.

The body is a JSON command, as the table of commands has them; the description of the call is made from its rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Never

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, Field, WithJsonSchema
from starlette.requests import HTTPConnection

from p2pchat import Conversation, P2PChatError, Receipt, Receipts
from p2pchat.commands.command_table import BY_NAME, CommandRow, commands_at, fields_of, object_schema, schema_of
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import CommandError, OperatorOnly, UsageError
from p2pchat.commands.json_commands import BadCommand, JsonCommand, read_command
from p2pchat.commands.notifier import last_receipt
from p2pchat.commands.session import Session
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.hosted_commands import HostedCommands, hold_answer
from p2pchat.web.message_form import CHAT
from p2pchat.web.rest import IdempotencyKey, MessageId, accepted, problems
from p2pchat.web.schemas import MESSAGE_ID, MessageAccepted
from p2pchat.web.sign_in import AUTHENTICATED, CurrentAccount, CurrentGateway

_TAKEN = commands_at("d")
_FIELD_SHAPES: dict[str, dict[str, Any]] = {
    "conversation": {"description": "`room`, a user, `#ops`, or an id."},
    "place": {"description": "`room`, a user, `#ops`, or an id; without it the room."},
    "group": {"description": "`#ops`, or an id."},
    "user": {"description": "A name as shown (`bob`, `bob#K7QF2M3P`), or an id."},
    "users": {"description": "Names as shown, or ids."},
    "message": {"description": "The id of a message.", "pattern": MESSAGE_ID},
    "time": {"description": "A time with its zone.", "format": "date-time"},
}


def _field_shape(kind: str) -> dict[str, Any]:
    return schema_of(kind) | _FIELD_SHAPES.get(kind, {})


def _command_shape(row: CommandRow) -> dict[str, Any]:
    shape = object_schema(fields_of(f"do {row.fields} ref?"), _field_shape)
    shape["properties"]["do"] = {"const": row.name}
    return {"title": row.name, **shape}


_SHAPES = [_command_shape(row) for row in _TAKEN.values()]
_EXAMPLES = [{"do": "history", "to": "bob", "limit": 20}]


class CommandAnswer(BaseModel, json_schema_extra={"examples": [{"status": "ok", "command": "back", "rows": []}]}):
    """The command was carried out."""

    status: str = "ok"
    command: str
    rows: list[dict[str, Any]] = Field(description="Those of its `answer` at `/lines`; of `send` the line `sent`.")
    ref: str | None = Field(None, description="As in the command.")


_commands = APIRouter(tags=["commands"], dependencies=AUTHENTICATED)
_acts = APIRouter(tags=["messages"], dependencies=AUTHENTICATED)


async def _command(
    given: Annotated[dict[str, Any], Body(), WithJsonSchema({"oneOf": _SHAPES, "examples": _EXAMPLES})],
) -> JsonCommand:
    """Return the command in a body."""
    row = BY_NAME.get(str(given.get("do")))
    if row is not None and row.kind == "operator":
        raise Forbidden(f"{row.name!r} is for the operator of this gateway, at the control socket of its peer")
    return read_call(given)


def read_call(given: dict[str, Any]) -> JsonCommand:
    """Return the command that an object is. Raises WebError."""
    try:
        return read_command(given, _TAKEN)
    except BadCommand as error:
        raise WebError(422, "malformed", str(error)) from None


GivenCommand = Annotated[JsonCommand, Depends(_command)]


async def _hold_answer(account: CurrentAccount, gateway: CurrentGateway, command: GivenCommand) -> AsyncIterator[None]:
    async with hold_answer(gateway, account, command):
        yield


@_commands.post(
    "/do",
    responses=problems(404, 409, 413),
    response_model_exclude_none=True,
    dependencies=[Depends(_hold_answer)],
)
async def do(
    request: Request,
    account: CurrentAccount,
    gateway: CurrentGateway,
    command: GivenCommand,
    key: IdempotencyKey = "",
) -> CommandAnswer:
    """Carry out a command: one of those at `/lines`, in the same form, with the same limits.

    `Idempotency-Key` is for `send` only.
    """
    if key and command.do != "send":
        raise WebError(422, "malformed", f"Idempotency-Key is for 'send' only: repeat {command.do!r} without it")
    return CommandAnswer(**await answer_call(request, account, gateway, command, key))


async def answer_call(
    connection: HTTPConnection, account: Account, gateway: Gateway, command: JsonCommand, key: str = ""
) -> dict[str, Any]:
    """Carry out a command of `/chat` or Socket.IO too; return its name, `ref` and rows, of `send` the line `sent`."""
    written, rows = await _carry_out(connection, account, gateway, command, key)
    if command.do == "send":
        sent = (await account.user.message(written)).to_dict()
        rows = [{**sent, "ref": None, **await gateway.safety(account, written)}]
    return {"command": command.do, "rows": rows, "ref": command.ref}


async def _carry_out(
    connection: HTTPConnection, account: Account, gateway: Gateway, command: JsonCommand, key: str = ""
) -> tuple[str, list[EventLine]]:
    """Carry out a command; return the id of what was written, and the rows of the answer.

    Args:
        key: What is written once with it; what changes a message changes nothing when it is repeated.
    """
    display = _CallDisplay(gateway, account.key)
    commands = HostedCommands(connection, account, display, "d", lambda on: None, _CallSession)
    commands.charge(command)

    keyed = {"key": key} if key and "key" in BY_NAME[command.do].json else {}
    try:
        await commands.run(JsonCommand(command.do, command.fields | keyed), "rest")
    except OperatorOnly as error:
        raise Forbidden(str(error)) from None
    except (UsageError, CommandError, ValueError) as error:
        if isinstance(error, P2PChatError):
            raise
        raise WebError(400, "usage", str(error)) from None
    return display.written, display.rows


def _add_route(row: CommandRow) -> None:
    """Add the path of an act: its fields are those of the command, as REST names them."""
    names = {CHAT.get(name, name): name for name in row.json if name != "id"}
    shape = object_schema({there: row.json[name] for there, name in names.items()}, _field_shape)
    is_new = "id" not in row.json
    if is_new:
        shape["examples"] = [{"question": "Lunch?", "options": ["pizza", "soup"]}]
    elif names:
        [name, *_] = names
        shape["examples"] = [{name: row.json[names[name]].type(row.example.partition(" ")[2])}]
    body: Any = Body(json_schema_extra=shape) if names else Depends(_nothing)
    of: Any = Depends(_nothing if is_new else _about)
    method, _, path = row.rest.partition(" ")

    async def act(
        request: Request,
        account: CurrentAccount,
        gateway: CurrentGateway,
        given: dict[str, Any] = body,
        about: dict[str, Any] = of,
        key: IdempotencyKey = "",
    ) -> MessageAccepted:
        fields = {names.get(name, name): value for name, value in given.items()} | about
        written, _ = await _carry_out(request, account, gateway, read_call({**fields, "do": row.name}), key)
        return await accepted(account, about.get("id", written), ref=given.get("ref"))

    _acts.add_api_route(
        f"{'' if is_new else '/messages/{id}'}/{path}".rstrip("/"),
        act,
        methods=[method],
        status_code=201 if is_new else 200,
        name=row.name,
        description=row.purpose,
        responses=problems(404, 409, 413),
        response_model_exclude_none=True,
    )


async def _about(id: MessageId) -> dict[str, Any]:
    return {"id": id}


async def _nothing() -> dict[str, Any]:
    return {}


for _row in _TAKEN.values():
    if _row.rest:
        _add_route(_row)
router: APIRouter = APIRouter()
router.include_router(_commands, prefix="/v1")
router.include_router(_acts, prefix="/v1")
router.include_router(_acts, include_in_schema=False)


class _CallDisplay(Display):
    """The answer to one command.

    Attributes:
        rows: The rows of the answer.
        written: The id of what was written last, or found written before; "" for nothing.
    """

    def __init__(self, gateway: Gateway, account: str) -> None:
        super().__init__(StdoutWriter(None))
        self._gateway = gateway
        self._account = account
        self.rows: list[EventLine] = []
        self.written = ""

    def on_accepted(self, to: Conversation, receipt: Receipt | Receipts, what: Sequence[str]) -> None:
        self.written = last_receipt(receipt).id

    async def show_event(self, event: EventLine, *, older: bool = False) -> None:
        if event["event"] == "answer":
            self.rows = [{**row, "ref": None} if row.get("ref") else row for row in event["rows"]]
            self._gateway.limits.answered(self._account, len(self.rows), event["command"])


class _CallSession(Session):
    """A session whose errors are those of its caller."""

    async def report_error(self, error: BaseException, ref: str | None = None) -> Never:
        raise error
