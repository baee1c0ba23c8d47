"""Every limit has a test on both sides of it: this is the list, and it fails when a setting is in it nowhere.

What is a limit towards others, or a time they can rely on, names the tests that go up to it and beyond. What only
tunes this peer says why it is none.
"""

from __future__ import annotations

import ast
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from p2pchat.config import Settings
from p2pchat.core.mesh.election import FollowerState, follower_take_go
from tests.core.scripted_nodes import Author, World

TESTS = Path(__file__).resolve().parent

# setting -> "file: test", the file below tests/ and without test_ and .py, the test without test_
LIMITS: dict[str, tuple[str, ...]] = {
    # frames and entries
    "max_early_frame_bytes": ("client: large_frames_are_accepted_after_go",
                              "protocol: a_go_lifts_the_limit_for_the_rest_of_its_read"),
    "max_frame_bytes": ("protocol: a_frame_may_have_as_many_bytes_as_the_limit_says",
                        "protocol: a_length_is_judged_before_its_payload_has_come"),
    "max_text_bytes": ("core/sync/ingest: entries_over_a_limit_end_their_log_or_the_link_if_they_are_not_signed",
                       "core/sync/ingest: entries_at_a_limit_or_of_a_later_kind_are_kept",
                       "core/sync/own_entries: a_text_at_the_limits_is_taken",
                       "core/sync/own_entries: an_invalid_write_is_refused_as_a_whole"),
    "max_entry_bytes": ("core/sync/refusals: an_invalid_entry_ends_its_log_and_not_the_link",),
    "max_batch_entries": ("protocol: an_entries_frame_holds_256_entries",
                          "core/sync/ingest: joined_frames_stay_within_the_limits_of_a_batch"),
    "max_batch_bytes": ("protocol: an_entries_frame_holds_96_kib_of_entries_counted_in_utf8",
                        "core/sync/own_entries: one_head_proves_256_entries_and_96_kib"),
    "page_items": ("protocol: here_and_peers_hold_256_items",),
    "page_marks": ("protocol: digest_and_have_hold_1000_items",
                   "protocol: a_page_with_a_name_for_each_item_fits_a_frame_up_to_500"),
    "max_wants": ("core/sync/serve: more_than_64_open_wants_are_a_fault",
                  "core/sync/missing_entries: 64_wants_are_open_at_once_and_a_closed_one_starts_the_next"),
    "max_tips": ("protocol: a_user_has_64_tips", "core/sync/ingest: a_writer_has_at_most_64_tips"),
    "max_before": ("limits: a_log_builds_on_8_logs_and_an_entry_follows_2_at_most",),
    "max_after": ("limits: a_log_builds_on_8_logs_and_an_entry_follows_2_at_most",),
    "max_older": ("protocol: a_user_has_64_tips",),
    # links
    "handshake_timeout": ("core/mesh/links: a_handshake_has_ten_seconds",
                          "core/mesh/links: the_time_of_the_tls_handshake_counts"),
    "go_timeout": ("core/mesh/links: a_go_that_does_not_come_within_ten_seconds_ends_the_link",),
    "ping_after": ("core/mesh/links: silence_is_asked_after_ten_seconds_and_ends_after_thirty",),
    "dead_after": ("core/mesh/links: silence_is_asked_after_ten_seconds_and_ends_after_thirty",
                   "hostile/attacks: half_a_frame_and_silence_is_a_dead_link"),
    "stuck_after": ("runtime/connections: a_far_end_that_reads_nothing_and_sends_nothing_is_slow",
                    "runtime/connections: a_far_end_that_reads_a_little_is_not_slow",
                    "hostile/attacks: a_link_that_wants_everything_and_reads_nothing_is_cut_off"),
    "bye_timeout": ("client: closing_waits_no_longer_than_its_timeout",
                    "client: a_goodbye_arrives_whole_and_in_order"),
    "redial_first": ("core/mesh/links: a_failed_dial_is_reported_once_and_retried_with_growing_pauses",),
    "redial_most": ("core/mesh/links: a_failed_dial_is_reported_once_and_retried_with_growing_pauses",),
    "redial_never_reached_most": ("core/mesh/links: a_failed_dial_is_reported_once_and_retried_with_growing_pauses",),
    "address_forgotten_after": ("core/mesh/addressbook: an_address_is_forgotten_after_seven_days_of_failure",),
    "max_addresses": ("core/mesh/addressbook: a_full_book_drops_a_failing_peer_only_for_a_reached_one",
                      "core/mesh/hearsay: keys_that_come_once_and_leave_fill_half_of_the_book"),
    "max_endpoints_a_peer": ("core/mesh/addressbook: a_peer_has_eight_endpoints_and_may_replace_one_itself",),
    "max_told_unverified": ("core/mesh/addressbook: one_peer_may_send_64_unverified_addresses",
                            "hostile/attacks: 64_addresses_of_one_peer_are_stored"),
    "max_told_dials": ("core/mesh/addressbook: learned_addresses_are_dialled_8_at_once_and_slowly_after_16_failures",),
    "max_told": ("core/mesh/hearsay: an_unknown_network_may_have_64_told_and_all_together_512",),
    "told_dials_a_second": (
        "core/mesh/hearsay: the_hosts_of_one_network_are_dialled_with_pauses_and_all_hosts_twice_a_second",),
    "told_host_pause": (
        "core/mesh/hearsay: members_cannot_have_a_third_host_flooded_nor_dialled_after_they_left",),
    "told_network_pause": (
        "core/mesh/hearsay: the_hosts_of_one_network_are_dialled_with_pauses_and_all_hosts_twice_a_second",),
    "told_tries": (
        "core/mesh/hearsay: three_failures_without_anybody_who_vouches_are_the_end_of_an_address",
        "core/mesh/hearsay: while_somebody_linked_vouches_an_address_is_tried_on"),
    "told_kept": (
        "core/mesh/hearsay: members_cannot_have_a_third_host_flooded_nor_dialled_after_they_left",),
    "told_rest": (
        "core/mesh/hearsay: what_a_contact_says_again_and_again_of_a_silent_host_is_dialled_once_an_hour",
        "core/mesh/hearsay: who_stays_linked_has_a_silent_host_dialled_once_an_hour"),
    "told_failures_before_slow": (
        "core/mesh/addressbook: learned_addresses_are_dialled_8_at_once_and_slowly_after_16_failures",),
    "told_dial_after": (
        "core/mesh/addressbook: the_smaller_id_dials_at_once_and_the_other_a_second_later",),
    "max_links": ("core/mesh/links: one_peer_too_many_is_refused_as_busy",),
    "known_links": ("core/mesh/link_places: places_kept_for_contacts_are_for_no_one_else",
                    "core/mesh/link_places: a_contact_finds_a_place_wherever_it_comes_from"),
    "busy_pause_least": (
        "core/mesh/link_places: who_gave_way_is_not_dialled_and_does_not_dial_for_a_while",),
    "busy_pause_most": (
        "core/mesh/link_places: who_gave_way_is_not_dialled_and_does_not_dial_for_a_while",),
    "max_strangers": ("runtime/connections: all_addresses_together_get_64_places_and_16_are_for_known_and_near_ones",
                      "processes/strangers: strangers_of_every_kind_are_dropped_without_effect_on_members"),
    "known_strangers": (
        "runtime/connections: all_addresses_together_get_64_places_and_16_are_for_known_and_near_ones",
        "runtime/connections: a_known_address_takes_a_place_of_the_others_when_its_own_are_taken"),
    "max_strangers_an_address": ("runtime/connections: one_address_gets_eight_places",),
    "max_strangers_loopback": ("runtime/connections: loopback_gets_32_places",),
    "strangers_a_second": ("runtime/connections: new_connections_of_an_address_are_admitted_at_a_rate",),
    "strangers_a_second_loopback": ("runtime/connections: new_connections_of_an_address_are_admitted_at_a_rate",),
    "flood_a_second": ("core/mesh/links: a_flood_makes_reading_pause_and_entries_and_marks_do_not_count",
                       "hostile/attacks: floods_are_read_at_100_frames_a_second"),
    "flood_burst": ("core/mesh/links: a_flood_makes_reading_pause_and_entries_and_marks_do_not_count",),
    "turn_units": ("runtime/frame_queue: a_flood_has_its_part_of_a_turn_behind_contacts_and_others_have_theirs",
                   "runtime/frame_queue: while_little_waits_all_of_it_is_handled_unchanged"),
    "max_uncommitted_flood_units": ("runtime/driver: while_the_disk_is_behind_floods_wait",),
    "new_logs_a_second": ("core/sync/ingest: a_link_to_nobody_known_pauses_when_more_logs_came_than_may_begin",
                          "core/sync/ingest: a_contact_passes_on_any_number_of_logs"),
    "new_logs_burst": ("core/limits_by_origin: a_rate_counts_at_every_node_and_says_how_long_to_wait",),
    "max_endpoint_bytes": ("protocol: an_endpoint_has_100_bytes",),
    "superseded_runs": ("limits: as_many_superseded_runs_are_remembered_as_the_setting_says",),
    "clone_replacements": ("core/mesh/links: two_processes_with_one_key_are_noticed_and_the_first_stays_linked",),
    "clone_window": ("core/mesh/links: two_processes_with_one_key_are_noticed_and_the_first_stays_linked",),
    "clone_patience": ("core/mesh/links: two_processes_with_one_key_are_noticed_and_the_first_stays_linked",),
    # sync
    "want_progress_timeout": (
        "core/sync/missing_entries: who_gives_nearly_nothing_for_ten_seconds_is_given_up_for_the_next",
    ),
    "want_after": ("core/sync/anti_entropy: announced_entries_are_wanted_after_a_second",),
    "gossip_within": ("core/node: entries_of_a_departed_writer_come_from_another_peer",),
    "order_wait": ("core/sync/causal_order: an_unavailable_entry_is_awaited_for_30_s_then_a_gap_is_shown",),
    "max_waiting_entries": (
        "core/sync/causal_order: when_all_places_to_wait_are_taken_the_newest_of_the_fullest_branch_goes",),
    "waiting_entries_a_branch": (
        "core/sync/causal_order: entries_of_unknown_users_beyond_their_places_are_shown_at_once_with_a_gap_mark",),
    "order_wait_most": ("core/sync/causal_order: an_entry_on_its_way_is_awaited_for_five_minutes",),
    "clock_ahead": ("core/sync/own_entries: an_entry_s_clock_exceeds_all_it_follows_but_no_wrong_clock",
                    "hostile/attacks: clocks_from_the_future_do_not_advance_others"),
    "wrong_head_ban": ("limits: a_wrong_head_is_held_against_its_sender_for_an_hour_and_no_longer",),
    "max_conversations_a_user": (
        "core/sync/anti_entropy: a_user_has_a_limited_number_of_conversations_that_contacts_name",),
    "max_groups_an_owner": ("core/groups/groups_ingest: groups_made_by_one_user_are_limited",),
    "max_requests_a_peer": (
        "core/sync/message_requests: unknown_users_of_one_peer_have_few_places_and_those_of_another_their_own",
        "core/sync/message_requests: groups_by_unknown_owners_of_one_peer_have_few_places_"
        "and_those_of_another_their_own",
    ),
    "max_requests": (
        "core/sync/message_requests: the_newest_conversation_of_the_fullest_peer_gives_way_and_is_named_no_more",
        "core/sync/message_requests: the_newest_waiting_group_of_the_fullest_peer_gives_way_and_leaves_nothing"),
    "straight_requests_a_peer": (
        "core/sync/waiting_requests: the_first_conversations_of_a_peer_are_shown_and_further_ones_wait",),
    "straight_requests": ("core/sync/waiting_requests: those_of_all_peers_together_are_few",),
    "request_entries": (
        "core/sync/waiting_requests: a_little_is_taken_and_the_rest_comes_once_it_is_accepted",
        "core/sync/waiting_requests: a_batch_that_comes_first_is_taken_whole_since_its_signature_covers_all_of_it"),
    "request_bytes": ("core/sync/waiting_requests: bytes_are_limited_too_also_after_a_restart",),
    "request_kept": ("core/sync/waiting_requests: what_waits_for_30_days_is_deleted",),
    "max_passing_positions": (
        "core/receipts/delivery_receipts: receipts_of_made_up_users_are_limited_by_branch_and_in_all",),
    "passing_positions_a_branch": (
        "core/receipts/delivery_receipts: receipts_of_made_up_users_are_limited_by_branch_and_in_all",),
    "max_unwritten_users": (
        "core/mesh/unwritten_users: one_unknown_peer_may_tell_as_many_users_as_there_are_places",
        "core/mesh/unwritten_users: a_newcomer_from_another_branch_takes_the_place_of_the_newest_user_of_the_fullest"),
    "max_hosted_users": ("core/mesh/presence: hosted_users_of_a_peer_are_limited",),
    "max_uncommitted_entries": ("runtime/driver: reading_pauses_while_storage_is_behind",),
    "buffer_limit_bytes": ("client: below_the_limit_a_link_is_never_full",
                           "hostile/memory: a_link_that_reads_nothing_costs_no_more_than_the_buffer"),
    "max_open_writers": ("core/sync/waiting_and_quiet_logs: quiet_writers_become_rows_when_there_are_too_many",),
    "fetch_batches": ("storage/fetch: a_page_has_at_most_the_batches_asked_for_and_the_last_one_says_so",),
    # storage
    "user_quota_bytes": ("core/sync/quota: up_to_the_last_byte_everything_is_kept_and_one_above_it_is_refused",
                         "core/sync/quota: a_warning_comes_with_the_batch_that_passes_80_percent_once",
                         ),
    "branch_bytes": ("core/sync/quota: unknown_users_of_one_peer_share_a_limit_and_those_of_another_have_their_own",
                     "core/sync/quota: peers_of_one_network_share_its_limit"),
    "branch_bytes_of_user": (
        "core/sync/quota: a_user_of_a_gateway_may_always_have_a_little_while_there_is_room",),
    "branch_part_of_user": (
        "core/sync/quota: one_user_of_a_gateway_leaves_most_of_its_branch_to_the_others",
        "core/sync/message_requests: one_owner_leaves_places_at_all_users_of_another_gateway"),
    "unknown_bytes": ("core/sync/quota: all_unknown_users_share_a_limit",),
    "log_bytes": ("core/sync/quota: a_log_of_an_unknown_user_counts_with_what_it_costs_besides_its_entries",
                  "core/sync/quota: a_log_that_follows_another_counts_a_quarter"),
    "auto_fetch_bytes": ("core/content/content_requests: small_files_of_shown_messages_come_and_larger_ones_do_not",
                         "messaging/attachments: "
                         "a_small_file_comes_by_itself_and_a_large_one_when_it_is_asked_for"),
    "auto_fetch_user_bytes": (
        "core/content/content_requests: "
        "a_writer_who_has_no_room_left_is_shown_and_its_files_come_when_they_are_asked_for",),
    "content_memory_bytes": ("storage/content_store: memory_has_a_limit",
                             "messaging/attachments: a_peer_in_memory_keeps_little"),
    "min_free_disk_bytes": ("runtime/driver: low_disk_space_is_reported",
                            "core/sync/quota: with_little_disk_space_unknown_users_are_refused_first_then_all_others",
                            "core/node: a_disk_nearly_full_takes_nothing_until_there_is_room"),
    "slow_storage_after": ("processes/disk: a_hanging_disk_is_reported_once_and_no_link_is_lost",),
    # presence and programs
    "left_grace": ("core/mesh/presence: a_broken_link_is_a_departure_after_two_seconds",
                   "core/mesh/presence: a_quick_reconnect_is_silent"),
    "unknown_events_a_second": (
        "core/mesh/unwritten_users: events_about_them_have_a_rate_and_the_others_are_counted",
        "core/mesh/unwritten_users: events_about_unknown_users_who_wrote_have_a_rate_too",),
    "user_events_a_second": (
        "core/mesh/unwritten_users: a_contact_that_reconnects_all_the_time_causes_few_lines",),
    "unknown_typing_a_second": ("core/sync/typing: few_unknown_users_are_seen_to_begin_to_type_and_all_contacts",),
    "presence_told_after": (
        "core/mesh/presence_announcer: a_flapping_status_costs_two_frames_a_second",),
    "returns_a_second": ("hostile/rosters: users_who_come_and_go_are_put_on_a_roster_at_a_rate",),
    "returns_burst": ("hostile/rosters: users_who_come_and_go_are_put_on_a_roster_at_a_rate",),
    "renames_a_second": ("core/sync/message_requests: names_that_an_unknown_peer_gives_writers_are_taken_at_a_rate",),
    "renames_burst": ("core/sync/message_requests: names_that_an_unknown_peer_gives_writers_are_taken_at_a_rate",),
    "typing_every": ("core/sync/typing: typing_is_repeated_at_most_once_in_three_seconds",),
    "typing_expires": ("core/sync/typing: a_typing_user_is_reported_once_and_expires_after_six_seconds",),
    "trace_limit_bytes": ("trace: a_full_file_becomes_the_former_one", "trace: a_peer_rotates_its_trace"),
    "read_told_every": ("core/receipts/read_receipts: many_marks_in_a_moment_are_few_frames",),
    "consumer_saved_after": ("core/node: a_consumer_s_place_is_saved_within_a_second_or_with_a_commit",),
    "start_timeout": ("lifecycle: an_endpoint_that_does_not_answer_is_an_event",),
}  # fmt: skip

NO_LIMITS = {
    "peers_told_after": "joins what is told; nobody can tell when",
    "digest_every": "how soon what went wrong heals: the simulation counts on it",
    "wal_warm_bytes": "makes first commits quick",
    "recent_places": "how far back a start looks for what was shown last",
    "idle_after": "for whoever shows presence: no part of the core's",
}

# What the design limits and no setting says.
OTHERS: dict[str, tuple[str, ...]] = {
    "JSON": ("protocol: refused_with_its_code_and_nothing_read",
             "protocol: integers_end_below_2_to_the_53"),
    "names in a frame": ("protocol: names_are_two_for_each_item_at_most",),
    "what is told of a user": ("protocol: names_and_statuses_are_short", "core/mesh/presence: names",
                               "core/mesh/presence: no_names"),
    "addresses that are never dialled": ("core/mesh/addressbook: shareable_endpoints",
                                         "core/mesh/addressbook: bad_addresses_are_counted_and_nothing_else"),
    "marks remembered": ("core/sync/anti_entropy: marks_of_missing_entries_are_limited",
                         "core/sync/anti_entropy: lookups_of_marks_are_limited",
                         "hostile/attacks: unknown_logs_are_wanted_only_from_the_sender_of_their_marks"),
    "frames that wait for storage": ("core/sync/ingest: frames_waiting_for_storage_are_limited",),
    "shown text": ("safe_text: harmful_characters_are_escaped_and_others_kept",
                   "safe_text: further_lines_of_a_text_are_marked",
                   "hostile/attacks: texts_neither_control_a_terminal_nor_forge_a_log_line"),
    "diagnostics": ("core/mesh/links: the_text_of_a_bye_is_quoted",
                    "protocol: reprs_show_no_text_that_someone_wrote"),
    "secrets on the command line": (
        "cli/options: secrets_on_the_command_line_get_a_warning_and_in_variables_none",),
    "files": ("identity/private_files: a_file_is_private_with_any_umask",
              "identity/private_files: writing_replaces_a_link_and_not_its_target",
              "identity/profile: everything_in_it_is_private"),
    "memory": ("hostile/memory: the_worst_member_costs_a_bounded_amount_of_memory",),
}  # fmt: skip


def test_every_setting_has_tests_or_a_reason_for_none() -> None:
    assert LIMITS.keys() | NO_LIMITS.keys() == {field.name for field in fields(Settings)}
    assert not LIMITS.keys() & NO_LIMITS.keys()


def test_each_named_test_is_there() -> None:
    named = {test for tests in (LIMITS | OTHERS).values() for test in tests}
    assert len(named) > 100
    assert sorted(one for one in named if not _is_there(*one.split(": "))) == []


def _is_there(file: str, test: str) -> bool:
    folder, _, name = file.rpartition("/")
    return f"test_{test}" in _functions(TESTS / folder / f"test_{name}.py")


@cache
def _functions(file: Path) -> frozenset[str]:
    nodes = ast.parse(file.read_text("utf-8")).body
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


# ---- those that had no test on one of their sides


def test_a_log_builds_on_8_logs_and_an_entry_follows_2_at_most() -> None:
    def told(*, before: int, after: int) -> list[str]:
        ada = World().peer("ada")
        firsts = [Author("bob", f"{n:02x}") for n in range(before)]
        far = ada.far("bob")
        far.say(*(first.say("first") for first in firsts))
        last = Author("bob", "b1", before=[first.mark for first in firsts])
        refs = [firsts[n].ref(1) for n in range(after)]
        return [line for line in far.say(last.say("last", after=refs)) if line.startswith(("commit b1", "warn"))]

    assert told(before=8, after=2) == ["commit b1:1..1, show b1:1..1"]
    assert told(before=9, after=2) == ["warn entry_refused"]
    assert told(before=8, after=3) == ["warn entry_refused"]


@pytest.mark.parametrize(("seconds", "believed"), [(3599, False), (3601, True)])
def test_a_wrong_head_is_held_against_its_sender_for_an_hour_and_no_longer(seconds: int, believed: bool) -> None:
    world, dan = World(), Author("dan", "d1")
    ada = world.peer("ada", dead_after=1e6)
    lie = dan.say("a lie")
    lie.head = "00" * 64
    assert ada.far("eve").say(lie) == ["close eve: head"]
    world.pass_time(seconds)
    ada.far("eve").say(Author("dan", "d1").say("true"))
    assert ada.texts() == ["true"] * believed


@pytest.mark.parametrize(("runs", "refused"), [(8, True), (9, False)])
def test_as_many_superseded_runs_are_remembered_as_the_setting_says(runs: int, refused: bool) -> None:
    """A run that came back is turned away while it is remembered, and taken for a new one when it is not."""
    standing, link = FollowerState(), 0
    most = Settings().superseded_runs
    for link in range(1, runs + 2):
        standing = follower_take_go(standing, link, link, f"{link:016x}", 1, most).state
    verdict = follower_take_go(standing, link + 1, link + 1, f"{1:016x}", 9, most)
    assert (verdict.closes == link + 1) == refused
