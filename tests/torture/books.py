"""The senders' ledgers, the clients' views and the log must tell the same story. Pure.

Knows nothing of the product: a log is a list of lines per room, everything else is words.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

EXAMPLES_MAX = 10  # Of what is wrong; the counts are whole.


class Line(NamedTuple):
    """An entry of the log."""

    seq: int
    ts: int
    nick: str
    text: str


Log = Mapping[str, Sequence[Line]]  # Room to its entries in order.


class Verdict(msgspec.Struct):
    """What the comparison found. From `lost` on, everything must be nothing."""

    messages: int = 0  # In the log.
    acknowledged: int = 0
    resent: int = 0  # Texts that a client sent once more, for want of an answer.
    refused: int = 0
    views: int = 0  # Compared with the log, entry by entry.
    outage_s: float = 0.0  # The longest time in which nobody at all was acknowledged anything.
    lost: int = 0  # Acknowledged, and not in the log at its place.
    duplicated: int = 0  # More than once in the log, or shown twice.
    reordered: int = 0  # Before an earlier one of the same sender, or a time that falls.
    refused_but_kept: int = 0
    views_wrong: int = 0  # Something else than the log was shown.
    examples: list[str] = msgspec.field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        wrongs = (self.lost, self.duplicated, self.reordered, self.refused_but_kept)
        return not any(wrongs) and not self.views_wrong

    def note(self, words: str) -> None:
        """Keep an example of what is wrong."""
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(words)


def judge(log: Log, ledgers: Iterable[str], views: Iterable[str]) -> Verdict:
    """Compare a log with the lines of the talkers' books (`tests.torture.talkers`)."""
    verdict = Verdict()
    _judge_log(log, verdict)
    _judge_ledgers(log, ledgers, verdict)
    _judge_views(log, views, verdict)
    return verdict


def key_of(text: str) -> str:
    """Return what tells a text from all others: who said it, and its number there."""
    return " ".join(text.split(" ", 2)[:2])


def _judge_log(log: Log, verdict: Verdict) -> None:
    for room, lines in log.items():
        seen: Counter[str] = Counter()
        numbers: dict[str, int] = {}
        ts_last = seq_last = 0
        for line in lines:
            verdict.messages += 1
            nick, number = key_of(line.text).split(" ")
            seen[line.text] += 1
            if seen[line.text] > 1:
                verdict.duplicated += 1
                verdict.note(f"{room}: {nick} {number} is at {line.seq} once more")
            elif int(number) < numbers.get(nick, 0) or line.ts < ts_last or line.seq <= seq_last:
                verdict.reordered += 1
                verdict.note(f"{room}: {nick} {number} at {line.seq} comes too late")
            numbers[nick] = max(numbers.get(nick, 0), int(number))
            ts_last, seq_last = line.ts, line.seq


def _judge_ledgers(log: Log, ledgers: Iterable[str], verdict: Verdict) -> None:
    places = {(room, line.seq): key_of(line.text) for room, lines in log.items() for line in lines}
    kept = {(room, key) for (room, _), key in places.items()}
    times_s = []
    for line in ledgers:
        words = line.split(" ")
        if words[0] == "kept" and len(words) == 6:  # A kill may cut a line.
            _, at_s, room, seq, nick, number = words
            verdict.acknowledged += 1
            times_s.append(float(at_s))
            if places.get((room, int(seq))) != f"{nick} {number}":
                verdict.lost += 1
                verdict.note(f"{room}: {nick} {number} was acknowledged at {seq}")
        elif words[0] == "refused":
            verdict.refused += 1
            if (words[1], " ".join(words[2:4])) in kept:
                verdict.refused_but_kept += 1
                verdict.note(f"{line}, and it is in the log")
        elif words[0] == "resent":
            verdict.resent += int(words[1])
    times_s.sort()
    verdict.outage_s = max((after - before for before, after in pairwise(times_s)), default=0.0)


def _judge_views(log: Log, views: Iterable[str], verdict: Verdict) -> None:
    encoded = {
        room: [f"{line.seq} {line.nick} {line.text}\n".encode() for line in lines]
        for room, lines in log.items()
    }
    indexes = {
        room: {line.seq: index for index, line in enumerate(lines)} for room, lines in log.items()
    }
    newest: dict[tuple[str, str], str] = {}
    for line in views:
        word, nick, rest = line.split(" ", 2)
        if word == "view":
            room, rest = rest.split(" ", 1)
            newest[nick, room] = rest
        elif word == "trouble":
            verdict.views_wrong += 1
            verdict.note(f"{nick}: {rest}")
    for (nick, room), rest in newest.items():
        words = rest.split(" ")
        if len(words) != 4:  # A kill may cut a line.
            continue
        verdict.views += 1
        first, last, count = map(int, words[:3])
        begin, end = indexes[room].get(first, -1), indexes[room].get(last, -2)
        shown = encoded[room][begin : end + 1]
        is_right = len(shown) == count and words[3] == hashlib.sha256(b"".join(shown)).hexdigest()
        if begin < 0 or not is_right:
            verdict.views_wrong += 1
            verdict.note(f"{nick} was shown {count} entries of {room} from {first} to {last}")
