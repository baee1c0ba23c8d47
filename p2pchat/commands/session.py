"""What input does: typed lines and command objects, carried out by a running peer, in the order they came.

Lines in, texts out, and trouble told: what a command does stands in doing/. What cannot be done is one error line; the
rest goes on, and the exit code remembers it when nobody was there to see it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from p2pchat import Conversation, Failed, HostedUser, P2PChatError, StorageError, TCPPeer, Warned
from p2pchat.commands import group_commands, message_commands, outbox, people_commands
from p2pchat.commands import message_commands as reading
from p2pchat.commands import people_commands as meshing
from p2pchat.commands import people_commands as places
from p2pchat.commands import people_commands as setting
from p2pchat.commands.context import NAME_GRACE, CommandContext, Handler
from p2pchat.commands.display import Display
from p2pchat.commands.errors import DONE, FAILED, USAGE, CommandError, UsageError, error_code, exit_code, worst_code
from p2pchat.commands.json_commands import MAX_LINE_BYTES, BadCommand, JsonCommand, decode_line, parse_json_command
from p2pchat.commands.outbox import Outbox, OutgoingMessage
from p2pchat.commands.output import EventLine
from p2pchat.commands.read_tracking import ActivityTracker, ReadMarker, UnreadCounter
from p2pchat.commands.settings import ChatSettings
from p2pchat.commands.typed_commands import CommandInput, TextInput, parse_line

TEXT_COMMANDS: dict[str, Callable[..., Awaitable[OutgoingMessage]]] = {  # typed lines that are texts
    "msg": outbox.message, "me": outbox.action, "reply": message_commands.reply,
}  # fmt: skip
SHARED_COMMANDS: dict[str, Handler] = {
    "who": people_commands.who,
    "whois": people_commands.whois,
    "nick": people_commands.nick,
    "about": people_commands.about,
    "away": people_commands.away,
    "back": people_commands.back,
    "list": places.list_,
    "allow": people_commands.allow,
    "connect": meshing.connect,
    "forget": meshing.forget,
    "invite": meshing.invite,
    "ignore": people_commands.ignore,
    "unignore": people_commands.unignore,
}
TYPED_COMMANDS: dict[str, Handler] = {
    **SHARED_COMMANDS,
    "go": places.go,
    "history": reading.history_here,
    "search": reading.search_here,
    "receipts": reading.receipts_here,
    "set": setting.set_,
    "help": setting.help_,
    "group": group_commands.group_here,
    "add": group_commands.add_here,
    "kick": group_commands.kick_here,
    "leave": group_commands.leave_here,
    "rename": group_commands.rename_here,
    "owner": group_commands.owner_here,
    "members": group_commands.members_here,
    "clear": setting.clear,
    "edit": message_commands.edit_here,
    "delete": message_commands.delete_here,
    "react": message_commands.react_here,
}
EDIT_COMMANDS: dict[str, Handler] = {  # command objects whose `ref` comes back in the event too
    "edit": message_commands.edit, "delete": message_commands.delete, "react": message_commands.react,
}  # fmt: skip
JSON_HANDLERS: dict[str, Handler] = {
    **SHARED_COMMANDS,
    "history": reading.history,
    "search": reading.search,
    "receipts": reading.receipts,
    "read": reading.read,
    "typing": people_commands.typing,
    "group": group_commands.group,
    "add": group_commands.add,
    "kick": group_commands.kick,
    "leave": group_commands.leave,
    "rename": group_commands.rename,
    "owner": group_commands.owner,
    "members": group_commands.members,
    "set": setting.set_,
}


class Session:
    """The input of one peer, or of one user that a peer hosts.

    Args:
        interactive: Somebody sees the errors; they do not change the exit code then.
        as_json: Lines that begin with `{` are command objects.
        settings: Those of the profile, where somebody has loaded them already.
        attention: That of the chat this input comes in beside; None: it has its own.
    Attributes:
        settings: The settings of the profile.
        code: The exit code so far.
    """

    def __init__(
        self, peer: TCPPeer | HostedUser, show: Display, *, interactive: bool, as_json: bool,
        settings: ChatSettings | None = None, attention: ActivityTracker | None = None,
    ) -> None:  # fmt: skip
        if settings is None:
            settings = ChatSettings.load(peer.data if isinstance(peer, TCPPeer) else None)
        self.settings = settings
        self._show = show
        self._as_json = as_json
        self._here = CommandContext(
            peer, show, self.settings, interactive=interactive, for_people=not as_json, attention=attention
        )
        self._outbox = Outbox(self._here, self.fail)
        self._here.kept = self._outbox.keep
        self._seen: ReadMarker | None = None
        self.code = DONE
        show.hides = self._here.hides
        show.answered = self._here.answered

    def tells_of_calls(self, calls: Callable[[str], None]) -> None:
        """Have `calls` take each endpoint before /connect dials it."""
        self._here.calls = calls

    # Where one is

    @property
    def current(self) -> Conversation:
        """Where a text goes. UnknownName in an open network that has met nobody yet."""
        return self._here.current

    async def go(self, conversation: Conversation) -> None:
        """Send what follows there; what was unread there is read."""
        await self._here.go(conversation)

    @property
    def attention(self) -> ActivityTracker:
        """Whether somebody looks here, and where."""
        return self._here.attention

    @property
    def unread(self) -> UnreadCounter:
        """What is unread elsewhere."""
        return self._here.unread

    def sees(self, *, shows_past: bool) -> None:
        """Somebody may look at what is shown here: what they see is read."""
        self._seen = ReadMarker(
            self._here.peer, self._here.attention, lambda: self._here.current, shows_past=shows_past
        )

    def look(self) -> None:
        """The past was shown: whoever looks has seen it."""
        if self._seen is not None:
            self._seen.look()

    def shown(self, event: object) -> None:
        """An event was shown, or counted."""
        if self._seen is not None:
            self._seen.shown(event)

    def noticed(self, event: EventLine) -> None:
        """Take an event line before it is shown: it may be unread, and an answer may be to it."""
        self._here.noticed(event)
        if event["event"] == "warning" and event["code"] == "undelivered":
            self._outbox.lose(event["undelivered"])
            self.code = worst_code(self.code, FAILED)

    def is_unwanted(self, event: EventLine) -> bool:
        """Whether this event line is one that was switched off for everybody, programs too: /set typing off."""
        return event["event"] == "typing" and not self.settings.is_on("typing", event["conversation_id"])

    # Lines in

    async def take(self, lines: Sequence[bytes | None]) -> bool:
        """Do what these lines say; False when one of them said to leave."""
        stay = True
        if self._here.interactive:
            self._here.attention.used()
        for line in lines:
            stay = await self._line(line)
            if not stay:
                break
        await self._outbox.flush()
        return stay

    async def obey(self, order: JsonCommand) -> bool:
        """Do what one command object says, and return when it is done; False when it says to leave."""
        stay = await self._obey(order)
        await self._outbox.flush()
        return stay

    async def _obey(self, order: JsonCommand) -> bool:
        try:
            return await self._order(order)
        except (P2PChatError, UsageError, CommandError, ValueError) as error:
            await self.fail(error, order.ref)
        return True

    async def _line(self, raw: bytes | None) -> bool:
        try:
            if raw is None:
                raise UsageError(f"a line above {MAX_LINE_BYTES} bytes was not sent")
            line, is_utf8 = decode_line(raw)
            if not is_utf8:
                await self._warn("encoding", "a line was not UTF-8: what could not be read was replaced")
            if self._as_json and line.startswith("{"):
                return await self._obey(parse_json_command(line))
            return await self._typed(parse_line(line))
        except BadCommand as error:
            await self.fail(error, error.ref)
        except (P2PChatError, UsageError, CommandError, ValueError) as error:
            await self.fail(error)
        return True

    async def _typed(self, meant: TextInput | CommandInput | None) -> bool:
        if isinstance(meant, TextInput):
            self._show.numbers.clear()
            self._outbox.add(OutgoingMessage(self.current, meant.text))
        elif isinstance(meant, CommandInput):
            if meant.name == "quit":
                return False
            await self._do(meant)
        return True

    async def _do(self, command: CommandInput) -> None:
        if command.name in TEXT_COMMANDS:
            self._outbox.add(await TEXT_COMMANDS[command.name](self._here, *command.arguments))
            return
        await self._outbox.flush()
        rows, lines = await TYPED_COMMANDS[command.name](self._here, *command.arguments)
        await self._show.answer(command.name, rows, lines)

    async def _order(self, order: JsonCommand) -> bool:
        if order.do == "send":
            await self._send(order)
            return True
        await self._outbox.flush()
        if order.do == "quit":
            return False
        if order.do in EDIT_COMMANDS:
            rows, lines = await EDIT_COMMANDS[order.do](self._here, **order.fields, ref=order.ref)
        else:
            rows, lines = await JSON_HANDLERS[order.do](self._here, **order.fields)
        await self._show.answer(order.do, rows, lines, order.ref)
        return True

    async def _send(self, order: JsonCommand) -> None:
        fields = dict(order.fields)
        again = fields.pop("again", False)
        text = await outbox.send(self._here, **fields, ref=order.ref)
        if again:
            await self._outbox.flush()  # it may be among these
            there = await outbox.sent_before(self._here, text)
            if there is not None:
                await self._show.event({**there.to_json(), "ref": order.ref})
                return
        self._outbox.add(text)

    def names_are_known(self) -> None:
        """Wait for no name any more."""
        self._here.names_are_known()

    async def resolve(self, address: str) -> Conversation:
        """Return the conversation an address names; piped input waits a moment for a name nobody told yet."""
        return await self._here.resolve(address)

    # What became of what was sent

    async def drain(self, seconds: float, *, read: bool = False) -> list[str]:
        """Wait until everything sent is delivered, or `read`, at most so long; return the labels of those who lack
        something.

        [""] stands for "nobody was there".
        """
        return await self._outbox.drain(seconds, read=read)

    def undelivered(self) -> bool:
        """Whether something sent here is not delivered to all it is for."""
        return self._outbox.undelivered()

    # Trouble

    async def fail(self, error: BaseException, ref: str | None = None) -> None:
        """Show that something was not done, and remember it for the exit code; a bug of ours is raised on."""
        code = USAGE if isinstance(error, ValueError) and not isinstance(error, P2PChatError) else exit_code(error)
        if not self._here.interactive or code == FAILED:
            self.code = worst_code(self.code, code)
        word = "usage" if code == USAGE and not isinstance(error, P2PChatError) else error_code(error)
        if isinstance(error, StorageError):
            word = "storage"
        await self._show.event(Failed(code=word, text=str(error), ref=ref).to_json())

    async def _warn(self, code: str, text: str) -> None:
        await self._show.event(Warned(code=code, text=text).to_json())


__all__ = ["NAME_GRACE", "Session"]
