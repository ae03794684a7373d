"""Who judges a run: from what programs were told, and from what the disk holds. Nothing else.

Nothing of the product is imported here. What programs were told are their own books; what is in
the log is read by `tests.sim.log_file`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.sim.doors import Doors, Known
from tests.sim.log_file import (
    ORDER,
    Spoken,
    Witness,
    body_of,
    decode,
    read_batch,
    read_log,
)

BATCH = 1
ACK = 135
PAGE = 138
ERROR = 192
PASSING = {"gap", "slow_down", "no_session", "closing"}  # The number is still to come.
Told = tuple[int, str, int, str]  # Time, nick, kind, text.


class Violation(AssertionError):
    """A promise was broken; the message says which."""


class Stay:
    """A program's time in a room, from its join to its leaving: all that it heard of the room."""

    def __init__(self, who: str, room: str, history: int | None, since_ms: int | None) -> None:
        self.who = who
        self.room = room  # Its name now,
        self.names = {room}  # and all that it had meanwhile.
        self.history = history  # How many entries it asked for; None for all.
        self.since_ms = since_ms
        # Did it come back by a name that several rooms had? None but its program knows which one it
        # means, and the broker takes one in which the person has a place: what is said and heard
        # then goes on there.
        self.is_mixed = False
        self._is_asked_for = False
        self.was_joined = False
        self.is_over = False
        self.views: list[list[tuple[int, Told] | int]] = [[]]  # Entries, and how many are missing.

    def asks_again(self, witness: Witness, *, is_resume: bool) -> None:
        """Note that a JOIN goes out, perhaps once more."""
        called = witness.called(self.room)
        if is_resume:
            self.is_mixed |= len(called) > 1
        elif self._is_asked_for:  # Of what was answered to the first one it knows nothing.
            self.is_mixed |= any(room != witness.now.get(self.room) for room in called)
        self._is_asked_for = True

    def hears_entry(self, seq: int, told: Told) -> None:
        """Take an entry."""
        self.views[-1].append((seq, told))

    def hears_missing(self, count: int) -> None:
        """Take the statement that so many entries are gone."""
        self.views[-1].append(count)

    def hears_move(self, room: str) -> None:
        """Take the word that the room has another name from here on."""
        self.room = room
        self.names.add(room)

    def hears_removed(self, seq: int) -> None:
        """Take the word that an operator removed a text."""
        self.views[-1] = [
            (item[0], (*item[1][:3], "")) if isinstance(item, tuple) and item[0] == seq else item
            for item in self.views[-1]
        ]

    def hears_reset(self) -> None:
        """Take the statement that the log is another one, from here on."""
        self.views.append([])

    def __str__(self) -> str:
        return f"{self.who} in {self.room}"


class Judge:
    """Keeps the books of a run, and compares them. Every method raises `Violation`."""

    def __init__(self) -> None:
        self.witness = Witness()
        self.doors = Doors(lambda: self.witness, self.blame)
        self.eras: list[Witness] = []  # Logs that were replaced by a backup, oldest first.
        self.stays: list[Stay] = []
        self.texts: dict[str, Stay] = {}  # All that was said, and where.
        self.kept: dict[str, tuple[str, int]] = {}
        self.failed: dict[str, str] = {}
        self._refused: set[tuple[str, int]] = set()  # Names and numbers.
        self._shown: dict[str, int] = {}  # The last entry that was published of each room.
        self._failed_era: dict[str, int] = {}  # How many logs had been replaced by then.
        self._abandoned: set[str] = set()
        self.excused: set[str] = set()  # Refused while the disk could not even take it back.

    def blame(self, what: str) -> None:
        """Say that a promise is broken."""
        raise Violation(what)

    # --- what programs do and hear ------------------------------------------
    def stay(self, who: str, room: str, history: int | None, since_ms: int | None) -> Stay:
        """Open the books of a program in a room."""
        self.stays.append(Stay(who, room, history, since_ms))
        return self.stays[-1]

    def said(self, text: str, stay: Stay) -> None:
        """Note a text; each is said once."""
        self.texts[text] = stay

    def acknowledged(self, text: str, room: str, seq: int) -> None:
        """Check that what is acknowledged is durable, at the place that is told."""
        if text in self.kept or text in self.failed:
            self.blame(f"{text} was settled before")
        place = self.witness.places.get(text)
        stay = self.texts[text]
        if place is None or place[1] != seq or stay.names.isdisjoint(self.witness.had[place[0]]):
            self.blame(f"{text} is acknowledged as {room} {seq}, but not durable there")
        self.kept[text] = (room, seq)

    def refused(self, text: str, why: str) -> None:
        """Note that a text was refused."""
        if text in self.kept or text in self.failed:
            self.blame(f"{text} was settled before")
        self.failed[text] = why
        self._failed_era[text] = len(self.eras)

    def abandoned(self, text: str) -> None:
        """Note a text whose program is gone: nobody hears what became of it."""
        self._abandoned.add(text)

    @property
    def unsettled_count(self) -> int:
        """How many texts were neither kept nor refused."""
        return len(self.texts) - len(self.kept) - len(self.failed) - len(self._abandoned)

    # --- what the broker sends ----------------------------------------------
    def published(self, publication: bytes) -> None:
        """Check that what is published is durable, and in the log's order."""
        body = body_of(publication)
        if body[0] == BATCH:
            name, _, prev, first, posts = body[1:6]
            room = self.witness.room(name)
            texts = [text for post in posts for text in post[3]]
            self._durable("published", room, first, texts)
            if texts and first <= self._shown.get(room, 0):
                self.blame(f"{room} {first} is published after {self._shown[room]}")
            if texts:
                self._shown[room] = first + len(texts) - 1
            head = self.witness.head(room)
            if prev > head:
                self.blame(f"{room} is shown with the head {prev}, the log has {head}")
            for text in [text for post in posts if post[2] != ORDER for text in post[3]]:
                if text in self.texts and self.doors.is_mute(self.texts[text].who, room):
                    self.blame(f"{text} is in {room}, where its sender is muted")

    def heard(self, who: str, publication: bytes) -> None:
        """Check that somebody may hear what is published to them."""
        body = body_of(publication)
        if not publication.startswith(b"\0") and body[0] == BATCH:
            self._may_hear(who, body[1], [text for post in body[5] for text in post[3]])

    def _may_hear(self, who: str, name: str, texts: Iterable[str]) -> None:
        why = self.doors.why_out(who, name)
        if why:
            self.blame(f"{who} is sent of {name}, though {why}: {list(texts)}")

    def answered(self, who: str, frames: list[bytes]) -> None:
        """Check that every batch of a history page is durable, and the head that it names.

        And that whoever asked may read it, and nothing in it was removed.
        """
        if frames[0][4] == PAGE:
            _, name, _, _, head = decode(frames[1])[:5]
            room = self.witness.room(name)
            if head > self.witness.head(room):
                self.blame(f"history says that {room} has {head}: {self.witness.head(room)} is")
            self._may_hear(who, name, ["a page"])
        for frame in frames[2:]:
            name, _, _, first, entries = read_batch(frame)
            if name not in self.witness.had.get(room, ()):
                self.blame(f"history says that {room} has a batch of {name}")
            self._durable("read from history", room, first, [entry.text for entry in entries])
            gone = self.doors.known.dropped.keys() & {entry.text for entry in entries}
            if gone:
                self.blame(f"history has what was removed from {room}: {sorted(gone)}")

    def replied(self, who: str, frames: list[bytes]) -> None:
        """Check an answer: an ACK speaks of what is durable; "not kept" of what was refused."""
        self.doors.replied(who, frames)
        if frames[0][4] == ACK:
            for first, _, *code in decode(frames[1])[1]:
                highest = max((self.witness.head(room) for room in self.witness.rooms), default=0)
                if first > highest or (first == 0 and not any(code)):
                    self.blame(f"an ACK for {first}, and no room has more than {highest}")
        self.refusal(who, frames)

    def refusal(self, who: str, frames: list[bytes]) -> None:
        """Note that a number of somebody's was refused; check that "not kept" is no surprise."""
        if frames[0][4] == ERROR:
            number, code = decode(frames[1])[:2]
            if code == "not_kept" and (who, number) not in self._refused:
                self.blame(f"number {number} of {who} was never refused, and is not kept")
            if code not in PASSING:
                self._refused.add((who, number))

    def _durable(self, how: str, room: str, first: int, texts: Iterable[str]) -> None:
        for seq, text in enumerate(texts, first):
            if not self.witness.has(room, seq, text):
                self.blame(f"{room} {seq} is {how}, but not durable: {text}")

    # --- what the log does --------------------------------------------------
    def trimmed(self, room: str, first: int, keep: int, *, by_count_only: bool) -> None:
        """Check that retention dropped no more than it may."""
        room = self.witness.room(room)
        head = self.witness.head(room)
        if by_count_only and first > head - keep + 1:
            self.blame(f"{room} is to keep {keep} of {head}, and begins with {first}")
        self.witness.trimmed[room] = max(self.witness.trimmed.get(room, 0), first - 1)

    def restored(self, backup: Witness, known: Known) -> None:
        """Note that an operator put a backup in the log's place."""
        self.eras.append(self.witness)
        self._shown.clear()
        self.witness = backup.copy()
        self.doors.restored(known)

    def files(self, folder: Path) -> None:
        """Check the files of a log that was stopped: they hold what was durable, no less."""
        witness = self.witness
        found = {witness.by_id(room_id): kept for room_id, kept in read_log(folder).items()}
        for room, entries in self.witness.rooms.items():
            kept = found.get(room)
            if kept is None:
                self.blame(f"{room} is not in the files")
                continue
            if kept.first - 1 > self.witness.trimmed.get(room, 0):
                self.blame(f"{room} begins with {kept.first}: nobody trimmed so much")
            wanted = {seq: entry for seq, entry in entries.items() if seq >= kept.first}
            is_same = kept.entries.keys() == wanted.keys() and all(
                witness.is_text(wanted[seq], each) for seq, each in kept.entries.items()
            )
            if not is_same:
                wrong = sorted(kept.entries.items() ^ wanted.items())
                self.blame(f"the files of {room} hold something else: {wrong[:3]}")

    # --- the end ------------------------------------------------------------
    def settled(self) -> None:
        """Check what does not need anybody to be there still."""
        for era, witness in enumerate((*self.eras, self.witness)):
            self._log(witness, era)
        for stay in self.stays:
            self._views(stay)

    def _log(self, witness: Witness, era: int) -> None:
        places: dict[str, tuple[str, int]] = {}
        homes: dict[Stay, str] = {}  # The room in which all is that was said in one.
        for room, entries in witness.rooms.items():
            numbers: dict[str, int] = {}
            before_ms = 0
            for expected, (seq, spoken) in enumerate(entries.items(), 1):
                if seq != expected:
                    self.blame(f"{room} has {seq} where {expected} comes next")
                text = spoken.text
                is_first = seq - 1 <= witness.trimmed.get(room, 0)  # Nothing is before it any more.
                if spoken.ts < before_ms and not is_first:
                    self.blame(f"{room} {seq}: the time falls")
                before_ms = spoken.ts
                if spoken.kind == ORDER:
                    continue
                self._home(text, room, witness, homes)
                if text in places:
                    self.blame(f"{text} is stored as {places[text]} and as {(room, seq)}")
                # What a log had that was replaced since may be refused: the new one lacks it.
                is_refused = self._failed_era.get(text, era + 1) <= era
                if is_refused and text not in self.excused:
                    self.blame(f"{text} was refused ({self.failed[text]}), but is stored")
                sender, _, number = text.rstrip(".").partition(".")
                # Not where a room moved: what is refused by its old name is said again, later.
                if int(number) < numbers.get(sender, 0) and len(witness.had[room]) == 1:
                    self.blame(f"{room}: {text} comes after a later text of {sender}")
                numbers[sender] = int(number)
                places[text] = (room, seq)

    def _home(self, text: str, room: str, witness: Witness, homes: dict[Stay, str]) -> None:
        """Check that a text is in the room where somebody said it, with all others of theirs."""
        stay = self.texts.get(text)
        if stay is None or stay.names.isdisjoint(witness.had[room]):
            self.blame(f"{text} is in {room}, where nobody said it")
            return
        # Who left may have joined another room of that name, which gets what is unsaid. And whoever
        # missed the word that a room moved, and a crash after that, may mean any room of a name.
        is_sure = all(len(witness.called(name)) == 1 for name in stay.names)
        if is_sure and not (stay.is_over or stay.is_mixed) and homes.setdefault(stay, room) != room:
            self.blame(f"{text} of {stay} is in {room}, others are in {homes[stay]}")

    def _views(self, stay: Stay) -> None:
        """Check that each view is one log in order, without hole or duplicate."""
        if stay.is_mixed:
            return
        witnesses = [*self.eras, self.witness]
        for view in stay.views:
            entries = [item for item in view if isinstance(item, tuple)]
            wrong = ""
            # What was there before a backup is in the log that was replaced and in the one that
            # replaced it, and each has dropped what it has dropped: either may have been heard.
            while witnesses:
                fits, found = self._fits(stay, view, entries, witnesses[0])
                if fits:
                    break
                wrong = wrong or found
                witnesses.pop(0)
            if not witnesses:
                room = self.witness.room(stay.room)
                stranger = _first_wrong(entries, self.witness, room)
                self.blame(wrong or f"{stay} hears what no log has: {stranger}")

    def _fits(
        self,
        stay: Stay,
        view: list[tuple[int, Told] | int],
        entries: list[tuple[int, Told]],
        witness: Witness,
    ) -> tuple[bool, str]:
        """Tell whether a view is of a log, and if not, what is wrong about it."""
        wrong = ""
        rooms = [room for room, had in witness.had.items() if not stay.names.isdisjoint(had)]
        for room in rooms or [stay.room]:
            if _is_of(entries, witness, room):
                found = self._wrong_order(stay, view, witness.trimmed.get(room, 0))
                if not found:
                    return True, ""
                wrong = wrong or found
        return False, wrong

    def _wrong_order(self, stay: Stay, view: list[tuple[int, Told] | int], gone: int) -> str | None:
        cursor = missing = 0
        for item in view:
            if isinstance(item, int):
                missing += item
                if item < 1:
                    return f"{stay} hears that {item} are missing"
                continue
            seq = item[0]
            if cursor and seq != cursor + missing + 1:
                return f"{stay} hears {seq} after {cursor} and {missing} missing"
            if missing and (seq - 1 > gone or missing >= seq):
                return f"{stay} hears {missing} before {seq} are missing; {gone} are"
            cursor, missing = seq, 0
        return None

    def complete(self, stay: Stay, *, is_probed: bool) -> None:
        """Check that somebody who is there at the end has heard all.

        is_probed: something was said here lately, so everybody has heard something.
        """
        if stay.is_mixed:
            return
        room = self.witness.room(stay.room)
        entries, head = self.witness.rooms.get(room, {}), self.witness.head(room)
        reached = missing = 0
        heard: list[int] = []
        for item in stay.views[-1]:
            if isinstance(item, int):
                missing += item
            else:
                reached, missing = item[0], 0
                heard.append(reached)
        if (heard or is_probed) and reached + missing != head:
            self.blame(f"{stay} has heard up to {reached}, the log has {head}")
        first_kept = self.witness.trimmed.get(room, 0) + 1
        there = [seq for seq in heard if seq >= first_kept]
        if stay.since_ms is not None:
            since_ms = stay.since_ms
            wanted = [seq for seq, each in entries.items() if each.ts >= since_ms]
            wanted_count = len([seq for seq in wanted if seq >= first_kept])
        else:
            history = head if stay.history is None else stay.history
            wanted_count = min(history, head - first_kept + 1)
        if len(there) < wanted_count:
            self.blame(f"{stay} has heard {len(there)} of {wanted_count} entries")

    def removals(self, stay: Stay) -> None:
        """Check that somebody who is there at the end knows of what was removed meanwhile.

        A broker that was started since knows of none, and cannot tell.
        """
        room = self.witness.room(stay.room)
        shown = {item[1][3] for item in stay.views[-1] if isinstance(item, tuple)}
        for text, (where, seq, start) in self.doors.known.dropped.items():
            if text in shown and where == room and start == self.doors.start:
                self.blame(f"{stay} still shows {text}, which was removed: {seq}")

    def presence(self, stay: Stay, nicks: set[str], users: int, known: set[str] | None) -> None:
        """Check who is there, as a member knows it, against who is there."""
        if users != len(nicks) or (known is not None and known != nicks):
            self.blame(f"{stay} knows {users} {sorted(known or ())}, there are {sorted(nicks)}")

    def topic(self, stay: Stay, told: str) -> None:
        """Check a room's topic, as a member is told it."""
        topic = self.witness.topic(self.witness.room(stay.room))
        if topic in self.doors.known.dropped:
            topic = ""
        is_open = not told and topic in self.witness.drops  # Was it removed? Nobody was told.
        if told != topic and not is_open:
            self.blame(f"{stay} is told the topic {told!r}: {topic!r}")

    def bound(self, what: str, count: int, most: int) -> None:
        """Check that a queue is inside its limit."""
        if count > most:
            self.blame(f"{what}: {count}, and {most} is the limit")


def _is_of(heard: list[tuple[int, Told]], witness: Witness, room: str) -> bool:
    entries = witness.rooms.get(room, {})
    return all(_is_told(witness, entries.get(seq), told) for seq, told in heard)


def _is_told(witness: Witness, spoken: Spoken | None, told: Told) -> bool:
    """Tell whether an entry was told as it was said, or that its text was removed."""
    if spoken is None:
        return False
    ts, nick, _, text = told
    if text:
        return spoken == told
    return (spoken.ts, spoken.nick) == (ts, nick) and spoken.text in witness.drops


def _first_wrong(heard: list[tuple[int, Told]], witness: Witness, room: str) -> object:
    entries = witness.rooms.get(room, {})
    wrong = (
        (item, entries.get(item[0]))
        for item in heard
        if not _is_told(witness, entries.get(item[0]), item[1])
    )
    return next(wrong, "entries of another room")
