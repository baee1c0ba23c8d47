"""`POST /v1/do`: one command of an account over HTTP, with the limits and rules of `/lines`.

The body is a JSON command, as the table of commands has them; the description of the call is made from its rows.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Never

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, Field, WithJsonSchema

from p2pchat import Conversation, Receipt, Receipts
from p2pchat.commands.command_session import Session
from p2pchat.commands.command_table import BY_NAME, FIELD_TYPES, CommandRow, commands_at
from p2pchat.commands.delivery_notices import last_receipt
from p2pchat.commands.display import Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.exit_codes import CommandError, UsageError
from p2pchat.commands.json_commands import BadCommand, JsonCommand, read_command
from p2pchat.commands.standard_output import StdoutWriter
from p2pchat.web.error_responses import Forbidden, WebError
from p2pchat.web.gateway_state import Gateway
from p2pchat.web.hosted_commands import HostedCommands, hold_answer
from p2pchat.web.rest import IdempotencyKey, problems
from p2pchat.web.schemas import MESSAGE_ID
from p2pchat.web.sign_in import AUTHENTICATED, CurrentAccount, CurrentGateway

_TAKEN = commands_at("d")
_JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", list: "array"}
_FIELD_SHAPES: dict[str, dict[str, Any]] = {
    "conversation": {"description": "`room`, a user, `#ops`, or an id."},
    "place": {"description": "`room`, a user, `#ops`, or an id; without it the room."},
    "group": {"description": "`#ops`, or an id."},
    "user": {"description": "A name as shown (`bob`, `bob#K7QF2M3P`), or an id."},
    "users": {"description": "Names as shown, or ids.", "items": {"type": "string"}},
    "message": {"description": "The id of a message.", "pattern": MESSAGE_ID},
    "time": {"description": "A time with its zone.", "format": "date-time"},
    "list": {"items": {"type": "string"}},
}


def _shape(row: CommandRow) -> dict[str, Any]:
    """Return the JSON schema of a command."""
    fields = {
        name: {"type": _JSON_TYPES[FIELD_TYPES[field.kind]], **_FIELD_SHAPES.get(field.kind, {})}
        for name, field in row.json.items()
    }
    return {
        "title": row.name,
        "type": "object",
        "properties": {"do": {"const": row.name}, **fields, "ref": {"type": "string"}},
        "required": ["do", *(name for name, field in row.json.items() if field.required)],
        "additionalProperties": False,
    }


_SHAPES = [_shape(row) for row in _TAKEN.values()]
_EXAMPLES = [{"do": "history", "to": "bob", "limit": 20}]


class CommandAnswer(BaseModel, json_schema_extra={"examples": [{"status": "ok", "command": "back", "rows": []}]}):
    """The command was carried out."""

    status: str = "ok"
    command: str
    rows: list[dict[str, Any]] = Field(description="Those of its `answer` at `/lines`; of `send` the line `sent`.")
    ref: str | None = Field(None, description="As in the command.")


router: APIRouter = APIRouter(prefix="/v1", tags=["commands"], dependencies=AUTHENTICATED)


async def _command(
    given: Annotated[dict[str, Any], Body(), WithJsonSchema({"oneOf": _SHAPES, "examples": _EXAMPLES})],
) -> JsonCommand:
    """Return the command in a body."""
    row = BY_NAME.get(str(given.get("do")))
    if row is not None and row.kind == "operator":
        raise Forbidden(f"{row.name!r} is for the operator of this gateway, at the control socket of its peer")
    try:
        return read_command(given, _TAKEN)
    except BadCommand as error:
        raise WebError(422, "malformed", str(error)) from None


GivenCommand = Annotated[JsonCommand, Depends(_command)]


async def _hold_answer(account: CurrentAccount, gateway: CurrentGateway, command: GivenCommand) -> AsyncIterator[None]:
    async with hold_answer(gateway, account, command):
        yield


@router.post(
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
    display = _CallDisplay(gateway, account.key)
    commands = HostedCommands(request, account, display, "d", lambda on: None, _CallSession)
    commands.charge(command)

    async def carry_out() -> str:
        try:
            await commands.run(JsonCommand(command.do, command.fields), "rest")
        except (UsageError, CommandError) as error:
            raise WebError(400, "usage", str(error)) from None
        return display.written

    content = ("do", json.dumps(command.fields, sort_keys=True))
    written = await gateway.idempotency.run_detached(account.key, key, content, carry_out)
    rows = display.rows
    if command.do == "send":
        if gateway.cluster is not None:
            await gateway.cluster.wait_here(account, written)
        sent = (await account.user.message(written)).to_json()
        rows = [{**sent, "ref": None, **await gateway.safety(account, written)}]
    return CommandAnswer(command=command.do, rows=rows, ref=command.ref)


class _CallDisplay(Display):
    """The answer to one command.

    Attributes:
        rows: The rows of the answer.
        written: The id of what was written last, or found written before; "" for nothing.
    """

    def __init__(self, gateway: Gateway, account: str) -> None:
        super().__init__(StdoutWriter(None), None, as_json=True, echo=True)
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
        elif event["event"] == "sent":  # a repeated message was written before
            self.written = event["id"]


class _CallSession(Session):
    """A session whose errors are those of its caller."""

    async def report_error(self, error: BaseException, ref: str | None = None) -> Never:
        raise error
