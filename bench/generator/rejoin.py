"""A room whose broker is killed: `python -m bench.generator.rejoin`. See `rejoin_orders`.

Members who speak have a `Net` of their own that is served between any few of the others, so that
their times are the broker's and not those of a queue in this process.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Final

import numpy as np

from bench.dialect import Unexpected
from bench.generator.books import Log
from bench.generator.links import Net
from bench.generator.members import Member, Place
from bench.generator.orders import Course
from bench.generator.rejoin_orders import Done, Gathering, Opened, Over, Part, Word
from bench.generator.running import heard, ready, status_of, tell
from bench.generator.sockets import Timetable
from bench.histogram import Histogram
from bench.results import Counts, Moment
from bench.text import TEXT_BYTES_MIN, TIME_DIGITS, make

LINKS_MAX: Final = 32  # Of the crowd, served before the speakers are looked at again.
SWEEP_S: Final = 0.25  # In which every member's timers are looked at once: the shortest is 500 ms.
TURN_S_MAX: Final = 0.02
COURSE_S: Final = 1.0
STALL_S_MAX: Final = 60.0  # Nobody came any further: the broker has stopped answering.
SETTLE_S_MAX: Final = 20.0  # For the last entries; what has not come by then is lost.
_TIME: Final = slice(TEXT_BYTES_MIN - TIME_DIGITS, TEXT_BYTES_MIN)


class Rejoining:
    """The members, the timetable of what is said, and the parts of the run. One thread."""

    def __init__(self, orders: Gathering, say: Callable[[Word], None]) -> None:
        self._orders = orders
        self._tell = say
        self._crowd = Net(orders.host)
        self._speakers_net = Net(orders.host)
        self._crowd.wake_for(self._speakers_net)
        self._timetable = Timetable()
        self._log = Log()
        self._members: list[Member] = []
        self._speakers: list[Member] = []
        self._whole_count = 0  # Comings to be whole, of everybody since the start,
        self._whole_before = 0  # and when the part before was over.
        self._arrivals: list[tuple[int, str]] = []
        self._said: list[int] = [0] * orders.senders
        self._said_count = 0
        self._start_ns = 0  # Of the timetable; 0: nobody speaks yet.
        self._swept_s = time.monotonic()
        self._sweep_at = 0
        self._parts: list[Part] = []

    def run(self, next_part: Callable[[], Part | None]) -> None:
        """Do it all; `next_part` returns None while there is none. Raises `Unexpected`, `Lost`."""
        try:
            self._open()
            while (part := self._await_part(next_part)).name:
                self._carry_out(part)
            self._close(part.head)
        finally:
            self._crowd.close()
            self._speakers_net.close()

    # --- in -----------------------------------------------------------------
    def _open(self) -> None:
        orders, begun_s = self._orders, time.monotonic()
        # All over the order of coming, which is the broker's order of sending.
        places = np.linspace(0, orders.clients - 1, orders.senders).astype(int).tolist()
        progress_s, whole_count = begun_s, 0
        while self._whole_count < orders.clients:
            on_their_way = len(self._members) - self._whole_count
            if len(self._members) < orders.clients and on_their_way < orders.connecting:
                self._add_member(is_speaker=len(self._members) in places)
            else:
                self._turn()
            progress_s, whole_count = self._progress(progress_s, whole_count, self._whole_count)
        self._tell(
            Opened(time.monotonic() - begun_s, self._members[0].ticket, self._members[0].keys_hex())
        )
        self._start_ns = time.monotonic_ns() if orders.senders else 0
        self._whole_before = self._whole_count

    def _add_member(self, *, is_speaker: bool) -> None:
        place = Place(
            net=self._speakers_net if is_speaker else self._crowd,
            timetable=self._timetable,
            commands_port=self._orders.commands_port,
            room=self._orders.room,
            nicks=self._orders.nicks,
            log=self._log,
            became_whole=self._one_is_whole,
            server_key=bytes.fromhex(self._orders.server_key),
        )
        member = Member(len(self._members), place, self._arrivals if is_speaker else None)
        self._members.append(member)
        if is_speaker:
            self._speakers.append(member)

    def _one_is_whole(self) -> None:
        self._whole_count += 1

    def _progress(
        self, progress_s: float, before: int, now: int, head: int = 0
    ) -> tuple[float, int]:
        """Return when anybody came further the last time, and how far; raise `Unexpected`."""
        now_s = time.monotonic()
        if now != before:
            return now_s, now
        if now_s > progress_s + STALL_S_MAX:
            whole = sum(member.has(head) if head else member.is_whole for member in self._members)
            missing = len(self._members) - whole
            raise Unexpected(f"{missing} of {len(self._members)} members do not become whole")
        return progress_s, now

    def _progress_of(self, part: Part) -> int:
        """Return what rises while members become what they shall be."""
        if part.head:
            # Not beyond it: what is said meanwhile would hide that somebody never gets there.
            return sum(min(member.last, part.head) for member in self._members)
        return self._whole_count

    # --- through ------------------------------------------------------------
    def _turn(self) -> None:
        """Say what is due, read what has come, and look at some members' timers."""
        self._speak()
        self._speakers_net.poll(0)
        self._timetable.run_due()
        wait_s = max(min(self._timetable.wait_s(), self._until_text_s(), TURN_S_MAX), 0)
        # Whole milliseconds, rounded down: epoll rounds up, and the last one is spent asking.
        self._crowd.poll(wait_s * 1_000 // 1 / 1_000, LINKS_MAX)
        self._sweep()

    def _speak(self) -> None:
        """Say texts on a timetable, whatever comes back, each stamped with its own time."""
        if not self._start_ns:
            return
        rate, senders = self._orders.rate, self._orders.senders
        due = int((time.monotonic_ns() - self._start_ns) * rate / 1e9) + 1
        while self._said_count < due:
            meant_ns = self._start_ns + int(self._said_count * 1e9 / rate)
            sender = self._said_count % senders
            text = make(sender, self._said[sender], meant_ns, self._orders.size)
            self._said[sender] += 1
            self._said_count += 1
            self._speakers[sender].say(text.decode())

    def _until_text_s(self) -> float:
        if not self._start_ns:
            return TURN_S_MAX
        due_ns = self._start_ns + int(self._said_count * 1e9 / self._orders.rate)
        return (due_ns - time.monotonic_ns()) / 1e9

    def _sweep(self) -> None:
        """Tick so many members that everybody's turn comes within `SWEEP_S`."""
        now_s = time.monotonic()
        members = self._members
        count = min(int((now_s - self._swept_s) * len(members) / SWEEP_S), LINKS_MAX)
        if not count:
            return
        self._swept_s = now_s
        for _ in range(count):
            self._sweep_at = (self._sweep_at + 1) % len(members)
            members[self._sweep_at].tick(now_s)

    def _await_part(self, next_part: Callable[[], Part | None]) -> Part:
        while (part := next_part()) is None:
            self._turn()
        return part

    def _carry_out(self, part: Part) -> None:
        begun_ns = part.begun_ns = part.begun_ns or time.monotonic_ns()
        self._parts.append(part)
        cpu_s, questions = time.process_time(), self._questions()
        end_ns = begun_ns + int(part.seconds * 1e9)
        course_s = time.monotonic()
        progress_s, progress = course_s, self._progress_of(part)
        while not self._is_over(part, end_ns):
            self._turn()
            if not part.seconds:
                progress_s, progress = self._progress(
                    progress_s, progress, self._progress_of(part), part.head
                )
            if time.monotonic() >= course_s + COURSE_S:
                course_s += COURSE_S
                self._tell_course(begun_ns)
        self._whole_before = self._whole_count
        over = Over(
            part.name,
            (time.monotonic_ns() - begun_ns) / 1e9,
            time.process_time() - cpu_s,
            self._questions() - questions,
        )
        if not part.seconds and not part.head:
            times_ns = np.array([member.whole_ns for member in self._members], np.int64)
            whole = Histogram()
            whole.record_many((times_ns - begun_ns) / 1_000)
            over.whole, over.whole_ns = whole.encode(), int(times_ns.max())
        self._tell(over)

    def _is_over(self, part: Part, end_ns: int) -> bool:
        if part.seconds:
            return time.monotonic_ns() >= end_ns
        if part.head:
            return all(member.has(part.head) for member in self._members)
        # Everybody is asked only when that can be it.
        return self._whole_count >= self._whole_before + len(self._members) and all(
            member.is_whole and member.whole_ns > part.begun_ns for member in self._members
        )

    def _questions(self) -> int:
        return sum(member.questions for member in self._members)

    def _tell_course(self, begun_ns: int) -> None:
        whole = sum(member.is_whole for member in self._members)
        values = {"whole": float(whole), "said": float(self._said_count)}
        self._tell(Course(Moment((time.monotonic_ns() - begun_ns) / 1e9, values)))

    # --- the end ------------------------------------------------------------
    def _close(self, head: int) -> None:
        """Say no more, wait for what is under way, count; everything up to `head` is expected."""
        self._start_ns = 0
        give_up_s = time.monotonic() + SETTLE_S_MAX
        while not self._is_settled(head) and time.monotonic() < give_up_s:
            self._turn()
        kept = [pair for speaker in self._speakers for pair in speaker.kept]
        head = max([head, *(seq for seq, _ in kept), *(member.last for member in self._members)])
        everybody = len(self._members)
        said = dict(enumerate(self._said))
        wrong = self._log.check(kept, said, self._orders.size)
        counts = Counts(
            sent=self._said_count,
            acknowledged=len(kept),
            lost=wrong.lost * everybody,
            duplicated=wrong.duplicated * everybody,
            reordered=wrong.reordered * everybody,
        )
        for member in self._members:
            member.close(counts, head)
        self._tell(Done(counts, self._latencies()))

    def _is_settled(self, head: int) -> bool:
        if sum(len(speaker.kept) for speaker in self._speakers) < self._said_count:
            return False
        head = max([head, *(speaker.kept[-1][0] for speaker in self._speakers if speaker.kept)])
        return all(member.last >= head for member in self._members)

    def _latencies(self) -> dict[str, str]:
        """Return each part's: from when a text was meant to be said to each speaker's ear."""
        begins_ns = [part.begun_ns for part in self._parts]
        found = {part.name: Histogram() for part in self._parts}
        for heard_ns, text in self._arrivals:
            meant_ns = int(text[_TIME], 16)
            at = bisect_right(begins_ns, meant_ns) - 1
            if at >= 0:
                found[self._parts[at].name].record((heard_ns - meant_ns) / 1_000)
        return {name: histogram.encode() for name, histogram in found.items()}


def main() -> int:
    """Read orders, carry them out."""
    rejoining = Rejoining(ready(Gathering), tell)
    return status_of(lambda: rejoining.run(lambda: heard(Part)))


if __name__ == "__main__":
    sys.exit(main())
