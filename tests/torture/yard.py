"""A warden who gives orders without a pause while the broker is killed, and who they are about.

Each order comes with its opposite, and once it was answered it must hold, whatever was killed
meanwhile: who was put out hears nothing and does not come in, who is mute is not heard, who may
give orders gives one, a room that was closed is found closed, a text that was dropped is gone from
the files. What each of them said is booked and looked for in the log at the end.
"""

from __future__ import annotations

import os
import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

import zmq

from client.api import Client, connect
from client.events import KIND_REMOVED, Entry
from client.room import Room
from common import order, wire
from common.endpoints import admin_url
from common.errors import Code, Refused
from common.order import Action, Role
from tests.broker_process import BrokerProcess
from tests.persons import keys_of
from tests.torture.thief import Thief
from tests.waiting import DEADLINE_S, eventually

T = TypeVar("T")

ANSWER_S_MAX: Final = 90.0  # Longer than any trouble lasts.
HOLDS_S: Final = 0.6  # So long at most until it is looked at whether an order holds.
HISTORY_MAX: Final = 100_000
ADMIN_S: Final = 2.0  # For the answer to one drop; it is given again.
TROUBLE_MAX: Final = 10
# What passes: who is told so asks again.
PASSING: Final = frozenset(
    {Code.SLOW_DOWN, Code.LOG_FAILED, Code.CLOSING, Code.NO_SESSION, Code.FULL}
)
_never = threading.Event()


class Said(NamedTuple):
    """A text that was acknowledged at its place in the yard."""

    seq: int
    text: str


class Yard(threading.Thread):
    """One closed room, its owner, one member, and the member's own open room beside it."""

    def __init__(self, number: int, broker: BrokerProcess, seed: int) -> None:
        """Let both come in, and close the room."""
        super().__init__(daemon=True)
        self.name, self.gate = f"yard{number}", f"gate{number}"
        self.orders: Counter[str] = Counter()  # That were carried out and held.
        self.trouble: list[str] = []
        self.kept: list[Said] = []
        self.dropped: set[int] = set()
        self.refused: set[str] = set()  # Texts.
        self.told: list[tuple[int, str]] = []  # The room as history tells it at the end.
        self._broker, self._key = broker, broker.server_key
        self._address, self._data = broker.address, broker.data
        # Without keys nobody knows who somebody is that is not back yet.
        self._passing = PASSING if self._key else PASSING | {Code.NO_SUCH_NICK}
        self._chance = random.Random(seed * 31 + number)
        self._number = 0
        self._heard: set[str] = set()  # By the inmate.
        self._over = threading.Event()
        self._inmate_nick = f"inmate{number}"
        self.warden = self._come(f"warden{number}")
        self.inmate = self._come(self._inmate_nick)
        self._thief = Thief(broker.port, keys_of(self._inmate_nick, self._key))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.room = self.name
        self.warden.join(self.room)
        self._say(self.warden)
        self.inmate.join(self.room)
        self.inmate.join(self.gate, history=0)
        self._order(Action.PRIVATE)

    def _come(self, nick: str) -> Client:
        return connect(
            self._address, nick=nick, timeout_s=DEADLINE_S, curve=keys_of(nick, self._key)
        )

    def _read(self) -> None:
        for event in self.inmate.events():
            if isinstance(event, Entry):
                self._heard.add(event.text)

    # --- the thread ---------------------------------------------------------
    def run(self) -> None:
        """Give orders until it is over."""
        deeds = (
            *(self._uninvite, self._ban, self._kick, self._mute, self._promote),
            *(self._open_and_close, self._drop, self._rename),
        )
        deed: Callable[[], None] = self._wait
        try:
            while not self._over.is_set():
                deed = self._chance.choice(deeds)
                deed()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
            self._note(f"{deed.__name__} {where}: {error!r} after {dict(self.orders)}")

    def _note(self, words: str) -> None:
        if len(self.trouble) < TROUBLE_MAX:
            self.trouble.append(f"{self.name}: {words}")

    def _uninvite(self) -> None:
        self._put_out(Action.UNINVITE, [Action.INVITE])

    def _ban(self) -> None:
        self._put_out(Action.BAN, [Action.UNBAN, Action.INVITE])

    def _put_out(self, action: Action, undo: list[Action]) -> None:
        """Put the inmate out, talk behind their back, and let them in again."""
        self._steal()
        self._order(action, self._inmate_nick)
        self._wait()
        self._overheard()  # From here on the thief listens to all there is.
        secrets = self._say(self.warden)
        overheard = self._overheard()
        self._must_refuse(
            action,
            {Code.NOT_INVITED, Code.BANNED},
            lambda: self.inmate.join(self.room, timeout_s=ANSWER_S_MAX),
        )
        self._await_fence()
        read = self._thief.read()
        for text in secrets:
            for where, is_there in (
                ("heard", text in self._heard),
                ("overheard by an old topic", text.encode() in overheard),
                ("read by an old ticket", text in read),
            ):
                if is_there:
                    self._note(f"who was put out ({action.value}) has {where} {text}")
        for each in undo:
            self._order(each, self._inmate_nick)
        self._patiently(lambda: self.inmate.join(self.room, timeout_s=ANSWER_S_MAX))
        eventually(lambda: secrets <= self._heard, "the inmate to hear what was said meanwhile")

    def _kick(self) -> None:
        """Send the inmate out, who has a place and may come again."""
        self._order(Action.KICK, self._inmate_nick)
        self._wait()
        self._patiently(lambda: self.inmate.join(self.room, timeout_s=ANSWER_S_MAX))
        self._say(self.inmate)

    def _steal(self) -> None:
        """Let the thief have what opens the yard to the inmate now."""
        room = self._inside(self.room)
        topic = eventually(lambda: room.subscription, "the inmate to listen to the yard")
        assert topic is not None
        self._thief.steal(self.room, topic, room.key)

    def _inside(self, name: str) -> Room:
        """Return a room as the inmate's session knows it."""
        rooms = self.inmate._session._memberships._rooms
        return eventually(lambda: rooms.get(name), f"the inmate to be in {name}")  # type: ignore[return-value]

    def _overheard(self) -> bytes:
        """Return all that the thief has heard by now."""
        gate = eventually(lambda: self._inside(self.gate).subscription, "the gate's topic")
        assert gate is not None
        return self._thief.heard_until(gate, self._say_fence)

    def _mute(self) -> None:
        self._order(Action.MUTE, self._inmate_nick)
        self._wait()
        text = self._text(self.inmate)
        self.refused.add(text)
        self._must_refuse(Action.MUTE, {Code.MUTED}, lambda: self.inmate.send(self.room, text))
        self._order(Action.UNMUTE, self._inmate_nick)
        self._wait()
        self._say(self.inmate)

    def _promote(self) -> None:
        def try_it() -> object:
            return self.inmate.order(self.room, Action.SLOW, timeout_s=ANSWER_S_MAX)

        self._order(Action.OP, self._inmate_nick)
        self._wait()
        self._patiently(try_it)
        self._order(Action.DEOP, self._inmate_nick)
        self._wait()
        self._must_refuse(Action.DEOP, {Code.FORBIDDEN}, try_it)

    def _open_and_close(self) -> None:
        self._order(Action.PUBLIC)
        self._wait()
        if self.room != self.name:
            self._note(f"opened, the room is called {self.room}")
        self._say(self.warden)
        self._order(Action.PRIVATE)
        # A guest whom a kill had put out of the open room just then has no place in the closed one.
        self._order(Action.INVITE, self._inmate_nick)
        self._wait()
        self._patiently(lambda: self.inmate.join(self.room, timeout_s=ANSWER_S_MAX))
        for client, role in ((self.warden, Role.OWNER), (self.inmate, Role.MEMBER)):
            mine = {each.room: each.role for each in client.mine(timeout_s=ANSWER_S_MAX)}
            if mine != {self.room: role}:
                self._note(f"closed as {self.room}, {client.nick} has {mine}")

    def _drop(self) -> None:
        """Have the newest text of now removed."""
        self._say(self._chance.choice((self.warden, self.inmate)))
        seq = self.kept[-1].seq
        self._order_drop(seq)
        self.dropped.add(seq)
        self._wait()
        page = self.warden.history(self.room, after=seq - 1, limit=1, timeout_s=ANSWER_S_MAX)
        if [KIND_REMOVED] != [entry.kind for entry in page]:
            self._note(f"{seq} was dropped, and history has {page}")
        self.orders["drop"] += 1

    def _rename(self) -> None:
        """Change the inmate's nick: it is theirs alone from the answer on."""
        base = self._inmate_nick.partition("-")[0]
        nick = base if base != self._inmate_nick else f"{base}-free"
        self._patiently(lambda: self.inmate.rename(nick, timeout_s=ANSWER_S_MAX))
        self._inmate_nick = nick
        self._wait()
        if self._key:  # Without keys a nick is held by who is there.
            self._must_refuse("nick", {Code.NICK_TAKEN}, lambda: self._pose(nick))

    def _pose(self, nick: str) -> None:
        """Try to come in under somebody's nick with other keys."""
        curve = keys_of(f"not {nick}", self._key)
        connect(self._address, nick=nick, timeout_s=ANSWER_S_MAX, curve=curve).close()

    # --- how it is done -----------------------------------------------------
    def _order(self, action: Action, nick: str = "") -> None:
        done = self._patiently(
            lambda: self.warden.order(self.room, action, nick, timeout_s=ANSWER_S_MAX)
        )
        self.room = done.room
        self.orders[action.value] += 1

    def _order_drop(self, seq: int) -> None:
        """Ask through the broker's socket until it is done."""
        command = order.Admin(1, "drop", self.room, value=seq)
        frames = wire.command_frames(wire.NO_TOKEN, command)

        def is_dropped() -> bool:
            folder = os.open(self._data, os.O_RDONLY | os.O_DIRECTORY)
            try:
                with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
                    dealer.linger = 0
                    dealer.connect(admin_url(str(self._data.absolute()), folder))
                    dealer.send_multipart(frames)
                    if not dealer.poll(int(ADMIN_S * 1_000)):
                        return False
                    answer = wire.parse_reply(dealer.recv_multipart())
            finally:
                os.close(folder)
            return isinstance(answer, order.Table)

        eventually(is_dropped, f"{seq} of {self.room} to be dropped")

    def _patiently(self, call: Callable[[], T]) -> T:
        """Return what a call does; ask again when it is refused for what passes."""
        end_s = time.monotonic() + ANSWER_S_MAX
        while True:
            try:
                return call()
            except Refused as refusal:
                if refusal.code not in self._passing or time.monotonic() > end_s:
                    raise
                _never.wait(max(refusal.value / 1_000, 0.1))

    def _must_refuse(self, what: str, codes: set[Code], call: Callable[[], object]) -> None:
        """Note it unless a call is refused with one of these codes."""
        try:
            self._patiently(call)
        except Refused as refusal:
            if refusal.code not in codes:
                self._note(f"{what}: refused with {refusal.code}")
            self.orders[f"{what} seen"] += 1
        else:
            self._note(f"{what} did not hold")

    def _text(self, client: Client) -> str:
        self._number += 1
        return f"{client.nick} {self._number} {os.urandom(8).hex()}"

    def _say(self, client: Client) -> set[str]:
        """Say two texts in the yard, and book them."""
        texts = [self._text(client) for _ in range(2)]
        for text in texts:
            sent = self._patiently(
                lambda text=text: client.post(self.room, text).result(ANSWER_S_MAX)  # type: ignore[misc]
            )
            self.kept.append(Said(sent.seq, text))
        return set(texts)

    def _await_fence(self) -> None:
        """Wait until the inmate has heard all that the broker had for them by now."""
        text = self._say_fence()
        eventually(lambda: text in self._heard, "the inmate's fence")

    def _say_fence(self) -> str:
        text = self._text(self.inmate)
        self._patiently(lambda: self.inmate.post(self.gate, text).result(ANSWER_S_MAX))
        return text

    def _wait(self) -> None:
        _never.wait(self._chance.uniform(0.0, HOLDS_S))

    # --- the end ------------------------------------------------------------
    def finish(self) -> None:
        """Give no more orders, and read the room as it stands; the broker serves."""
        self._over.set()
        self.join(4 * ANSWER_S_MAX)
        if self.is_alive():
            self._note("the orders did not come to an end")
            return
        entries = self._patiently(
            lambda: self.warden.history(
                self.room, after=0, limit=HISTORY_MAX, timeout_s=ANSWER_S_MAX
            )
        )
        self.told = [(entry.seq, entry.text) for entry in entries]

    def close(self) -> None:
        """Leave."""
        self._over.set()
        for client in (self.warden, self.inmate):
            client.close()
        self.join(ANSWER_S_MAX)
        if not self.is_alive():
            self._thief.close()

    def judge(self, log: dict[str, list[tuple[int, str]]]) -> None:
        """Compare the books with the files; the broker has ended."""
        lines = log.get(self.room, [])
        texts = dict(lines)
        if [(seq, text.strip("\0")) for seq, text in lines] != self.told:
            self._note(f"history tells {len(self.told)} entries, the files have {len(lines)}")
        for said in self.kept:
            if said.seq in self.dropped:
                continue
            if texts.get(said.seq) != said.text:
                self._note(f"{said.text} was acknowledged at {said.seq}, and is not there")
        counts = Counter(texts.values())
        for said in self.kept:
            if counts[said.text] > 1:
                self._note(f"{said.text} is there twice")
        for text in self.refused & set(texts.values()):
            self._note(f"{text} was refused, and is there")
        self._judge_bytes()

    def _judge_bytes(self) -> None:
        """See that what was dropped is in no file."""
        whole = b"".join(
            path.read_bytes() for path in sorted(self._data.rglob("*")) if path.is_file()
        )
        for said in self.kept:
            is_there = said.text.encode() in whole
            if is_there == (said.seq in self.dropped):
                words = "dropped, and is in a file" if is_there else "kept, and is in no file"
                self._note(f"{said.text} was {words}")
