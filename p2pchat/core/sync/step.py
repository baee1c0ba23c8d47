"""A step: what one input of the node leads to, from its frames to what is told once it is durable.

A machine writes into the step what happened, with the logs that it found, and the next one reads it there. A log with
something on its way to the disk stays the same object (conversation_state.py), so nobody looks it up by name again.
"""

from __future__ import annotations

from collections import Counter

from p2pchat.core.durable_changes import Change, Collected, PrunePlan, field
from p2pchat.core.effects import ConversationBegun, Effect
from p2pchat.core.inputs import PruneRequest
from p2pchat.core.log import Batch, WriterKey
from p2pchat.core.own_state import Chosen
from p2pchat.core.sync.conversation_state import ConversationState, HeldMark, LogState
from p2pchat.core.sync.remote_state import RemoteState
from p2pchat.protocol import ConversationId, UserId


class PendingImport(Collected, eq=False):
    """The frames of one ImportRequest."""

    ticket: int
    undecided: int = 0  # frames about which storage is asked
    commits: int = 0  # commits with entries of it, not durable yet
    new: int = 0  # entries
    known: int = 0
    foreign: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # entries by code
    unreadable: int = 0  # frames of statements


class Step(Collected):
    """One step: its change, the logs in it, what follows when it is durable, and what links were sent in it."""

    change: Change  # committed with this step, unless all of it may wait
    own: bool = False
    grown: list[tuple[LogState, Batch]] = []
    with_files: list[tuple[LogState, Batch]] = []  # of these, those that name attachments
    covered: dict[LogState, bool] = {}  # logs that another one builds on from now on, or no longer
    shown: list[LogState] = []  # of which entries have places now
    logs: list[LogState] = []  # those that are grown or covered, once that is durable
    writes: list[tuple[int, LogState, int, int, str]] = []  # ticket, log, first, count, kind
    sources: dict[WriterKey, set[int]] = {}  # whose entries came, and the links that brought them; none for a file
    imports: dict[int, PendingImport] = {}  # imports with entries in this step, by ticket
    groups: set[ConversationId] = set()  # groups with new facts
    # What a remote has of a hosted user by its marks, or by an equal sum (True)
    acked: list[tuple[RemoteState, ConversationState, UserId, list[HeldMark], bool]] = []
    sent_bytes: dict[int, int] = {}  # bytes of new entries and of listed marks, by link
    effects: list[Effect] = []  # emitted when all this is durable
    own_state: list[Chosen] = []  # what hosted users chose
    begun: list[ConversationBegun] = []  # the same, before what they are about is shown
    reads: list[int] = []  # tickets of marks of readers
    prunes: list[tuple[PruneRequest, PrunePlan | None]] = []  # None: before the first look
