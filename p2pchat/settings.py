"""Limits and times of p2pchat, in one frozen class.

Times are seconds and sizes are bytes unless the name says otherwise. A number comes from the design unless its comment
names another source. Simulations run with small pages and batches, so no code may assume the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

OWN_ONLY_FACTOR = 2  # times min_free_disk_bytes; below it nothing of others is stored
CONTENT_FACTOR = 3  # times the same, left free by content of files: above it, so texts go on


@dataclass(frozen=True, slots=True)
class MemberLimits:
    """Costs of one member for a peer: all its users together, its guests and the accounts of its gateway included.

    Only members write, so the member answers for its users, and who admitted it can expel it. In a network made from
    a word, and among users of one's own member, each user counts like a member; all of them have others_bytes.
    """

    contact_bytes: int = GIB  # stored of a contact, and as much of files that came by themselves
    member_bytes: int = 256 * MIB  # the same, of all users of another member
    user_least_bytes: int = MIB  # of these, of one user who is not the member itself; a guess, as the next
    user_part: int = 16  # such a user may have this part of what is left, if that is more: 15 MiB at first
    others_bytes: int = 4 * GIB  # stored of all who are no contacts; and as much of files
    # What a log counts besides its entries: 16,384 are some 20 MiB of memory. A 16th if it follows an earlier one,
    # which is a row of 150 bytes then (core/sync/conversation_state.py).
    log_bytes: int = 16 * KIB
    entry_bytes: int = 64  # what an entry counts besides its text: one of 16 bytes takes 77 on the disk
    # Entries that wait for those that they follow, and four times as many of all who are no contacts; beyond it they
    # are shown at once, with a gap mark. 620 bytes each at most: 1.2 MiB.
    waiting_entries_a_member: int = 2048
    # The same of a contact, or of what its link brings, and four times as many of all of them: 15 MiB. Of a newcomer
    # some 12,000 wait while it fetches what 40 others wrote.
    waiting_entries_a_contact: int = 24 * KIB


@dataclass(frozen=True, slots=True)
class Settings(MemberLimits):
    """Limits and times of one peer. The defaults are those that docs/protocol.md promises to others."""

    # frames and entries
    max_early_frame_bytes: int = 4 * KIB  # before `go`
    max_frame_bytes: int = 256 * KIB  # after `go`
    max_text_bytes: ClassVar[int] = 32 * KIB  # of one message, in UTF-8; the same everywhere
    max_batch_entries: int = 256  # in one signed batch
    max_batch_bytes: int = 96 * KIB  # so that escaping cannot pass the frame limit
    page_items: int = 256  # items in here, peers, read
    page_marks: int = 1000  # items in digest, have
    max_wants: int = 64  # open at once on one link
    max_tips: int = 64  # of one user in one conversation; more are rejected with `full`
    max_before: int = 8  # logs named by the first entry of a log
    max_older: int = 24  # marks of the 1st, 2nd, 4th ... newest log in a want: 2**24 runs

    # links
    handshake_timeout: float = 10.0  # for TLS and the proof of both sides
    go_timeout: float = 10.0  # from the handshake to `go`
    ping_after: float = 10.0  # of silence
    dead_after: float = 30.0  # of silence; then the link ends with `timeout`
    stuck_after: float = 30.0  # for a link that does not drain
    bye_timeout: float = 1.0  # for a goodbye to be written
    redial_first: float = 0.1  # doubled each time, full jitter
    redial_most: float = 30.0  # pause between two dials of a peer that answered once
    redial_never_reached_most: float = 300.0  # the same of an address that never answered
    max_addresses: int = 4096  # in the address book
    max_endpoints_a_peer: int = 8  # kept of one peer
    told_host_pause: float = 30.0  # between two dials to one host where no key answered; a guess, as the next two
    told_rest: float = 3600.0  # after three that failed, on the word of one member
    told_dial_after: float = 1.0  # the peer with the larger id lets the other one dial first; a guess
    peers_told_after: float = 0.1  # changes within it are told together
    max_links: int = 256  # at once
    max_circuits: int = 256  # links of one member with others that are carried; 0: none
    known_links: int = 64  # of them, kept for contacts: a guess at a person's contacts; never more than half
    busy_pause: float = 30.0  # seconds without a dial after `busy`, at least: far above a handshake; a guess
    max_strangers: int = 64  # connections that have not proved themselves
    max_strangers_loopback: int = 32  # from this machine
    flood_a_second: int = 100  # frames other than entries and have
    flood_burst: int = 500  # so many of these at once
    max_endpoint_bytes: int = 100  # of one address
    superseded_runs: int = 8  # former runs of a peer that are remembered, to notice two processes with one key
    clone_replacements: int = 3  # of one link within clone_window: two processes use one key
    clone_window: float = 60.0  # in which replacements are counted
    clone_patience: float = 30.0  # without warning or dial again, once two processes with one key were noticed

    # sync
    want_progress_timeout: float = 10.0  # then the next source is asked
    want_after: float = 1.0  # entries behind a received mark are requested after this time
    gossip_within: float = 1.0  # marks to links that do not get them from the writer
    digest_every: float = 10.0  # anti-entropy; the real pause is half to one and a half of it
    order_wait: float = 5.0  # for an entry named by `re` or `after` that no peer has
    order_wait_most: float = 300.0  # while that entry is on its way
    max_unanswered: int = 16  # direct conversations of a user who is no contact, without an answer from here; a guess
    max_unanswered_groups: int = 3  # and groups, which are kept in memory; a guess
    max_hosted_users: int = 11_000  # by a peer, and told by all peers of a member together: memory
    max_uncommitted_units: int = 2048  # of work on its way to the disk; above it links that sent much wait
    turn_units: int = 512  # of work of one link in one turn: some 15 ms of the hardest
    fetch_batches: int = 8  # read from storage at once for the wants of a link; a few, to keep live traffic fast
    buffer_limit_bytes: int = MIB  # unsent bytes of one link; above it its cursors stop

    # storage
    min_free_disk_bytes: int = 256 * MIB  # below it nothing is stored; for others, see the factors above
    auto_fetch_bytes: int = 10 * MIB  # files up to this size come by themselves to a data directory; 0 for none
    slow_storage_after: float = 5.0  # a commit that takes this long is reported; a guess: busy disks take up to 2
    wal_warm_bytes: int = 4 * MIB  # written and deleted when first idle; the next commits cost half

    # presence and receipts
    left_grace: float = 2.0  # a reconnect within it is not a departure
    idle_after: float = 300.0  # without a key the user is idle
    events_a_second: int = 20  # changes of presence of a member's users that programs are told, 300 at once; a guess
    typing_expires: float = 6.0  # so that one frame may be lost

    # programs
    trace_limit_bytes: int = 64 * MIB  # of each of two files: some 150,000 frames, a guess
    consumer_saved_after: float = 1.0  # a place that was acknowledged is stored
    start_timeout: float = 3.0  # start() waits this long for endpoints, and calls after it for names
    recent_places: int = 1000  # newest places read at start, to know what was shown last
