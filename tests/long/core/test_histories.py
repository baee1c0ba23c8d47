"""Hundreds of random histories, and how often every accident, goodbye and path of synchronisation occurred in them."""

from __future__ import annotations

import time
from operator import attrgetter

import pytest

from simulation.random_histories import NOTHING, PlayResult
from tests.conftest import Tell
from tests.core.test_histories import FILES, MACHINES, MEMBERS, ROUTERS, failures, played

HISTORIES = range(500)
HISTORIES_WITH_ROUTERS = range(200)
HISTORIES_WITH_FILES = range(100)
HISTORIES_WITH_MEMBERS = range(300)
HISTORIES_WITH_MACHINES = range(300)
JOBS = 2  # processes; each imports everything once more
CHUNK = 25
ROUTERS_CHUNK = 10
FILES_CHUNK = 4
MEMBERS_CHUNK = 50
MACHINES_CHUNK = 50
OFTEN = 50
BEGAN = time.monotonic()

# Accidents, counts of the cores, and codes of goodbyes, none of which occurs in an undisturbed mesh.
MUST_HAPPEN = (
    "cut",
    "restore",
    "resume",
    "moved",
    "all_but_one_moved",
    "commit_failed",
    "crash_with_commit_in_flight",
    "crash_between_commit_and_have",
    "crash_between_effects",
    "link_replaced",
    "handshake_network",
    "handshake_self",
    "handshake_version",
    "handshake_timeout",
    "bye_busy",
    "bye_error",
    "bye_head",
    "bye_host",
    "bye_left",
    "bye_limit",
    "bye_malformed",
    "bye_network",
    "bye_order",
    "bye_replaced",
    "bye_version",
    "fault_head",
    "fault_host",
    "flood",
    "unknown_frame",
    "digest_sum",
    "digest_sums",
    "page_boundary",
    "early_batch_dropped",
    "repeated_batch",
    "conversation_ignored",
    "warned_fork",
    "warned_storage",
    "warned_storage_works",
    "warned_disk_low",
    "export_carried",
    "export_brought",
    "export_known",
    "export_foreign",
    "export_again",
    "export_damaged",
    "export_refused_head",
    "export_refused_full",
    "gap",
    "digest_unanswered",
    "read",
    "read_sum_differs",
    "taken",
    "taken_told",
    "too_many_tips",
    "forks_ignored",
    "user_full",
    "warned_quota",
    "warned_full",
    "warned_refused",
    "group_created",
    "group_added",
    "group_removed",
    "group_renamed",
    "group_admin",
    "export_refused_early",
    "export_failed",
    "warned_two_processes",
    "user_blocked",
    "user_unblocked",
    "asked",
)

# Rare events of the simulation: the least number, and the test of each. A change of the core changes every history. So
# each number is less than half of the usual one, or a third if a few histories have most of it.
LESS_OFTEN = {
    "all_but_one_moved": 10,  # in some histories
    "handshake_identity": 25,  # these three: tests/core/mesh/test_handshake.py, test_links.py
    "bye_identity": 25,
    "bye_self": 25,
    "cursor_from_storage": 25,  # tests/core/sync/test_sender.py
    "warned_disk_enough": 25,  # tests/core/test_node.py
    "export_no_file": 25,  # this and the next: tests/core/sync/test_import_file.py
    "export_refused_fork": 12,
    "fault_limit": 12,  # tests/core/sync/test_sender.py, test_ingest.py
    "conversation_refused": 12,  # histories have few conversations; tests/core/test_node.py
    "group_left": 10,
    "group_owner": 7,
    "undelivered": 6,  # tests/core/sync/test_group_sync.py, as is `cut_off`
    "group_unadmin": 10,  # tests/core/groups/test_group_members.py
    "cut_off": 1,
    "link_gave_way": 20,  # in some histories; tests/core/mesh/test_peer_link.py
    "attack": 100,  # in some histories, as the next; tests/long/hostile/test_branches.py
    "third_host_dialled": 100,
    "odd_entry": 50,  # in some histories, as the next; tests/core/sync/test_ingest.py
    "question_edited": 25,  # tests/core/test_edits.py
    "hosted": 50,  # in some histories; this and the next two: tests/core/test_hosted_users.py
    "unhosted": 25,
    "guest_said": 100,
}
# With routers, in each chunk at least so often.
WITH_ROUTERS = ROUTERS_CHUNK // 5
OF_ROUTERS = ("router_moved", "dialled_through", "circuit_carried")
# Too rare to be counted on: `group_not_known` (tests/core/groups/test_groups_ingest.py).
# Not in a simulation: `bye slow` (sent by the transport: tests/test_client.py), `warned_name` (names that look alike:
# tests/messaging/test_users.py), strangers' quotas (tests/core/sync/test_quota.py), faults of file systems
# (tests/storage).


def chunks(seeds: range, size: int) -> list[range]:
    """Return the seeds in parts of this size, one for each test."""
    return [seeds[start : start + size] for start in range(0, len(seeds), size)]


@pytest.fixture(scope="module")
def all_played() -> PlayResult:
    """Return the counts of this run so far."""
    return PlayResult()


@pytest.mark.timeout(300)  # a failing seed is shrunk for a minute
@pytest.mark.parametrize("seeds", chunks(HISTORIES, CHUNK), ids=attrgetter("start"))
def test_every_promise_holds_in_the_histories_from(seeds: range, all_played: PlayResult) -> None:
    here = played(seeds, NOTHING, JOBS)
    failed = failures(here, NOTHING, tell_steps=not all_played.broken)
    all_played.add(here)
    assert not failed, failed


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seeds", chunks(HISTORIES_WITH_ROUTERS, ROUTERS_CHUNK), ids=attrgetter("start"))
def test_every_promise_holds_with_routers_in_the_histories_from(seeds: range) -> None:
    here = played(seeds, ROUTERS, JOBS)
    failed = failures(here, ROUTERS)
    assert not failed, failed
    assert {what: here.counts[what] for what in OF_ROUTERS if here.counts[what] < WITH_ROUTERS} == {}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seeds", chunks(HISTORIES_WITH_FILES, FILES_CHUNK), ids=attrgetter("start"))
def test_every_promise_holds_with_files_in_the_histories_from(seeds: range) -> None:
    here = played(seeds, FILES, JOBS)
    failed = failures(here, FILES)
    assert not failed, failed
    assert here.counts["content_arrived"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seeds", chunks(HISTORIES_WITH_MEMBERS, MEMBERS_CHUNK), ids=attrgetter("start"))
def test_every_promise_holds_with_members_in_the_histories_from(seeds: range) -> None:
    here = played(seeds, MEMBERS, JOBS)
    failed = failures(here, MEMBERS)
    assert not failed, failed
    assert all(here.counts[f"member_{what}"] for what in ("admitted", "expelled", "pardoned", "admin"))
    assert here.counts["export_told"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seeds", chunks(HISTORIES_WITH_MACHINES, MACHINES_CHUNK), ids=attrgetter("start"))
def test_every_promise_holds_with_machines_in_the_histories_from(seeds: range) -> None:
    here = played(seeds, MACHINES, JOBS)
    failed = failures(here, MACHINES)
    assert not failed, failed
    assert here.counts["machine_read"]


def test_every_accident_occurred_often_enough(all_played: PlayResult, tell: Tell) -> None:
    if all_played.histories < 500:
        pytest.skip("counts what happens in five hundred histories: run the whole file")
    tell(f"{all_played.histories} simulated histories in {time.monotonic() - BEGAN:.0f} s, in which happened:")
    wanted = dict.fromkeys(MUST_HAPPEN, OFTEN) | LESS_OFTEN
    for what in wanted:
        tell(f"  {all_played.counts[what]:7} {what.replace('_', ' ')}")
    assert {what: all_played.counts[what] for what, least in wanted.items() if all_played.counts[what] < least} == {}
