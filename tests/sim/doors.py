"""The judge's book of keys, orders and removals: what was answered with DONE, and so is so.

Nothing of the product is imported here. Only what is certain stands in the book: an order makes
what it is about uncertain from the moment it is sent, and certain again when it is answered. So
whoever is out for certain must hear nothing, wherever the broker is in what it does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.sim.log_file import Witness, decode

WELCOME, RENAMED, JOINED, DONE, TABLE, ERROR = 130, 132, 133, 139, 142, 192
OPERATOR = "operator"
# Refusals before anything is done.
HARMLESS = {"forbidden", "no_such_nick", "not_member", "slow_down", "no_session", "closing"}
# What is true of a person's place in a room: in it or invited, a moderator, or out of it.
IN, MODERATOR, NO_MODERATOR, OUT = "in", "moderator", "no moderator", "out"
MODERATOR_ROLE = 2

Fact = tuple[str, str, str]  # What, which room, and who; nobody for what is true of the room.
Value = str | int | bool


class _Attempt:
    """An order on its way, and what was certain before."""

    def __init__(self, room: str, action: str, person: str | None, value: int) -> None:
        self.room = room
        self.action = action
        self.person = person  # None: the judge does not know whose nick it is.
        self.value = value
        self.sent_count = 0
        self.before: dict[Fact, Value] = {}


class Dropped(NamedTuple):
    """A text that an operator removed."""

    room: str
    seq: int
    start: int  # Of the broker that said so, counted.


class Known:
    """What is certain; with a log that is put back, so is what was certain then."""

    def __init__(self) -> None:
        self.facts: dict[Fact, Value] = {}
        self.touched: dict[str, set[str]] = {}  # Who may ever have had a place in a room.
        self.nicks: dict[str, str] = {}  # The person whose a nick is.
        self.dropped: dict[str, Dropped] = {}

    def copy(self) -> Known:
        """Return the same knowledge, for a backup."""
        other = Known()
        other.facts = dict(self.facts)
        other.touched = {room: set(people) for room, people in self.touched.items()}
        other.nicks = dict(self.nicks)
        other.dropped = dict(self.dropped)
        return other


class Doors:
    """What is certain of doors, roles and nicks. Asks `witness()` which log there is now."""

    def __init__(self, witness: Callable[[], Witness], blame: Callable[[str], None]) -> None:
        self.known = Known()
        self.people: dict[str, str] = {}  # Whose each client is.
        self.keys: dict[str, bytes] = {}  # Of people.
        self.are_nicks_written = True  # Else who came may own the nick, or not.
        self.start = 0  # How often the broker was started.
        self._witness = witness
        self._blame = blame
        self._tried: set[tuple[str, str]] = set()  # Names that were in a JOIN, and whose.
        self._joins: dict[tuple[str, int], str] = {}
        self._attempts: dict[tuple[str, int], _Attempt] = {}
        self._drops: dict[int, tuple[str, str, int]] = {}  # By request: text, room, seq.

    # --- what programs ask for ----------------------------------------------
    def came(self, who: str, person: str, key: bytes) -> None:
        """Note whose a client is."""
        self.people[who] = person
        self.keys[person] = key

    def joins(self, who: str, number: int, name: str) -> None:
        """Note a JOIN that is sent."""
        self._tried.add((name, self.people[who]))
        self._joins[who, number] = name

    def orders(self, who: str, number: int, given: tuple[str, str, str, int]) -> None:
        """Note an order that is sent, perhaps once more: what it is about is open from here on.

        given: the room's name, what is to be done there, about which nick, and the value.
        """
        name, action, nick, value = given
        attempt = self._attempts.get((who, number))
        if attempt is None:
            person = self.known.nicks.get(nick)
            attempt = self._attempts[who, number] = _Attempt(name, action, person, value)
        attempt.sent_count += 1
        self._loosen(attempt)

    def drops(self, number: int, text: str, room: str, seq: int) -> None:
        """Note that an operator asks for a text to be removed."""
        self._witness().drops.add(text)
        self._drops[number] = text, room, seq

    def _loosen(self, attempt: _Attempt) -> None:
        for room in self._witness().called(attempt.room):
            for fact in list(self.known.facts):
                if self._concerns(attempt, room, fact):
                    attempt.before.setdefault(fact, self.known.facts.pop(fact))
            if attempt.person is not None and attempt.action in ("invite", "op"):
                self.known.touched.setdefault(room, set()).add(attempt.person)

    def _concerns(self, attempt: _Attempt, room: str, fact: Fact) -> bool:
        """Tell whether an order may change a fact of a room."""
        what, where, who = fact
        kinds = {
            "private": ("closed", "place"),
            "public": ("closed", "place"),
            "ban": ("ban", "place"),
            "unban": ("ban",),
            "mute": ("mute",),
            "unmute": ("mute",),
            "slow": ("slow",),
            "kick": (),
        }.get(attempt.action, ("place",))
        is_about = not who or attempt.person in (None, who)
        is_about |= attempt.action in ("private", "public")
        return where == room and what in kinds and is_about

    # --- what the broker answers --------------------------------------------
    def replied(self, who: str, frames: list[bytes]) -> None:
        """Take an answer of the broker, as it leaves."""
        code = frames[0][4]
        if code in (DONE, TABLE, ERROR, WELCOME, RENAMED, JOINED):
            number, word = decode(frames[1])[:2]
            if who == OPERATOR:
                self._operated(number, is_done=code == TABLE)
            elif code == DONE:
                self._done(who, number, word)
            elif code == ERROR:
                self._refused(who, number, word)
            elif code == JOINED:
                self._let_in(who, word)
            else:
                self._called(who, word)

    def _operated(self, number: int, *, is_done: bool) -> None:
        text, room, seq = self._drops.pop(number)
        if is_done:
            self.known.dropped[text] = Dropped(room, seq, self.start)

    def _called(self, who: str, nick: str) -> None:
        """Check that a nick belongs to whoever had it first; without a key nobody owns one."""
        person = self.people[who]
        if not self.keys[person]:
            return
        owner = self.known.nicks.get(nick, person)
        if owner != person:
            self._blame(f"{who} is {nick}, which belongs to {owner}")
        if self.are_nicks_written:
            self.known.nicks[nick] = person

    def _let_in(self, who: str, name: str) -> None:
        why = self.why_out(who, name)
        if why:
            self._blame(f"{who} is let into {name}: {why}")

    def _refused(self, who: str, number: int, code: str) -> None:
        name = self._joins.get((who, number))
        if name is not None and code == "not_invited":
            place = self._fact("place", self._witness().room(name), self.people[who])
            if place in (IN, MODERATOR) and self._fact("closed", self._witness().room(name)):
                self._blame(f"{who} is not let into {name}, and has a place there")
        attempt = self._attempts.pop((who, number), None)
        if attempt is None:
            return
        if code not in HARMLESS or attempt.sent_count > 1:
            self._spoil(attempt)
        else:
            for fact, value in attempt.before.items():
                if not self._is_open(fact):
                    self.known.facts.setdefault(fact, value)

    def _done(self, who: str, number: int, name: str) -> None:
        attempt = self._attempts.pop((who, number), None)
        if attempt is not None:
            self._spoil(attempt)
        witness = self._witness()
        if attempt is None or name not in witness.now or len(witness.called(name)) > 1:
            return  # Of several rooms of a name it may be any: one may just have got another.
        room, person = witness.now[name], attempt.person or ""
        if attempt.action == "private":
            tried = {each for known, each in self._tried if known in witness.had[room]}
            self.known.touched.setdefault(room, set()).update(tried)
        orders: dict[str, dict[Fact, Value]] = {
            "private": {("closed", room, ""): True},
            "public": {("closed", room, ""): False},
            "invite": {("place", room, person): IN},
            "uninvite": {("place", room, person): OUT},
            "ban": {("ban", room, person): True, ("place", room, person): OUT},
            "unban": {("ban", room, person): False},
            "mute": {("mute", room, person): True},
            "unmute": {("mute", room, person): False},
            "op": {("place", room, person): MODERATOR},
            "deop": {("place", room, person): NO_MODERATOR},
            "slow": {("slow", room, ""): attempt.value},
        }
        for fact, value in orders.get(attempt.action, {}).items():
            if (not fact[2] and fact[0] not in ("closed", "slow")) or self._is_open(fact):
                continue
            self.known.facts[fact] = value

    def _spoil(self, attempt: _Attempt) -> None:
        """Trust no more in what was certain before, for an order may have been carried out."""
        for room in self._witness().called(attempt.room):
            for other in self._attempts.values():
                for fact in [each for each in other.before if self._concerns(attempt, room, each)]:
                    del other.before[fact]

    def _is_open(self, fact: Fact) -> bool:
        """Tell whether an order is on its way that may change a fact."""
        return any(
            self._concerns(attempt, fact[1], fact)
            for attempt in self._attempts.values()
            if fact[1] in self._witness().called(attempt.room)
        )

    def _fact(self, what: str, room: str, person: str = "") -> Value | None:
        return self.known.facts.get((what, room, person))

    # --- what is certain ----------------------------------------------------
    def why_out(self, who: str, name: str) -> str:
        """Return why a client must hear nothing of the room that has a name now; empty: it may."""
        room, person = self._witness().room(name), self.people[who]
        if self._fact("ban", room, person):
            return f"{person} is banned there"
        if not self._fact("closed", room):
            return ""
        if self._fact("place", room, person) == OUT:
            return f"{person} was sent out of it"
        is_stranger = person not in self.known.touched.get(room, ())
        return f"{person} never had a place there" if is_stranger else ""

    def is_mute(self, who: str, room: str) -> bool:
        """Tell whether somebody may say nothing in a room."""
        return bool(self._fact("mute", room, self.people[who]))

    def restored(self, known: Known) -> None:
        """Know again what was certain when a backup was made; what is on its way stays open."""
        self.known = known.copy()
        for attempt in self._attempts.values():
            self._loosen(attempt)

    def settle(self, busy: set[str]) -> None:
        """Forget what is on its way no more: of all who have no commands under way."""
        for who, number in [each for each in self._attempts if each[0] not in busy]:
            self._spoil(self._attempts.pop((who, number)))

    def file(self, path: Path) -> None:
        """Check that all that was answered with DONE is written down."""
        names = {room: name for name, room in self._witness().now.items()}
        for room in [room for what, room, _ in self.known.facts if what == "closed"]:
            is_closed = names[room].startswith("+")
            if is_closed != self._fact("closed", room):
                self._blame(f"{room} is {names[room]}, whatever was said of it")
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            for wrong in self._wrong(database, names):
                self._blame(f"not written down: {wrong}")

    def _wrong(self, database: sqlite3.Connection, names: dict[str, str]) -> Iterator[str]:
        roles = {
            (room, identity): role
            for room, identity, role in database.execute("SELECT room, identity, role FROM members")
        }
        sanctions = set(database.execute("SELECT room, kind, identity FROM sanctions"))
        slow = dict(database.execute("SELECT room, slow_s FROM room_facts"))
        for (what, room, person), value in self.known.facts.items():
            name, key = names[room], self.keys.get(person, b"")
            role = roles.get((name, key))
            found: Value = value  # Whether it is closed its name tells.
            if what in ("ban", "mute"):
                found = (name, what, key) in sanctions
            elif what == "place":
                found = _place(role, str(value))
            elif what == "slow":
                found = slow.get(name, 0)
            if found != value:
                yield f"{what} of {person or 'everybody'} in {room} is {found}, not {value}"
        owners = dict(database.execute("SELECT nick, identity FROM nicks"))
        for nick, person in self.known.nicks.items():
            if owners.get(nick) != self.keys[person]:
                yield f"{nick} belongs to {person}"

    def remains(self, folder: Path) -> None:
        """Check that nothing that was removed is in any file of a log that was stopped."""
        for path in sorted(folder.iterdir()):
            content = path.read_bytes()
            for text in self.known.dropped:
                if packed(text) in content:
                    self._blame(f"{text} was removed, and is in {path.name}")


def packed(text: str) -> bytes:
    """Return a text as MessagePack has it: with its size, so that no longer one has it inside."""
    data = text.encode()
    head = bytes([0xA0 | len(data)]) if len(data) < 32 else bytes([0xD9, len(data)])
    return head + data


def _place(role: int | None, value: str) -> str:
    """Return what is so of a role, in the words of what was told of it."""
    if value == IN:
        return OUT if role is None else IN
    if value == NO_MODERATOR:
        return MODERATOR if role == MODERATOR_ROLE else NO_MODERATOR
    if value == MODERATOR:
        return MODERATOR if role == MODERATOR_ROLE else NO_MODERATOR
    return OUT if role is None else IN
