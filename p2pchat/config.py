"""Limits and times of p2pchat, in one frozen class.

Times are seconds and sizes are bytes unless the name says otherwise. A number comes from the design unless its comment
names another source. Simulations run with small pages and batches, so no code may assume the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Times min_free_disk_bytes: below the one nothing of unknown users is stored, below the other nothing of others.
KNOWN_ONLY_FACTOR = 4
OWN_ONLY_FACTOR = 2
CONTENT_FACTOR = 3  # times the same, left free by content of files: between the two, so texts of known people go on


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits and times of one peer. The defaults are those that docs/protocol.md promises to others."""

    # frames and entries
    max_early_frame_bytes: int = 4 * KIB  # before `go`
    max_frame_bytes: int = 256 * KIB  # after `go`
    max_text_bytes: int = 32 * KIB  # of one message, in UTF-8
    max_entry_bytes: int = 64 * KIB  # of one entry, a text in JSON
    max_batch_entries: int = 256  # in one signed batch
    max_batch_bytes: int = 96 * KIB  # so that escaping cannot pass the frame limit
    page_items: int = 256  # items in here, peers, read
    page_marks: int = 1000  # items in digest, have
    max_wants: int = 64  # open at once on one link
    max_tips: int = 64  # of one user in one conversation; more are rejected with `full`
    max_before: int = 8  # logs named by the first entry of a log
    max_after: int = 2  # entries named by `after`
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
    address_forgotten_after: float = 7 * 24 * 3600.0  # since it last answered
    max_addresses: int = 4096  # in the address book
    max_endpoints_a_peer: int = 8  # kept of one peer
    max_told_unverified: int = 64  # addresses from one peer or one network of unknown peers
    max_told: int = 512  # of these from all; some ten for each peer of a usual mesh, a guess
    told_dials_a_second: float = 2.0  # to these, of those that fail; a guess, as the next four
    told_host_pause: float = 30.0  # between two dials to one host
    told_network_pause: float = 5.0  # between two dials to one /24 or /48 without a link there
    told_tries: int = 3  # failed dials; then it is forgotten, unless somebody linked vouches for it
    told_kept: float = 600.0  # without anybody linked who vouches for it
    told_rest: float = 3600.0  # between two dials to a host where all failed for told_kept, on one word; a guess
    max_told_dials: int = 8  # at once, to addresses from other peers
    told_dial_after: float = 1.0  # the peer with the larger id lets the other one dial first; a guess
    told_failures_before_slow: int = 16  # of addresses from one peer or network; then one dial a second
    peers_told_after: float = 0.1  # changes within it are told together
    max_links: int = 256  # at once
    known_links: int = 64  # of them, kept for contacts: a guess at a person's contacts; never more than half
    busy_pause_least: float = 30.0  # seconds without a dial after `busy`: far above a handshake; a guess, as the next
    busy_pause_most: float = 300.0  # doubled up to this
    max_strangers: int = 64  # connections that have not proved themselves
    known_strangers: int = 16  # of them, kept for private addresses and those of the address book; a guess
    max_strangers_an_address: int = 8  # an address is an IPv6 /64 or an IPv4 address
    max_strangers_loopback: int = 32  # from this machine
    strangers_a_second: int = 20  # of one address
    strangers_a_second_loopback: int = 500  # of this machine
    flood_a_second: int = 100  # frames other than entries and have
    flood_burst: int = 500  # so many of these at once
    new_logs_a_second: int = 128  # that came from one branch of unknown peers; a guess: 30,000 take four minutes
    new_logs_burst: int = 256  # so many of these at once
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
    clock_ahead: float = 300.0  # timestamps further ahead of local time do not advance the clock
    # Entries of unknown users that wait for entries they follow: of all, and of one peer, address or network. Beyond
    # it they are shown at once, with a gap mark. A guess: 16 MiB.
    max_waiting_entries: int = 8192
    waiting_entries_a_branch: int = 2048  # as above, of one peer, address or network
    wrong_head_ban: float = 3600.0  # only what its own users write is taken from a peer that sent a wrong head
    max_conversations_a_user: int = 10_000  # direct ones with contacts
    max_groups_an_owner: int = 1_000  # a guess: they take 14 MiB
    max_requests_a_peer: int = 16  # direct conversations that unknown users of one peer begin with one hosted user,
    # the same number of groups stored, and of groups that wait together with them
    max_requests: int = 256  # and those of all peers; a guess: more than anybody reads
    straight_requests_a_peer: int = 3  # of them, shown like the messages of contacts; the others wait. A guess
    straight_requests: int = 32  # and those of all peers; a guess
    request_entries: int = 32  # taken of a conversation that waits, or one batch; a guess: who it is, and why
    request_bytes: int = 64 * KIB  # taken of a conversation that waits
    request_kept: float = 30 * 86400.0  # seconds until a conversation that waits is deleted; a guess
    max_hosted_users: int = 10_000  # by a peer, and told by all peers of a member together
    max_uncommitted_units: int = 2048  # of work on its way to the disk; above it links that sent much wait
    turn_units: int = 512  # of work of one link in one turn: some 15 ms of the hardest
    max_open_writers: int = 512  # of the room, quiet ones kept as objects; more become rows. A guess: 1 MiB
    fetch_batches: int = 8  # read from storage at once for one link; a few, to keep live traffic fast
    buffer_limit_bytes: int = MIB  # unsent bytes of one link; above it its cursors stop

    # storage
    user_quota_bytes: int = GIB  # stored for one user
    branch_bytes: int = 256 * MIB  # stored for unknown users of one peer, address or network (core/limits_by_origin.py)
    branch_bytes_of_user: int = MIB  # of them, of a user who is not the peer's own, as one of a gateway; a guess
    # Such a user may have more: this part of what is left, 15 MiB at first, of bytes and of places for groups; a guess.
    branch_part_of_user: int = 16
    unknown_bytes: int = 4 * GIB  # stored for all unknown users
    # What a log of an unknown user counts besides its entries. Measured, a user with one message: 1.3 KiB of memory and
    # 1.6 KiB of disk. So 80 MiB of memory hold what a branch stores. A quarter if it follows an earlier log, which
    # is a row of 150 bytes then (core/sync/heads.py).
    log_bytes: int = 4 * KIB
    min_free_disk_bytes: int = 256 * MIB  # below it nothing is stored; for others, see the factors above
    auto_fetch_bytes: int = 10 * MIB  # files up to this size come by themselves to a data directory; 0 for none
    auto_fetch_user_bytes: int = GIB  # of files that came by themselves, of one user; as user_quota_bytes
    content_memory_bytes: int = 64 * MIB  # of files, in a peer without a data directory; a guess
    slow_storage_after: float = 5.0  # a commit that takes this long is reported; a guess: busy disks take up to 2
    wal_warm_bytes: int = 4 * MIB  # written and deleted when first idle; the next commits cost half

    # presence and receipts
    left_grace: float = 2.0  # a reconnect within it is not a departure
    presence_told_after: float = 0.5  # changes within it are sent together; the promise is one second
    idle_after: float = 300.0  # without a key the user is idle
    presence_a_second: int = 20  # changes of a member's users that programs are told, 300 at once; a guess
    renames_a_second: int = 1  # of users who wrote but have no profile, by one branch of unknown peers; a guess
    renames_burst: int = 256  # a gateway's users may all get other names at once
    typing_every: float = 3.0  # between two frames that repeat the same of a user and conversation
    typing_expires: float = 6.0  # so that one frame may be lost

    # programs
    trace_limit_bytes: int = 64 * MIB  # of each of two files: some 150,000 frames, a guess
    consumer_saved_after: float = 1.0  # a place that was acknowledged is stored
    read_told_every: float = 0.1  # read marks to one link; far below flood_a_second
    start_timeout: float = 3.0  # start() waits this long for endpoints, and calls after it for names
    recent_places: int = 1000  # newest places read at start, to know what was shown last
