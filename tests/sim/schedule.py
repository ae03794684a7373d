"""What happens in a simulated world: faults, and what programs do, by chance, from one seed.

A seed replays exactly: nothing here looks at a clock, or at the order of a set.
"""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

from common import wire
from common.order import Admin
from tests.sim.broker import Broker
from tests.sim.checkers import Judge
from tests.sim.client import SimClient
from tests.sim.disk import Disk, Killed
from tests.sim.doors import Known
from tests.sim.log_file import Witness
from tests.sim.network import Network
from tests.sim.trace import Trace
from tests.sim.weather import Weather

STEP_S = 0.02
ROOMS = ("lobby", "dev", "ops")
START_MS = 1_700_000_000_000
START_S = 1_000.0
DAY_MS = 86_400_000
OWN_NICKS_MAX = 3
EVERYWHERE = {
    "kick": 1,
    "ban": 2,
    "unban": 2,
    "mute": 2,
    "unmute": 3,
    "op": 2,
    "deop": 1,
    "slow": 1,
}
OPEN_ORDERS = {"private": 8} | EVERYWHERE
CLOSED_ORDERS = {"public": 1, "invite": 8, "uninvite": 4} | EVERYWHERE


class Schedule:
    """Everybody, and what happens to them. Each step does one random thing."""

    def __init__(self, seed: int, folder: Path, weather: Weather, *, is_traced: bool) -> None:
        """Begin, in an empty folder."""
        self.chance = random.Random(seed)
        self.weather = weather
        self.trace = Trace(is_on=is_traced)
        self.now_s = START_S
        self.wall_ms = 0  # How far the wall clock was put forwards.
        self.judge = Judge()
        self.disk = Disk(folder, self.chance, self.trace)
        self.network = Network(
            self.chance, publish_queue=weather.publish_queue, reply_queue=weather.reply_queue
        )
        self.network.loss = weather.loss
        self.broker = Broker(
            folder,
            weather,
            disk=self.disk,
            network=self.network,
            judge=self.judge,
            chance=self.chance,
            trace=self.trace,
        )
        self.clients: list[SimClient] = []  # Those that are there; others have left.
        self.arrivals = 0
        self._requests = 0  # Of the operator.
        self._folder = folder
        self._backup: tuple[dict[str, bytes], Witness, Known] | None = None
        self._live_frozen_until_s = 0.0
        self._history_frozen_until_s = 0.0
        self.disk.meanwhile = self._do_answer
        self._names = list(weather.weights)
        self._weights = list(weather.weights.values())
        self._actions = {name: getattr(self, f"_do_{name}") for name in self._names}

    def begin(self) -> None:
        """Start the broker and the first clients."""
        self._start()
        for _ in range(self.weather.clients):
            self._do_arrive()

    @property
    def now_ms(self) -> int:
        """Return the wall clock."""
        return START_MS + self.wall_ms + int((self.now_s - START_S) * 1_000)

    def step(self) -> None:
        """Do one random thing."""
        if (self.broker.core is None or self.broker.reader is None) and self.chance.random() < 0.2:
            self._start()
        (name,) = self.chance.choices(self._names, self._weights)
        self._actions[name]()
        self._pass(STEP_S)

    def _pass(self, seconds: float) -> None:
        """Let the clock run, and everybody look at it."""
        self.now_s += seconds
        self.trace.now_s = self.now_s - START_S
        for client in self.clients:
            if client.frozen_until_s <= self.now_s:
                client.tick(self.now_s)

    def _someone(self) -> SimClient | None:
        awake = [each for each in self.clients if each.frozen_until_s <= self.now_s]
        return self.chance.choice(awake) if awake else None

    def _start(self) -> None:
        self.broker.start(self.now_ms, self.now_s)

    # --- the broker ---------------------------------------------------------
    def _do_drain(self, *, share: float = 0.85, crash: str = "") -> None:
        if self.broker.core is None or self._live_frozen_until_s > self.now_s:
            return
        failures = self.disk.failures["told"]
        try:
            self.broker.drain(self.now_ms, self.now_s, share, lambda place: place == crash)
        except Killed:
            self.trace.note("live", f"ends {crash}")
            self.chance.choice([self.broker.kill_live, self.broker.cut_power])()
        except (OSError, sqlite3.Error) as error:
            if self.disk.failures["told"] == failures:
                raise
            # It cannot read what a sender has sent: it ends, and is started again.
            self.trace.note("live", f"ends: {error}")
            self.broker.kill_live()

    def _do_crash_in_drain(self) -> None:
        places = ["in the commit", "before the commit", "after the commit", "before the replies"]
        crash = self.chance.choice(places)
        for _ in range(3):  # So that there is something to commit.
            for client in [each for each in self.clients if each.frozen_until_s <= self.now_s]:
                self._connect(client)
                client.deliver(self.now_s, 1)
                self._settle(client)
            self._do_say()
            self._do_drain()
        self._do_say()
        if self.weather.is_secure:
            self._do_order()
        if crash == "in the commit":
            self.disk.dies_in = self.chance.randint(1, 8 if self.weather.is_secure else 2)
        self._do_drain(share=1, crash=crash)
        self.disk.dies_in = 0

    def _do_trim(self) -> None:
        self.broker.trim(self.now_ms)

    def _do_answer(self) -> None:
        if self._history_frozen_until_s > self.now_s:
            return
        asking = [each for each in self.clients if each.question is not None]
        if asking:
            self._answer(self.chance.choice(asking))

    def _answer(self, client: SimClient) -> None:
        if client.question is not None:
            frames = self.broker.answer(client.name, client.question)
            if frames is not None:
                client.question, client.page = None, frames

    def _do_kill_live(self) -> None:
        self.broker.kill_live()

    def _do_kill_history(self) -> None:
        self.broker.kill_history()
        for client in self.clients:
            client.question = None  # REQ waits for an answer that never comes.

    def _do_cut_power(self) -> None:
        self.broker.cut_power()

    def _do_stop(self) -> None:
        failures, was_live = self.disk.failures["told"], self.broker.core is not None
        self.broker.stop()
        if was_live and self.disk.failures["told"] == failures:
            self.judge.files(self._folder)
        if "restore" in self.weather.weights:
            files = {  # Not the note of how far the log got: it stays with the folder.
                each.name: each.read_bytes()
                for each in sorted(self._folder.iterdir())
                if each.suffix in {".db", ".segment"} or each.name.endswith("-wal")
            }
            self._backup = files, self.judge.witness.copy(), self.judge.doors.known.copy()
            self.trace.note("operator", "makes a backup")

    def _do_restore(self) -> None:
        """Put a backup in the place of the log, as an operator does."""
        if self._backup is None or self.broker.core is None:
            return  # After a crash the note of how far the log had got may be too old to tell.
        self.broker.stop()
        files, witness, known = self._backup
        if self.broker.is_doubtful:
            return  # What the disk could not take back may be in the files, or not.
        for path in self._folder.iterdir():
            if path.name != "progress":
                path.unlink()
        for name, content in files.items():
            (self._folder / name).write_bytes(content)
        self.disk.adopt()
        self.judge.restored(witness, known)
        self.trace.note("operator", "restores the backup")

    def _do_freeze_broker(self) -> None:
        self._live_frozen_until_s = self.now_s + self.chance.choice([0.5, 6.0, 20.0])
        self.trace.note("live", "freezes")

    def _do_freeze_history(self) -> None:
        self._history_frozen_until_s = self.now_s + self.chance.choice([0.5, 5.0])
        self.trace.note("history", "freezes")

    def _do_disk(self) -> None:
        """Let a bad spell of the disk begin, or end."""
        disk = self.disk
        if disk.fault_rate or disk.is_full or disk.database_fault_rate:
            disk.heal()
            self.trace.note("disk", "is well")
            return
        rates = self.chance.choice([(0.0, 0.3), (0.05, 0.0), (0.3, 0.1), (1.0, 1.0)])
        disk.fault_rate, disk.database_fault_rate = rates
        disk.is_full = self.chance.random() < 0.5
        self.trace.note("disk", f"begins to fail: {rates}, full: {disk.is_full}")

    def _do_read_errors(self) -> None:
        self.disk.read_fault_rate = 0.0 if self.disk.read_fault_rate else 0.3
        self.trace.note("disk", f"reads fail: {self.disk.read_fault_rate}")

    def _do_jump(self) -> None:
        """Put the wall clock forwards or backwards."""
        jump_ms = self.chance.choice([-DAY_MS, -3_600_000, -500, 500, 3_600_000, 2 * DAY_MS])
        # Within a week: so long the log remembers what was acknowledged to whom.
        self.wall_ms = min(max(self.wall_ms + jump_ms, -3 * DAY_MS), 3 * DAY_MS)
        self.trace.note("operator", f"puts the clock by {jump_ms} ms")

    # --- the network --------------------------------------------------------
    def _do_connect(self) -> None:
        client = self._someone()
        if client is not None:
            self._connect(client)

    def _connect(self, client: SimClient) -> None:
        if self.broker.core is not None:
            client.connect(self.now_s)
        else:
            client.notice(self.now_s)

    def _do_deliver(self) -> None:
        client = self._someone()
        if client is not None:
            client.deliver(self.now_s, 0.85)
            self._settle(client)

    def _is_late(self) -> bool:
        return "linger" in self.weather.weights and self.chance.random() < 0.5

    def _do_cut(self) -> None:
        """Break the commands' link of somebody."""
        client = self._someone()
        if client is not None and client.link is not None and not client.link.is_broken:
            link = client.link
            survives = self.chance.randint(0, len(link.up)) if self._is_late() else 0
            self.trace.note(client.name, f"loses its link; {survives} commands still arrive")
            self.network.break_link(link, survives=survives)
            if not self._is_late():
                client.notice(self.now_s)

    def _do_deafen(self) -> None:
        """Break the rooms' link of somebody."""
        client = self._someone()
        if client is not None and client.pipe is not None and not client.pipe.is_broken:
            pipe = client.pipe
            self.trace.note(client.name, "can listen no more")
            pipe.is_broken = True
            if not self._is_late():
                self.broker.hang_up(pipe)

    def _do_linger(self) -> None:
        """Let the broker see the end of a link."""
        broken = [pipe for pipe in self.network.pipes if pipe.is_broken]
        if broken:
            self.broker.hang_up(self.chance.choice(broken))

    def _do_lose_publication(self) -> None:
        client = self._someone()
        if client is not None and client.pipe is not None and client.pipe.frames:
            del client.pipe.frames[self.chance.randrange(len(client.pipe.frames))]
            self.network.lost_publications += 1

    def _do_lose_question(self) -> None:
        client = self._someone()
        if client is not None:
            client.question = client.page = None

    def _do_lose_command(self) -> None:
        """Lose one, as a reconnect that nobody noticed does."""
        client = self._someone()
        if client is not None and client.link is not None and client.link.up:
            client.link.up.popleft()

    def _do_lose_reply(self) -> None:
        client = self._someone()
        if client is not None and client.link is not None and client.link.down:
            client.link.down.popleft()

    def _do_freeze_client(self) -> None:
        """Stop somebody's process for a while; the broker hangs up when it is for long."""
        client = self._someone()
        if client is not None:
            seconds = self.chance.choice([1.0, 5.0, 15.0])
            self.trace.note(client.name, f"freezes for {seconds} s")
            client.frozen_until_s = self.now_s + seconds
            if seconds > 10 and client.pipe is not None and not client.pipe.is_broken:
                self.broker.hang_up(client.pipe)

    # --- programs -----------------------------------------------------------
    def _do_arrive(self) -> None:
        if len(self.clients) < self.weather.clients_max and self.arrivals < 10:
            name = f"c{self.arrivals}"
            self.arrivals += 1
            kin = self.chance.choice(self.clients) if self.clients else None
            if self.chance.random() < 0.8:
                kin = None
            client = SimClient(
                name,
                chance=self.chance,
                network=self.network,
                judge=self.judge,
                trace=self.trace,
                kin=kin,
                is_secure=self.weather.is_secure,
            )
            self.clients.append(client)
            self.trace.note(name, f"arrives as {client.nick}")

    def _do_leave(self) -> None:
        client = self._someone()
        if client is None or len(self.clients) < 3:
            return
        if self.chance.random() < 0.5:
            self.trace.note(client.name, "program closes")
            client.is_closing = True
            client.do(client.session.close(self.now_s))
        else:
            self.trace.note(client.name, "is killed")
            client.die()
        self._settle(client)

    def _settle(self, client: SimClient) -> None:
        """See whether somebody is over, or was refused."""
        if client.is_over and client in self.clients:
            self.clients.remove(client)
            for stay in client.stays.values():
                stay.is_over = True
            for ticket in client.session.abandon_all():
                if isinstance(ticket, str):
                    self.judge.abandoned(ticket)
            if client.link is not None and not client.link.is_broken:
                self.network.break_link(client.link, survives=len(client.link.up))
            if client.pipe is not None and not client.pipe.is_broken:
                client.pipe.is_broken = True
            for pipe in [each for each in self.network.pipes if each.who == client.name]:
                self.broker.hang_up(pipe)
        elif client.is_refused:
            client.renames += 1
            client.rename(f"{client.name}r{client.renames}", self.now_s)

    def _do_say(self) -> None:
        client = self._someone()
        if client is not None and client.stays and not client.is_closing:
            count = self.chance.choice([1, 1, 2, 5])
            client.say(sorted(client.stays), count, self.now_s)

    def _do_join(self) -> None:
        client = self._someone()
        if client is not None and not client.is_closing:
            history = self.chance.choice([None, None, 0, 3, 100])
            since_ms = self.now_ms - 2_000 if self.chance.random() < 0.1 else None
            room = self.chance.choice(ROOMS)
            if client.doors and self.chance.random() < 0.5:
                room = self.chance.choice(client.doors)
            client.join(room, history, since_ms, self.now_s)

    def _do_part(self) -> None:
        client = self._someone()
        if client is not None and client.stays and not client.is_closing:
            client.part(self.chance.choice(sorted(client.stays)), self.now_s)

    def _do_rename(self) -> None:
        client = self._someone()
        if client is not None and not client.is_closing:
            client.renames += 1
            others = [each.nick for each in self.clients]
            if self.weather.is_secure and client.renames > OWN_NICKS_MAX:
                return  # Else the person's first ones would be anybody's again.
            nick = self.chance.choice([f"{client.name}n{client.renames}", *others])
            client.rename(nick, self.now_s)

    # --- orders -------------------------------------------------------------
    def _do_order(self) -> None:
        """Let somebody give an order, mostly one who may."""
        chance = self.chance
        client = self._someone()
        if client is None or not client.stays or client.is_closing:
            return
        rooms = sorted(client.stays)
        room = max(rooms, key=client.role) if chance.random() < 0.8 else chance.choice(rooms)
        actions = CLOSED_ORDERS if room.startswith("+") else OPEN_ORDERS
        (action,) = chance.choices(list(actions), list(actions.values()))
        target = chance.choice(self.clients)
        if target.person == client.person:
            target = chance.choice(self.clients)
        is_about_room = action in ("private", "public", "slow")
        value = chance.choice([0, 0, 1]) if action == "slow" else 0
        client.order(room, action, "" if is_about_room else target.nick, value, self.now_s)

    def _do_drop(self) -> None:
        """Let an operator remove a text."""
        witness, chance = self.judge.witness, self.chance
        names = sorted(witness.now)
        if not names or self.broker.core is None:
            return
        name = chance.choice(names)
        texts = [
            (spoken.text, seq)
            for seq, spoken in witness.rooms.get(witness.now[name], {}).items()
            if spoken.text in witness.places
        ]
        if texts:
            self._drop(name, *chance.choice(texts[-5:]))

    def _drop(self, name: str, text: str, seq: int) -> None:
        self._requests += 1
        self.trace.note("operator", f"removes {text}, {name} {seq}")
        self.judge.doors.drops(self._requests, text, self.judge.witness.now[name], seq)
        command = Admin(self._requests, "drop", name, value=seq)
        self.broker.admin.append(wire.command_frames(wire.NO_TOKEN, command))

    def _do_spy(self) -> None:
        """Let somebody try a topic or a ticket that they were told, of where they are out now."""
        spies = [
            (client, told)
            for client in self.clients
            for told in client.secrets
            if self.judge.doors.why_out(client.name, told.room)
        ]
        if not spies or self.broker.core is None:
            return
        client, told = self.chance.choice(spies)
        if self.chance.random() < 0.5:
            self.network.listen(client.name, [told.subscription]).is_deaf = True
        else:
            question = wire.History(1, told.room, told.ticket, wire.Mode.BEFORE, 1 << 40, 100)
            self.broker.answer(client.name, question)

    def _do_pass_time(self) -> None:
        self._pass(self.chance.choice([0.1, 1.0, 4.0]))
