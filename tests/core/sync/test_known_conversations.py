"""Conversations in memory: who is named in one, and who wrote there."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import NoReturn

from p2pchat.core.groups.group_replica import GroupReplica
from p2pchat.core.groups.group_state import group_body, operation_hash
from p2pchat.core.log import Entry, LogId, encode_entry
from p2pchat.core.sync.known_conversations import KnownConversations
from p2pchat.protocol import ConversationId, Naming
from tests.core.scripted_nodes import FAR_RUN, IDS, START, N


class Unread(dict[ConversationId, GroupReplica]):
    """Groups that nobody may go through."""

    def __iter__(self) -> Iterator[ConversationId]:
        raise AssertionError("each group is looked at")

    def values(self) -> NoReturn:
        raise AssertionError("each group is looked at")


def group_of_ada(conversations: KnownConversations, *others: str) -> Naming:
    """Add a group with its first operation, and its talk."""
    members = {IDS[name]: 1 for name in ("ada", *others)}
    entry = Entry("group", START, START, b=group_body(1, "ops", IDS["ada"], members, {}, salt="5a" * 16))
    raw = encode_entry(entry)
    naming = Naming(group=(operation_hash(raw), IDS["ada"], FAR_RUN))
    conversations.open(naming)
    id = operation_hash(raw)
    conversations.groups[id].add(LogId(id, IDS["ada"], FAR_RUN), 1, raw, entry)
    conversations.open(Naming(talk=id))
    return naming


def test_who_is_named_in_a_group_has_a_conversation() -> None:
    conversations = KnownConversations(N)
    naming = group_of_ada(conversations, "bob", "cyd")
    assert naming.group is not None
    conversations[conversations.room].writer(IDS["dan"])
    assert [conversations.has_any_of(IDS[name]) for name in ("ada", "bob", "cyd", "dan")] == [True, True, True, False]
    assert [conversations.has_entries_of(IDS[name]) for name in ("ada", "bob", "cyd", "dan")] == [
        True, True, True, True,
    ]  # fmt: skip


def test_asking_about_a_user_looks_at_no_group() -> None:
    """It is asked several times for each made-up user, and others may make thousands of groups."""
    conversations = KnownConversations(N)
    group_of_ada(conversations, "bob")
    conversations.groups = Unread(conversations.groups)
    assert [conversations.has_any_of(IDS["eve"]), conversations.has_entries_of(IDS["eve"])] == [False, False]


def test_a_forgotten_conversation_leaves_memory_without_the_collector() -> None:
    """Members may name thousands of groups, and the collector comes seldom."""
    conversations = KnownConversations(N)
    id = "9e" * 32
    conversations.open_group(Naming(group=(id, IDS["eve"], FAR_RUN)), [IDS["eve"]], IDS["eve"], IDS["eve"])
    gone = weakref.ref(conversations.groups[id])
    gc.disable()
    try:
        conversations.forget(id)
        assert gone() is None
    finally:
        gc.enable()
