"""Each bound has a test that meets it: which one, bound by bound."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import tests

ROOT = Path(tests.__file__).parent.parent
BOUND = re.compile(r"[A-Z][A-Z_]*_(MAX|MIN|LOW)(: Final)?$|COMMAND_FRAMES$|TOKEN_BYTES$|KEY_BYTES$")
MODULES = (
    "common/certificates.py",
    "common/limits.py",
    "common/private_files.py",
    "client/limits.py",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "broker").rglob("*.py")),
)

RELOADS = "tests/unit/test_reloads.py"
REMOVALS = "tests/unit/test_removals.py"
ADMIN_ROOMS = "tests/unit/test_admin_rooms.py"
ADMIN_SOCKET = "tests/unit/test_admin_socket.py"
BAD_INPUT = "tests/integration/test_bad_input.py"
ENDPOINTS = "tests/integration/test_bounds.py"
GREEDY = "tests/integration/test_greedy_readers.py"
OF_BROKER = "tests/unit/test_bounds_broker.py"
OF_CLIENT = "tests/unit/test_bounds_client.py"
CERTIFICATES = "tests/unit/test_certificates.py"
CURVE = "tests/integration/test_curve.py"
CLOSED_ROOMS = "tests/unit/test_closed_rooms.py"
CLIENT_SOCKETS = "tests/unit/test_client_sockets.py"
COMMANDS = "tests/unit/test_core_commands.py"
CONNECTIONS = "tests/unit/test_connections.py"
DOOR = "tests/unit/test_door.py"
DRAINS = "tests/unit/test_drains.py"
EXPORTER = "tests/unit/test_exporter.py"
FLOODS = "tests/unit/test_floods.py"
HISTORY_ANSWER = "tests/unit/test_history_answer.py"
LOG_WRITER = "tests/unit/test_log_writer.py"
MAINTENANCE = "tests/unit/test_maintenance.py"
NAMES = "tests/unit/test_names.py"
NETWORK = "tests/faults/test_network.py"
NICKS = "tests/unit/test_nicks.py"
OPERATOR = "tests/integration/test_broker_process.py"
ORDERS = "tests/unit/test_orders.py"
ORDER_COMMANDS = "tests/unit/test_order_commands.py"
OUTBOX = "tests/unit/test_outbox.py"
QUEUES = "tests/unit/test_queues.py"
REPLICA = "tests/unit/test_replica.py"
RIGHTS = "tests/unit/test_rights.py"
RIGHTS_STORE = "tests/unit/test_rights_store.py"
ROOMS = "tests/unit/test_rooms.py"
SEGMENTS = "tests/unit/test_segments.py"
SESSION = "tests/unit/test_session.py"
SESSIONS = "tests/unit/test_sessions.py"
TALKS = "tests/unit/test_talks.py"
ZAP = "tests/unit/test_zap.py"
WIRE = "tests/unit/test_wire.py"

# Module, constant, and where what happens at the bound is shown: file and test.
MET = {
    "common/certificates.py": {
        "FILE_BYTES_MAX": (
            CERTIFICATES,
            "test_a_certificate_as_long_as_allowed_is_read_and_no_longer_one",
        ),
    },
    "common/private_files.py": {
        "TRIES_MAX": (
            "tests/unit/test_private_files.py",
            "test_a_file_that_comes_and_goes_is_not_waited_for",
        ),
    },
    "common/limits.py": {
        "TOKEN_BYTES": (BAD_INPUT, "test_wrong_frames_are_answered"),
        "OWNER_BYTES_MIN": (WIRE, "test_fields_out_of_bounds_do_not_decode"),
        "OWNER_BYTES_MAX": (WIRE, "test_fields_out_of_bounds_do_not_decode"),
        "KEY_BYTES": (BAD_INPUT, "test_foreign_subscriptions_receive_nothing"),
        "NUMBER_MAX": (COMMANDS, "test_numbers_up_to_the_largest_are_taken"),
        "NICK_CHARS_MAX": (NAMES, "test_length_counts_before_and_after_folding"),
        "ROOM_CHARS_MAX": (NAMES, "test_length_counts_before_and_after_folding"),
        "NAME_MARKS_MAX": (NAMES, "test_as_many_accents_as_allowed_are_taken"),
        "COMMAND_FRAMES": (BAD_INPUT, "test_wrong_frames_are_answered"),
        "COMMAND_BYTES_MAX": (ENDPOINTS, "test_a_frame_as_large_as_allowed_and_one_that_is_larger"),
        "RELOAD_S_MAX": (RELOADS, "test_a_supervisor_that_is_silent_is_told_of_in_time"),
        "TEXT_CHARS_MAX": (BAD_INPUT, "test_payloads_that_are_not_a_send_are_refused"),
        "TOPIC_CHARS_MAX": (
            "tests/unit/test_core_posts.py",
            "test_a_bad_text_refuses_the_whole_send",
        ),
        "SEND_TEXTS_MAX": ("tests/unit/test_core_posts.py", "test_a_send_has_so_many_texts_in_all"),
        "SEND_POSTS_MAX": (OF_BROKER, "test_a_send_of_too_many_posts_is_a_bad_payload"),
        "SENDS_IN_FLIGHT_MAX": (
            "tests/unit/test_core_numbers.py",
            "test_an_older_number_is_not_kept",
        ),
        "ACTION_CHARS_MAX": (ORDERS, "test_orders_that_there_are_not_are_refused"),
        "REASON_CHARS_MAX": (ORDERS, "test_a_reason_is_a_line"),
        "ROOMS_PER_SESSION_MAX": (BAD_INPUT, "test_too_many_rooms_for_one_client"),
        "BATCH_BYTES_MAX": (ROOMS, "test_a_batch_that_is_filled_to_the_last_byte_is_not_too_long"),
        "BATCH_ENTRIES_MAX": (ROOMS, "test_no_batch_passes_its_limits_when_encoded"),
        "PRESENCE_NAMES_MAX": (COMMANDS, "test_a_big_room_is_joined_with_a_count"),
        "ROOMS_PAGE_MAX": (COMMANDS, "test_rooms_are_listed_page_by_page"),
        "ROOMS_BYTES_MAX": (COMMANDS, "test_a_list_of_rooms_is_bounded_in_bytes"),
        "HISTORY_ENTRIES_MAX": (
            HISTORY_ANSWER,
            "test_each_fault_has_its_code_and_the_requests_id",
        ),
        "HISTORY_BYTES_MAX": (
            "tests/unit/test_log_contract.py",
            "test_a_page_ends_after_the_batch_that_makes_it_too_large",
        ),
    },
    "client/limits.py": {
        "ERRANDS_WAITING_MAX": (
            ORDER_COMMANDS,
            "test_so_many_errands_wait_and_a_failing_one_ends_nothing",
        ),
        "HELD_LINES_MAX": (ORDER_COMMANDS, "test_of_a_silent_talk_the_newest_lines_are_held"),
        "IGNORED_MAX": (ORDER_COMMANDS, "test_so_many_can_be_ignored"),
        "REMOVED_MAX": (REMOVALS, "test_so_many_removals_are_remembered"),
        "SHOWN_MAX": (ORDER_COMMANDS, "test_so_many_entries_can_be_marked"),
        "TEXTS_UNSETTLED_MAX": (QUEUES, "test_texts_are_bounded_and_wait_for_room"),
        "EVENTS_QUEUE_MAX": (QUEUES, "test_a_full_queue_says_so_and_signals_when_it_is_read"),
        "EVENTS_QUEUE_LOW": (QUEUES, "test_a_full_queue_says_so_and_signals_when_it_is_read"),
        "BURST_EVENTS_MAX": (OF_CLIENT, "test_a_burst_has_so_many_events"),
        "HELD_BATCHES_MAX": (REPLICA, "test_what_is_held_is_bounded_and_the_rest_is_repaired"),
        "HELD_ENTRIES_MAX": (REPLICA, "test_held_entries_are_bounded_too"),
        "PROOF_S_MAX": (OF_CLIENT, "test_a_pause_between_proofs_doubles_up_to_a_bound"),
        "SILENCE_S_MAX": (SESSION, "test_silence_leads_to_a_resume"),
        "ANSWER_AGE_S_MAX": (SESSION, "test_one_answer_that_never_comes_leads_to_a_resume_too"),
        "REFUSED_S_MAX": (SESSION, "test_a_ban_ends_by_itself"),
        "SLOW_DOWN_MS_MAX": (OUTBOX, "test_a_mistaken_wait_is_bounded"),
        "REQUESTS_IN_FLIGHT_MAX": (
            SESSION,
            "test_many_rooms_are_joined_again_in_portions_and_before_the_texts",
        ),
        "HISTORY_REFUSALS_MAX": (
            OF_CLIENT,
            "test_a_ticket_that_is_refused_again_and_again_fails_the_call",
        ),
        "COMMANDS_QUEUE_MAX": (OF_CLIENT, "test_the_queues_of_the_sockets_have_their_bounds"),
        "ROOMS_QUEUE_MAX": (OF_CLIENT, "test_the_queues_of_the_sockets_have_their_bounds"),
        "REPLY_BYTES_MAX": (OF_CLIENT, "test_an_answer_beyond_the_bound_ends_the_connection"),
        "PUBLICATION_BYTES_MAX": (
            OF_CLIENT,
            "test_a_publication_beyond_the_bound_is_never_read",
        ),
        "DRAIN_FRAMES_MAX": (OF_CLIENT, "test_a_turn_reads_so_many_replies"),
        "DRAIN_BYTES_MAX": (OF_CLIENT, "test_a_turn_reads_so_many_frames_and_bytes"),
        "HANDSHAKES_BROKEN_MAX": (
            OF_CLIENT,
            "test_after_so_many_broken_handshakes_the_key_is_asked_for",
        ),
        "RECONNECT_MS_MAX": (CLIENT_SOCKETS, "test_clients_do_not_come_back_all_at_once"),
        "UNACKED_MS_MAX": (NETWORK, "test_after_a_long_cut_nobody_waits_for_tcp"),
        "CONNECT_MS_MAX": (
            CLIENT_SOCKETS,
            "test_a_connection_that_does_not_come_about_is_given_up",
        ),
    },
    "broker/maintenance/backup.py": {
        "TRIES_MAX": ("tests/unit/test_backup.py", "test_a_copy_is_tried_so_often"),
    },
    "broker/chat/late_audits.py": {
        "WAITING_MAX": ("tests/unit/test_late_audits.py", "test_so_many_wait_and_no_more"),
    },
    "broker/host/bouncer.py": {
        "DESCRIPTORS_MAX": (DOOR, "test_the_bouncer_keeps_nothing_that_it_inherits"),
    },
    "broker/maintenance/checkup.py": {
        "TRIES_MAX": (MAINTENANCE, "test_check_looks_so_often_when_retention_outruns_it"),
        "INTEGRITY_MAX": (MAINTENANCE, "test_check_tells_what_sqlite_finds_up_to_a_bound"),
        "PROBLEMS_MAX": (MAINTENANCE, "test_check_counts_the_problems_beyond_a_bound"),
    },
    "broker/config.py": {
        "MOTD_CHARS_MAX": (
            "tests/unit/test_config.py",
            "test_a_wrong_file_is_refused_in_a_sentence_that_names_it",
        ),
    },
    "broker/host/door.py": {"EVENTS_MAX": (DOOR, "test_so_many_events_are_read_at_once")},
    "broker/metrics/exporter.py": {
        "ANSWERS_MAX": (EXPORTER, "test_so_many_are_answered_at_once"),
        "REQUEST_S_MAX": (EXPORTER, "test_those_who_say_nothing_are_hung_up_on"),
    },
    "broker/metrics/health.py": {
        "FREE_BYTES_MIN": ("tests/unit/test_health.py", "test_a_full_disk_is_not_ready"),
    },
    "broker/history.py": {
        "REQUEST_BYTES_MAX": (ENDPOINTS, "test_a_frame_as_large_as_allowed_and_one_that_is_larger"),
        "PAGES_WAITING_MAX": (GREEDY, "test_pages_that_nobody_reads_are_not_kept"),
        "PAUSE_S_MIN": (HISTORY_ANSWER, "test_pages_take_the_time_that_the_rate_gives_them"),
        "TOLD_MAX": (
            HISTORY_ANSWER,
            "test_what_is_damaged_is_told_once_and_remembered_up_to_a_bound",
        ),
    },
    "broker/live.py": {
        "DRAIN_MESSAGES_MAX": (DRAINS, "test_a_drain_ends_when_it_is_large"),
        "DRAIN_TEXTS_MAX": (DRAINS, "test_a_drain_ends_when_it_is_large"),
        "DRAIN_COMMITS_MAX": (DRAINS, "test_a_drain_ends_when_it_is_large"),
        "DRAIN_ANSWERS_BYTES_MAX": (DRAINS, "test_a_drain_ends_when_it_is_large"),
        "SUBSCRIPTION_BYTES_MAX": (
            ENDPOINTS,
            "test_a_frame_as_large_as_allowed_and_one_that_is_larger",
        ),
        "REPLIES_WAITING_MAX": (
            OF_BROKER,
            "test_answers_that_nobody_reads_are_dropped_and_counted",
        ),
        "HEARTBEAT_ANSWER_S_MAX": (
            OF_BROKER,
            "test_a_heartbeat_is_awaited_two_intervals_or_so_long",
        ),
        "FAREWELL_S_MAX": (OF_BROKER, "test_a_farewell_that_takes_too_long_is_cut_short"),
    },
    "broker/log/compaction.py": {
        "MOVED_BYTES_MAX": (OF_BROKER, "test_a_step_of_the_compaction_moves_so_much"),
        "SEEN_BATCHES_MAX": (SEGMENTS, "test_a_few_old_lines_do_not_keep_a_segment"),
    },
    "broker/log/index.py": {
        "WAITING_MAX": (LOG_WRITER, "test_an_index_that_cannot_be_written_stops_appends_in_time"),
    },
    "broker/log/reader.py": {
        "READS_MAX": (OF_BROKER, "test_a_log_that_loses_segments_again_and_again_is_told"),
    },
    "broker/log/rights_store.py": {
        "AUDIT_MAX": (RIGHTS_STORE, "test_the_audit_log_keeps_so_many_of_the_newest"),
        "AUDIT_PER_PERSON_MAX": (
            RIGHTS_STORE,
            "test_a_few_people_push_out_nobody_elses_entries",
        ),
        "SOON_MAX": (RIGHTS_STORE, "test_what_may_wait_is_bounded"),
    },
    "broker/log/retention.py": {
        "TRIM_ROOMS_MAX": (LOG_WRITER, "test_a_trim_takes_turns_and_small_bites"),
        "TRIM_BATCHES_MAX": (LOG_WRITER, "test_a_trim_takes_turns_and_small_bites"),
    },
    "broker/host/memory.py": {
        "PAUSE_LOOKS_MAX": (
            "tests/unit/test_memory.py",
            "test_a_heap_in_use_is_walked_ever_more_rarely_and_given_back_when_it_is_free",
        ),
    },
    "broker/host/ports.py": {"TRIES_MAX": (OF_BROKER, "test_the_search_for_free_ports_ends")},
    "broker/chat/floor.py": {
        "LATER_MAX": (
            "tests/unit/test_kept_first.py",
            "test_so_many_changes_wait_for_a_log_that_fails",
        ),
        "REMIND_S_MAX": (ORDERS, "test_who_does_not_come_back_is_asked_again_ever_more_rarely"),
    },
    "broker/chat/orders.py": {
        "SLOW_S_MAX": (ORDERS, "test_a_room_is_so_slow"),
    },
    "broker/chat/sanctions.py": {
        "SANCTION_S_MAX": (ORDERS, "test_a_sanction_lasts_so_long"),
    },
    "broker/chat/rights.py": {
        "MEMBERS_PER_ROOM_MAX": (RIGHTS, "test_a_closed_room_has_so_many_members"),
        "SANCTIONS_PER_ROOM_MAX": (ORDERS, "test_a_room_has_so_many_sanctions"),
        "CLOSED_PER_IDENTITY_MAX": (
            RIGHTS,
            "test_a_person_has_so_many_places_in_closed_rooms",
        ),
        "TALKS_PER_IDENTITY_MAX": (
            TALKS,
            "test_talks_and_private_rooms_have_bounds_of_their_own",
        ),
    },
    "broker/chat/talks.py": {
        "UNANSWERED_MAX": (TALKS, "test_talks_of_strangers_fill_nobodys_places"),
    },
    "broker/chat/speech.py": {
        "SPOKE_MAX": (
            "tests/unit/test_speech.py",
            "test_who_spoke_in_a_slow_room_is_forgotten_in_time",
        ),
    },
    "broker/chat/admin.py": {
        "ROWS_MAX": (ADMIN_ROOMS, "test_a_table_has_so_many_rows"),
        "TABLE_BYTES_MAX": (ADMIN_ROOMS, "test_a_table_has_so_many_bytes"),
        "RETAIN_MESSAGES_MAX": (ADMIN_ROOMS, "test_retention_takes_two_numbers"),
        "RETAIN_DAYS_MAX": (ADMIN_ROOMS, "test_retention_takes_two_numbers"),
        "TITLES_TOLD_MAX": (ADMIN_ROOMS, "test_so_many_rooms_of_one_title_are_told"),
    },
    "broker/host/admin_socket.py": {
        "MESSAGES_MAX": (ADMIN_SOCKET, "test_a_turn_takes_a_few_messages"),
        "ANSWERS_WAITING_MAX": (ADMIN_SOCKET, "test_answers_that_nobody_reads_are_dropped"),
    },
    "broker/chat/presence.py": {
        "GONE_MAX": ("tests/unit/test_presence.py", "test_after_so_many_farewells_nobody_is_old"),
    },
    "broker/log/retention_clock.py": {
        "STEP_MS_MAX": (
            "tests/unit/test_retention_clock.py",
            "test_a_step_that_is_larger_than_the_bound_is_a_jump",
        ),
    },
    "broker/log/interface.py": {
        "REMOVED_MAX": (REMOVALS, "test_so_many_removals_are_remembered"),
    },
    "broker/chat/reloads.py": {
        "WAITING_MAX": (RELOADS, "test_so_many_may_wait"),
    },
    "broker/chat/rooms.py": {
        "TOLD_S_MAX": (OF_BROKER, "test_the_larger_a_room_the_rarer_it_is_told_up_to_a_bound"),
    },
    "broker/log/segments.py": {
        "SEGMENT_BYTES_MAX": (SEGMENTS, "test_a_full_segment_is_followed_by_another"),
        "OPEN_FILES_MAX": (SEGMENTS, "test_a_reader_that_looked_before_a_segment_went_looks_again"),
    },
    "broker/chat/floods.py": {
        "KEYS_MAX": (FLOODS, "test_so_many_keys_are_remembered"),
        "ADDRESSES_MAX": (FLOODS, "test_so_many_addresses_are_remembered"),
    },
    "broker/chat/lookalikes.py": {
        "LOOKS_KEPT_MAX": ("tests/unit/test_lookalikes.py", "test_so_many_looks_are_kept"),
    },
    "broker/chat/nicks.py": {
        "NICKS_PER_IDENTITY_MAX": (NICKS, "test_an_identity_has_so_many_nicks"),
        "NICKS_MAX": (NICKS, "test_a_full_register_gives_up_no_nick"),
    },
    "broker/chat/sessions.py": {
        "MOVED_MAX": (CLOSED_ROOMS, "test_a_session_knows_so_many_former_names"),
        "SESSIONS_PER_ROUTE_MAX": (SESSIONS, "test_a_connection_has_a_few_sessions"),
    },
    "broker/allow_list.py": {
        "KEYS_MAX": ("tests/unit/test_allow_list.py", "test_a_list_is_bounded"),
        "FILE_BYTES_MAX": ("tests/unit/test_allow_list.py", "test_a_list_is_bounded"),
    },
    "broker/host/zap.py": {
        "ID_BYTES_MAX": (
            ZAP,
            "test_an_id_of_any_length_is_answered_and_a_huge_one_is_not_repeated",
        ),
    },
    "broker/introductions.py": {
        "QUESTION_BYTES_MAX": (
            CURVE,
            "test_an_introduction_tells_the_key_to_whoever_asks_whatever",
        ),
        "QUESTIONS_WAITING_MAX": (CURVE, "test_a_flood_of_questions_is_answered_at_a_pace"),
        "PER_S_MAX": (CURVE, "test_a_flood_of_questions_is_answered_at_a_pace"),
    },
    "broker/peers.py": {
        "ROUTES_MAX": ("tests/unit/test_peers.py", "test_routes_remembered_are_bounded"),
    },
    "broker/host/sockets.py": {
        "HANDSHAKE_BYTES_MAX": (ZAP, "test_a_handler_lets_in_and_keeps_out"),
        "FRAMES_KEPT_MAX": (
            OF_BROKER,
            "test_a_message_of_many_frames_is_read_to_its_end_and_mostly_dropped",
        ),
    },
    "broker/connections.py": {
        "FRAMES_BURST_MAX": (
            CONNECTIONS,
            "test_so_many_frames_at_once_and_then_so_many_a_second",
        ),
        "LEFTOVERS_MAX": (CONNECTIONS, "test_what_was_said_before_has_an_end"),
        "STRANGE_BYTES_MAX": (CONNECTIONS, "test_so_many_bytes_of_strange_topics_and_not_one_more"),
        "WRONG_FRAMES_MAX": (CONNECTIONS, "test_so_many_wrong_frames_and_not_one_more"),
    },
    "broker/subscriptions.py": {
        "SUBSCRIPTIONS_MAX": (OF_BROKER, "test_a_turn_takes_so_many_subscriptions"),
    },
    "broker/supervisor.py": {
        "START_S_MAX": (OF_BROKER, "test_a_child_that_says_nothing_has_not_started"),
        "STOP_S_MAX": (OPERATOR, "test_a_hanging_child_is_ended_all_the_same"),
        "CONSOLE_LINE_MAX": (ENDPOINTS, "test_a_console_takes_lines_of_any_length"),
        "PORT_TRIES_MAX": (OF_BROKER, "test_ports_that_others_take_meanwhile_are_tried_so_often"),
    },
}


def bounds_of(module: str) -> set[str]:
    """Return the names of the bounds that a module sets."""
    found = set()
    for node in ast.parse((ROOT / module).read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        found |= {name for name in names if BOUND.fullmatch(name)}
    return found


@pytest.mark.parametrize("module", MODULES)
def test_each_bound_has_a_test(module: str) -> None:
    """A new bound needs a test, and its row here; a row goes with its bound."""
    assert bounds_of(module) == set(MET.get(module, {}))


@pytest.mark.parametrize(
    ("file", "name"), sorted({test for rows in MET.values() for test in rows.values()})
)
def test_the_tests_of_the_bounds_exist(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text()
