"""Every bound that both sides of the wire rely on, with its reason. No I/O, no logic.

Names end in their unit. The broker's own defaults and bounds are in `broker.config`.
"""

PROTOCOL_VERSION = 1
BASE_PORT = 5555  # ROUTER; rooms (XPUB) and history (REP) follow on the next two ports.

# --- identities -------------------------------------------------------------
TOKEN_BYTES = 16  # 128 random bits: nobody guesses a session.
INBOX_LETTERS = 10  # 40 bits of the token, half a byte each: drawn alike by nobody. ADR 0018.
OWNER_BYTES_MIN = 16
OWNER_BYTES_MAX = 64
KEY_BYTES = 16  # Subscription keys and history tickets: 128 bits of a keyed BLAKE2b.
TICKET_HOURS = 24  # Then a ticket opens nothing more: JOIN brings another one.
NUMBER_MAX = 2**53 - 1  # Largest integer that every JSON and JavaScript number holds exactly.

# --- names ------------------------------------------------------------------
NICK_CHARS_MAX = 32  # Fits a terminal line beside the text.
ROOM_CHARS_MAX = 64
NAME_MARKS_MAX = 2  # Combining marks in a row; more would paint over neighbouring lines.

CLOSED_LETTERS = 24  # Of a closed room's name, half a byte each: nobody guesses one.

# --- commands ---------------------------------------------------------------
COMMAND_FRAMES = 2  # Head and payload.
COMMAND_BYTES_MAX = 64 * 1024  # One frame of a command; libzmq drops peers that exceed it.
TEXT_CHARS_MAX = 4_000  # A long paragraph. At 4 bytes a character it still fits one SEND.
TOPIC_CHARS_MAX = 300  # One line under the prompt.
SEND_TEXTS_MAX = 256  # Texts that one SEND may coalesce, in all its posts together,
SEND_POSTS_MAX = 256  # of which each has one text at least.
# From the lowest unacknowledged SEND of a session to its newest; the log remembers as many.
SENDS_IN_FLIGHT_MAX = 16
ROOMS_PER_SESSION_MAX = 1_024
ACTION_CHARS_MAX = 32  # The name of an order or of an administrator's verb.
RELOAD_S_MAX = 5  # Until an administrator hears how the settings were read again.
REASON_CHARS_MAX = 300  # Why somebody was kicked, banned, muted or reported: a line.

# --- rooms ------------------------------------------------------------------
BATCH_BYTES_MAX = 256 * 1024  # Times the publish queue: the memory that a slow reader costs.
BATCH_ENTRIES_MAX = 4_096
PRESENCE_NAMES_MAX = 256  # Above this many users a room's presence is a count, not names.
ROOMS_PAGE_MAX = 500  # Rooms in one ROOMS reply.
ROOMS_BYTES_MAX = 64 * 1024  # It ends after the room whose name and topic cross this.

# --- history ----------------------------------------------------------------
HISTORY_DEFAULT = 100  # Entries that a newcomer sees.
HISTORY_ENTRIES_MAX = 4_096  # Entries that one HISTORY may ask for.
HISTORY_BYTES_MAX = 1024 * 1024  # A page ends after the batch that crosses this.

# A post is never split, so a batch must be able to hold the largest one, a whole SEND.
assert BATCH_BYTES_MAX >= 2 * COMMAND_BYTES_MAX
assert BATCH_ENTRIES_MAX >= SEND_TEXTS_MAX >= SEND_POSTS_MAX
assert HISTORY_BYTES_MAX >= BATCH_BYTES_MAX
assert TEXT_CHARS_MAX * 4 < COMMAND_BYTES_MAX
