"""The client library's own bounds and times, each with its reason. No I/O, no logic.

What both sides of the wire rely on is in `common.limits`.
"""

from common.limits import SENDS_IN_FLIGHT_MAX

# --- the program's side -----------------------------------------------------
TEXTS_UNSETTLED_MAX = 10_000  # Texts neither kept nor refused yet; post() then blocks.
EVENTS_QUEUE_MAX = 10_000  # Events that wait for the program; then rooms are not read any more.
EVENTS_QUEUE_LOW = EVENTS_QUEUE_MAX // 2  # Reading goes on below this; halves the switching.
BURST_EVENTS_MAX = 1_000  # Handed over at once; more would make the first of them wait.
CALL_TIMEOUT_S = 10.0  # join(), who(), ...: survives a restart of the broker, not its absence.
CLOSE_S = 1.0  # close() waits this long for the last acknowledgements and for GOODBYE.

# --- a room -----------------------------------------------------------------
HELD_BATCHES_MAX = 64  # Live batches that wait for a snapshot or repair: at most 16 MiB of them.
HELD_ENTRIES_MAX = 8_192  # Small entries cost more as objects than as bytes.
PROOF_S = 2.0  # Without a beacon for this long, a subscription counts as refused.
PROOF_S_MAX = 30.0  # Asking doubles its pause up to this: a closed port stays closed.

# --- answers ----------------------------------------------------------------
SILENCE_S_MAX = 5.0  # Something is outstanding and nothing at all was answered: resume.
ANSWER_AGE_S_MAX = 15.0  # Others were answered, this one was not: resume.
RETRY_S = 1.0  # Between two HELLOs to a broker that is full or closing.
SLOW_DOWN_MS_MAX = 60_000  # A broker that asks for more than this is mistaken.
REFUSED_S_MAX = 3_600  # Who is banned for longer asks once an hour.
GAP_ECHO_S = 1.0  # After a resend, gaps reported for the first sending still arrive.

# A resume may have a JOIN for each of 1,024 rooms. More than this at once could overflow the
# queue of answers on the broker's side, which libzmq bounds at 1,000 by default.
REQUESTS_IN_FLIGHT_MAX = 256

# --- history ----------------------------------------------------------------
HISTORY_TIMEOUT_S = 3.0  # Then a fresh REQ socket asks again.
HISTORY_IDLE_S = 10.0  # Then the REQ socket is closed: a connection that idles costs 46 KB.
HISTORY_STALL_S = 0.5  # A page that brought nothing new: the same question waits this long.
HISTORY_REFUSALS_MAX = 3  # bad_ticket in a row: renewing the ticket does not help.

# --- the chat ---------------------------------------------------------------
IGNORED_MAX = 1_000  # Nicks in the file `ignored`, which is read as a whole.
ERRANDS_WAITING_MAX = 1_000  # Talks that wait to be opened; others show at the next start.
SHOWN_MAX = 2_000  # Entries that the chat can still mark as removed: several screens.
HELD_LINES_MAX = 1_000  # Of a talk that somebody began, until it is looked at; then the newest.

# --- sockets ----------------------------------------------------------------
# What is in flight is bounded already, so this high-water mark is never met.
COMMANDS_QUEUE_MAX = 1_000
# Frames waiting in SUB while the program does not read: times BATCH_BYTES_MAX, 64 MiB at worst.
ROOMS_QUEUE_MAX = 256
REPLY_BYTES_MAX = 8 * 1024 * 1024  # MEMBERS of a full room, ROOM_LIST with every topic.
PUBLICATION_BYTES_MAX = 1024 * 1024  # A batch or the presence of a tick, with room to spare.
DRAIN_FRAMES_MAX = 64  # Frames read per turn, so that acknowledgements never wait for long.
DRAIN_BYTES_MAX = 1024 * 1024  # The same, when the frames are large.
RECONNECT_MS = 100
RECONNECT_MS_MAX = 2_000  # A thousand clients must not storm a broker that comes back.
# After a cut TCP itself would send again ever more rarely, at last two minutes apart, and so be
# away for as long again as the cut was. A new connection is there as soon as the cable is.
UNACKED_MS_MAX = 10_000  # Longer than any answer that a busy broker's kernel owes.
CONNECT_MS_MAX = 3_000  # Likewise for a connection that is being made.
KEEPALIVE_IDLE_S = 10  # TCP's own probes notice a cut cable (the wire has no heartbeats here).
KEEPALIVE_INTERVAL_S = 3
KEEPALIVE_COUNT = 3
# A broker that is just ending breaks off a handshake or two; then it is asked for its key.
HANDSHAKES_BROKEN_MAX = 3
INTRODUCTION_S = 0.5  # The connection's thread waits for that; it has nothing else to do then.

# Each is on its way at most twice: a resume sends it again.
assert COMMANDS_QUEUE_MAX > 2 * (REQUESTS_IN_FLIGHT_MAX + SENDS_IN_FLIGHT_MAX)
assert EVENTS_QUEUE_LOW < EVENTS_QUEUE_MAX
assert SILENCE_S_MAX < ANSWER_AGE_S_MAX

# Removals of a room that a client remembers: the broker says each more than once, of 64 at most.
REMOVED_MAX = 256
