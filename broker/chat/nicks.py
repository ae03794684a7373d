"""Who owns which nick. Pure: time comes in, and what the store is to write goes out.

A nick belongs to the first key that took it, with all that looks like it, until nobody has used
it for some days or an operator frees it. Only an identity that is proved, the public key of a
CURVE client, owns a nick. Without keys a nick is held by those who are there, which is the
business of `broker.chat.sessions`. PROTOCOL.md, "Names"; ADR 0027.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from broker.chat.lookalikes import Lookalikes, key_of, looks
from broker.log.rights_records import NickRecord
from common.errors import Code, Refused
from common.names import fold

DAY_MS = 86_400_000
NICK_DAYS = 90.0  # A nick outlives a long holiday, or a project elsewhere.
PROVED_BYTES = 32  # A CURVE key; the digest of an owner's secret is shorter, and proves little.
NICKS_PER_IDENTITY_MAX = 8  # A person has one or two, a bot a few.
NICKS_MAX = 16_384  # Four for each client of a broker with default settings.
NICKS_MANY = NICKS_MAX * 9 // 10  # Then the operator is told.
LOOKS_FOR_ROOM = 64  # So many names are looked at for one that can give way to another.
# A use this little newer than the one noted changes nothing: who reconnects writes nothing.
USE_STEP_MS = 3_600_000

RESERVED = (
    "hubbub",
    "system",
    "server",
    "broker",
    "operator",
    "admin",
    "administrator",
    "moderator",
)
_RESERVED_LOOKS = {key_of(name): name for name in RESERVED}


class NickChange(NamedTuple):
    """What the row of this nick is to be; with the identity b"" there is to be none."""

    nick: str
    identity: bytes
    used_ms: int


class _Entry:
    __slots__ = ("identity", "is_tried", "key", "nick", "used_ms")

    def __init__(self, record: NickRecord) -> None:
        self.nick, self.identity, used_ms = record
        self.used_ms = abs(used_ms)
        self.is_tried = used_ms < 0  # Taken once; nothing was said under it, and nobody came back.
        self.key = key_of(record.nick)


def check_reserved(nick: str) -> None:
    """Raise `Refused(nick_reserved)` for a nick that is, or looks like, one of `RESERVED`."""
    for look in looks(nick):
        if look in _RESERVED_LOOKS:
            detail = f"only an operator may go by {nick}: {_RESERVED_LOOKS[look]} is reserved"
            raise Refused(Code.NICK_RESERVED, detail)


class Register:
    """All nicks that have an owner.

    Times are milliseconds since 1970. Where the clock can jump, give the log's retention clock:
    a jump of a year would free every nick.
    """

    def __init__(self, records: Iterable[NickRecord] = (), *, nick_days: float = NICK_DAYS) -> None:
        """Take over what the store has, in any order.

        Nicks of two owners can have become alike since, by another table of look-alikes. Then the
        record that is older by its last use stays, and the other is given up, as are the longest
        unused beyond the bounds. `take_changes` tells of it.
        """
        self.nick_days = nick_days
        self._entries: dict[str, _Entry] = {}  # By key; the longest unused first.
        self._of: dict[bytes, dict[str, _Entry]] = {}  # The same for each identity.
        self._lookalikes: Lookalikes[_Entry] = Lookalikes()
        self._tried: dict[str, _Entry] = {}  # Those of them that were only tried.
        self.is_here: Callable[[str], bool] = lambda _: False  # Whether somebody goes by a nick.
        self._changed: dict[str, NickChange] = {}  # By spelling, as the rows of the store.
        self._promised: set[str] = set()  # Those of them that somebody is about to be told of.
        for record in sorted(records, key=lambda record: (abs(record.used_ms), record)):
            self._load(record)

    def __len__(self) -> int:
        return len(self._entries)

    def records(self) -> list[NickRecord]:
        """Return all of them, the longest unused first."""
        return [
            NickRecord(each.nick, each.identity, each.used_ms) for each in self._entries.values()
        ]

    def claim(self, nick: str, identity: bytes, now_ms: int, *, is_operator: bool = False) -> bool:
        """Give the nick to the identity, or note that it uses it; tell whether it owns it now.

        `nick` has passed `check_nick`. Nobody comes to own a nick without a proved identity, nor
        while the register is full of names that are used: else whoever makes keys by the thousand
        would push everybody out, and then take whose nick they like. Names that were only tried
        give way. Of an identity with too many nicks the longest unused gives way. Raises `Refused`
        as `check`, and then changes nothing.
        """
        self.check(nick, identity, is_operator=is_operator)
        if len(identity) != PROVED_BYTES:
            return False
        own = self._entries.get(key_of(nick))
        if own is not None and own.nick == nick:
            self._use(own, now_ms)
            return True
        entry = _Entry(NickRecord(nick, identity, now_ms))
        entry.is_tried = own is None or own.is_tried
        if own is not None:
            self._forget(own)  # Another spelling is another row.
        elif (
            len(self._entries) >= NICKS_MAX
            and not self._is_at_most(identity)
            and not self._make_room()
        ):
            return False
        self._add(entry)
        return True

    def is_new(self, nick: str, identity: bytes) -> bool:
        """Tell whether an identity that may go by a nick would come to own it by that."""
        return len(identity) == PROVED_BYTES and key_of(nick) not in self._entries

    def spoke(self, nick: str, identity: bytes) -> None:
        """Note that the identity says something under the nick: it is more than tried."""
        entry = self._exactly(nick)
        if entry is not None and entry.identity == identity and entry.is_tried:
            self._settle(entry)
            self._note_entry(entry)

    def check(self, nick: str, identity: bytes, *, is_operator: bool = False) -> None:
        """See that the identity may go by the nick; nothing changes.

        Raises `Refused`: `nick_reserved`, `nick_taken`, `nick_invalid`.
        """
        if not is_operator:
            check_reserved(nick)
        if len(identity) != PROVED_BYTES:
            return
        for entry in self._lookalikes.alike(nick):
            if entry.identity != identity:
                raise Refused(Code.NICK_TAKEN, _taken(nick, entry.nick))

    def hold(self, nick: str, identity: bytes, now_ms: int, *, is_operator: bool = False) -> None:
        """Note that somebody is here by the nick; where nobody owns it any more, they do again.

        But no other nick of theirs gives way to that: of many in use, each would in turn.
        """
        if len(identity) != PROVED_BYTES:
            return
        entry = self._exactly(nick)
        if entry is not None:
            if entry.identity == identity:
                self._use(entry, now_ms)
        elif not self._is_at_most(identity):
            with contextlib.suppress(Refused):  # One that looks like it has another owner now.
                self.claim(nick, identity, now_ms, is_operator=is_operator)

    def touch(self, nick: str, identity: bytes, now_ms: int) -> None:
        """Note that the identity uses the nick still, if it owns it. `claim` does so itself."""
        entry = self._exactly(nick)
        if entry is not None and entry.identity == identity:
            self._use(entry, now_ms)

    def owner_of(self, nick: str) -> bytes | None:
        """Return who owns exactly this nick, in any of its forms; a look-alike is not enough."""
        entry = self._exactly(nick)
        return entry.identity if entry is not None else None

    def nicks_of(self, identity: bytes) -> tuple[str, ...]:
        """Return the nicks that the identity owns, the longest unused first."""
        return tuple(entry.nick for entry in self._of.get(identity, {}).values())

    def free(self, nick: str) -> bytes | None:
        """Take exactly this nick from its owner; return who that was, if anybody."""
        entry = self._exactly(nick)
        if entry is None:
            return None
        self._forget(entry)
        self._promised.add(entry.nick)
        return entry.identity

    def expire(self, now_ms: int) -> None:
        """Free the nicks that nobody has used for `nick_days`."""
        before_ms = now_ms - self.nick_days * DAY_MS
        while self._entries:
            longest_unused = next(iter(self._entries.values()))
            if longest_unused.used_ms >= before_ms:
                break
            self._forget(longest_unused)

    def take_promised(self) -> list[NickChange]:
        """Return, and forget, the changes that are to be on the disk before anybody is told.

        That is who came to own a nick, and what an operator freed. That a nick was used can wait.
        """
        promised, self._promised = self._promised, set()
        return [self._changed.pop(nick) for nick in sorted(promised)]

    def take_changes(self) -> list[NickChange]:
        """Return, and forget, what the store is to write: at most one change for each nick."""
        changes, self._changed = list(self._changed.values()), {}
        self._promised.clear()
        return changes

    def _make_room(self) -> bool:
        """Let the oldest name that was only tried, and that nobody goes by now, give way."""
        for _ in range(min(len(self._tried), LOOKS_FOR_ROOM)):
            oldest = next(iter(self._tried.values()))
            if not self.is_here(oldest.nick):
                self._forget(oldest)
                self._promised.add(oldest.nick)  # With whom it gives way to.
                return True
            self._tried[oldest.key] = self._tried.pop(oldest.key)
        return False

    def _is_at_most(self, identity: bytes) -> bool:
        """Tell whether an identity has as many nicks as it may have."""
        return len(self._of.get(identity, ())) >= NICKS_PER_IDENTITY_MAX

    def _load(self, record: NickRecord) -> None:
        try:
            entry = _Entry(record)
            others = list(self._lookalikes.alike(record.nick))
        except Refused:  # Allowed once, by another version of Unicode.
            self._note(record.nick, b"", 0)
            return
        if any(each.identity != record.identity for each in others):
            self._note(record.nick, b"", 0)
            return
        same = self._entries.get(entry.key)
        if same is not None:
            self._forget(same)
        elif len(self._entries) >= NICKS_MAX and not self._make_room():
            self._forget(next(iter(self._entries.values())))
        self._add(entry)
        self._changed.pop(record.nick, None)  # The store has it.
        self._promised.discard(record.nick)

    def _exactly(self, nick: str) -> _Entry | None:
        try:
            entry = self._entries.get(key_of(nick))
        except Refused:
            return None  # Nobody can have such a nick.
        return entry if entry is not None and fold(entry.nick) == fold(nick) else None

    def _add(self, entry: _Entry) -> None:
        own = self._of.setdefault(entry.identity, {})
        if len(own) >= NICKS_PER_IDENTITY_MAX:
            self._forget(next(iter(own.values())))
        self._entries[entry.key] = own[entry.key] = entry
        if entry.is_tried:
            self._tried[entry.key] = entry
        self._lookalikes.add(entry.nick, entry)
        self._note_entry(entry)
        self._promised.add(entry.nick)

    def _use(self, entry: _Entry, now_ms: int) -> None:
        if now_ms - entry.used_ms < USE_STEP_MS:
            return
        entry.used_ms = now_ms
        self._settle(entry)
        for entries in (self._entries, self._of[entry.identity]):
            del entries[entry.key]
            entries[entry.key] = entry
        self._note_entry(entry)

    def _settle(self, entry: _Entry) -> None:
        entry.is_tried = False
        self._tried.pop(entry.key, None)

    def _forget(self, entry: _Entry) -> None:
        del self._entries[entry.key]
        self._tried.pop(entry.key, None)
        own = self._of[entry.identity]
        del own[entry.key]
        if not own:
            del self._of[entry.identity]
        self._lookalikes.discard(entry.nick, entry)
        self._note(entry.nick, b"", 0)

    def _note_entry(self, entry: _Entry) -> None:
        used_ms = -entry.used_ms if entry.is_tried else entry.used_ms
        self._note(entry.nick, entry.identity, used_ms)

    def _note(self, nick: str, identity: bytes, used_ms: int) -> None:
        self._changed[nick] = NickChange(nick, identity, used_ms)


def _taken(nick: str, taken: str) -> str:
    if fold(nick) == fold(taken):
        return f"{taken} belongs to somebody else"
    return f"{nick} looks like {taken}, which belongs to somebody else"
