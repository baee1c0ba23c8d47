"""JSON commands of an account, as `/lines` and `POST /v1/do` take them: limits, the order of writers, own handlers.

A command session like that of a terminal carries them out, as the account's user. Which ones are taken is in
p2pchat/commands/command_table.py: none about the peer itself (connect, forget, allow, quit), and none with a path, as
that would be one of the gateway's disk. `send` has `files`: uploads of the account (account_files.py), by id.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import replace

from starlette.requests import HTTPConnection

from p2pchat import Conversation, P2PChatError, User
from p2pchat.commands.activity_tracker import ActivityTracker
from p2pchat.commands.command_context import MAX_RECENT, CommandContext
from p2pchat.commands.command_table import BY_NAME
from p2pchat.commands.conversation_commands import group, list_
from p2pchat.commands.display import CommandResult, Display
from p2pchat.commands.event_text import EventLine
from p2pchat.commands.json_commands import JsonCommand
from p2pchat.commands.member_commands import INVITE_DAYS, invite_row, list_members, members
from p2pchat.commands.people_commands import nick
from p2pchat.commands.session import Session, handlers_in
from p2pchat.web.accounts import Account
from p2pchat.web.error_responses import Forbidden, problem_of
from p2pchat.web.gateway_state import Gateway, gateway_of
from p2pchat.web.sign_in import may_invite

MAX_ROWS = 2000  # of one answer


@asynccontextmanager
async def hold_answer(gateway: Gateway, account: Account, command: JsonCommand) -> AsyncIterator[bool]:
    """Yield whether an answer may be long. An account has few of these at once, each until its client has taken it."""
    if BY_NAME[command.do].writes or BY_NAME[command.do].kind == "small":
        yield False
        return
    async with gateway.answers.hold(account.key):
        yield True


class HostedCommands:
    """Commands of one account, from one connection.

    Args:
        display: Gets the answers.
        door: "l" or "d", as in the table of commands.
        set_active: Says whether somebody looks at this connection.
        session: The kind of the session.
    """

    def __init__(
        self, connection: HTTPConnection, account: Account, display: Display, door: str,
        set_active: Callable[[bool], None], session: type[Session] = Session,
    ) -> None:  # fmt: skip
        self._gateway = gateway_of(connection)
        self._account = account
        self._user = account.user
        self._may_invite = may_invite(connection)
        self._set_active = set_active
        display.me = account.user.me.label
        self._session = session(
            account.user, display, interactive=False, as_json=True,
            activity=ActivityTracker(self._on_presence, idle_after=None), door=door, handlers=handlers_in(self),
        )  # fmt: skip
        self._session.max_answer_bytes = self._gateway.settings.max_answer_bytes
        self._session.uploads = lambda ids: self._gateway.uploads.find(account, ids)

    def charge(self, command: JsonCommand) -> None:
        """Count a command against the limits of the account. Raises TooMany."""
        row = BY_NAME[command.do]
        if row.writes or row.kind == "choice":
            texts = (field for field in command.fields.values() if isinstance(field, str))
            self._gateway.limits.write(self._account.key, *texts, members=self._members(command))
        elif row.kind == "small":
            self._gateway.limits.small.take(self._account.key)

    def _members(self, command: JsonCommand) -> int:
        """Return how many members an operation of a group names: all that it has, and the new ones."""
        if BY_NAME[command.do].kind != "group":
            return 0
        fields = command.fields
        count = len(fields.get("users", ())) + len(fields.get("members", ()))
        with suppress(P2PChatError):  # no such group: the command itself reports it
            count += len(self._user.group(fields["to"]).members) if "to" in fields else 0
        return count

    async def run(self, command: JsonCommand, interface: str) -> None:
        """Carry out a command that was charged. It is written also if the caller is cancelled.

        Args:
            interface: In metrics, of what writes messages.
        """
        if BY_NAME[command.do].writes:
            with self._gateway.metrics.accepting(interface) if command.do == "send" else nullcontext():
                await asyncio.shield(self._write(command))
        else:
            fields = command.fields
            if fields.get("limit", 0) > MAX_ROWS:
                command = replace(command, fields={**fields, "limit": MAX_ROWS})
            await self._session.execute_command(command)

    async def _write(self, command: JsonCommand) -> None:
        """Write one thing at a time for an account, so that a repeated message finds the first one written."""
        async with self._gateway.write_locks[self._account.key]:
            if command.do == "send":
                with suppress(P2PChatError):  # of an address that means nobody: the command itself reports it
                    self._gateway.receivers.check(self._user.find(command.fields.get("to", "room")))
            await self._session.execute_command(command)

    def _on_presence(self, status: str, text: str) -> None:
        """Take over a presence set by command; it counts for all connections of the account, later ones too."""
        away = status == "idle"
        if not away:
            self._set_active(True)
        self._gateway.hub.set_away(self._account, text if away else None)

    # Handlers that differ at a gateway, or exist only there

    async def active(self, ctx: CommandContext, on: bool) -> CommandResult:
        self._set_active(on)
        return CommandResult([{"on": on}])

    async def members(self, ctx: CommandContext, to: Conversation | None = None) -> CommandResult:
        if to is None or to.kind == "room":
            return await list_members(ctx, self._gateway.peer)
        return await members(ctx, to)

    async def invite(self, ctx: CommandContext, uses: int = 1, days: float = INVITE_DAYS) -> CommandResult:
        if not self._may_invite:
            raise Forbidden("accounts get no invite here: ask whoever runs this gateway, who has `p2pchat invite`")
        if uses != 1 or days > INVITE_DAYS:
            raise Forbidden(
                f"an account's invite admits one person within {INVITE_DAYS:.0f} days: ask the operator for another"
            )
        return CommandResult([await invite_row(self._gateway.peer, uses, days)])

    async def group(self, ctx: CommandContext, name: str, members: Sequence[User | str] = ()) -> CommandResult:
        with self._gateway.limits.new_group(self._account.key):
            return await group(ctx, name, members)

    async def nick(self, ctx: CommandContext, name: str) -> CommandResult:
        if self._gateway.authenticate is not None:
            raise Forbidden("your name comes from where you sign in: change it there")
        try:
            async with self._gateway.accounts.renaming(self._account, name):  # not while the client takes the answer
                return await nick(ctx, name)
        except ValueError as error:
            raise problem_of(error) from None  # worded as at sign-up

    async def list_(self, ctx: CommandContext) -> CommandResult:
        await ctx.count_unread()  # other connections mark messages as read too
        return await list_(ctx)

    async def latest(self, ctx: CommandContext) -> CommandResult:
        found: list[EventLine] = []
        left = self._gateway.settings.max_answer_bytes
        for talk in self._user.recent_conversations()[:MAX_RECENT]:
            for post in await self._user.history(talk, limit=1):
                found.append(post.to_dict())
                left -= len(post.text.encode())
            if left < 0:  # the others, used longer ago, come with their history
                break
        return CommandResult(found)

    async def unread(self, ctx: CommandContext, to: Conversation) -> CommandResult:
        first, count = await self._user.first_unread(to)
        self._gateway.limits.answered(self._account.key, count)
        return CommandResult([{**first.to_dict(), "unread": count}] if first else [])
