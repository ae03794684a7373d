"""The supervisor: starts live and history, watches them, restarts them, ends them.

One thread, one selector; other threads answer who asks for metrics (`broker.metrics.exporter`). It
holds the data folder's lock, reads the console, takes the signals, and touches neither the
chat's sockets nor, after the start, its log.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import msgspec

from broker import allow_list, logs
from broker.child import Orders, Reload, Report
from broker.child_process import Child, end_of
from broker.config import ConfigInvalid, Settings
from broker.encryption import announcement, is_encrypted, warning
from broker.host import certificates, drain_file
from broker.host.ports import free_base_port, resolve
from broker.host.processes import memory_bytes, states
from broker.log.datadir import check_private, hold, note_port
from broker.log.writer import fold, prepare
from broker.lookout import Lookout, snapshot_of
from broker.metrics.figures import Figures
from broker.metrics.health import READY_SILENCE_S, SERVING, STARTING
from common.certificates import KeyPair
from common.endpoints import Address
from common.errors import HubbubError

CHILDREN = ("history", "live")  # History first: whoever hears of the room can read it.
BACK_OFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)  # Between a child's death and its restart.
HEALTHY_S = 30.0  # A child that lived so long is restarted at once again.
START_S_MAX = 30.0
STOP_S_MAX = 4.0  # Then the children are killed: the whole broker leaves within five.
MEMORY_EVERY_S = 2.0
CONSOLE_LINE_MAX = 256
UNSAID_S = 0.05  # A child that has not read all it was told is told more after so long.
# It goes round every two seconds; when not, all of the broker may have been stopped with it.
PAUSED_S = 10.0
PORT_TRIES_MAX = 10
# What SIGHUP changes; everything else needs a restart.
RELOADED = ("allow", "operators", "motd", "rate", "burst", "unlimited")

logger = logging.getLogger("broker")


class StartFailed(HubbubError):
    """A child could not start; the message says why and what to do."""


class PortTaken(StartFailed):
    """A port is in use."""


class StopAsked(HubbubError):
    """A signal came while a child was starting."""


class Supervisor:
    """Everything that one running broker is made of."""

    def __init__(
        self,
        settings: Settings,
        announce: Callable[[str], None],
        load: Callable[[], Settings] | None = None,
    ) -> None:
        """Remember; `announce` is told the ready line, once; `load` reads the settings again."""
        self._settings = settings
        self._announce = announce
        self._load = load or (lambda: settings)
        self._pair: KeyPair | None = None  # None: nothing is encrypted.
        self._allowed: tuple[str, ...] | None = None
        self._children = {name: Child(name) for name in CHILDREN}
        self._selector = selectors.DefaultSelector()
        self._stop_signals = 0
        self._is_stopping = False
        self._is_reload_asked = False
        self._reloads_asked = 0  # By the live process that runs.
        # Who closes the terminal wants the broker to end; whoever has none means the settings.
        self._is_at_terminal = sys.stdin is not None and _is_terminal(sys.stdin)
        self._memory_at_s = 0.0
        self._turn_s = time.monotonic()  # When it went round last.

    def run(self) -> int:
        """Serve until told to stop; return the exit status. Raises `HubbubError` at the start."""
        os.umask(0o077)  # Data, log and lock are the operator's alone.
        folder = Path(self._settings.data)
        address = resolve(self._settings.host)
        self._lock = hold(folder)
        check_private(folder)
        prepare(folder)
        drain_file.note(folder, None)
        self._secure(address)
        self._watch_signals()
        self._lookout = self._open_lookout()
        try:
            self._start(address)
            served = Address(self._settings.host.strip("[]"), self._port).url()
            note_port(self._lock, self._port)
            self._announce(f"hubbub broker ready on {served}")
            if self._pair is not None:
                for line in announcement(self._pair.public, self._settings.host, self._port):
                    logger.info("%s", line)
            self._lookout.ready(served)
            self._watch_console()
            self._watch()
            return self._stop()
        except StopAsked:
            return self._stop()
        finally:
            for child in self._children.values():
                child.kill()
                child.reap()
            self._lookout.close()
            os.close(self._lock)
            self._selector.close()

    # --- starting -----------------------------------------------------------
    def _secure(self, address: str) -> None:
        """Decide whether to encrypt, and whom to let in. Raises `HubbubError`."""
        settings = self._settings
        if is_encrypted(settings, address):
            self._pair = certificates.load_or_make(Path(settings.data))
        elif settings.allow or settings.operators:
            raise ConfigInvalid(
                "allow and operators name keys, which nobody shows who is not encrypted: "
                "give --secure, too"
            )
        self._allowed = _allowed(settings)
        if line := warning(settings, address):
            logger.warning("%s", line)

    def _open_lookout(self) -> Lookout:
        try:
            return Lookout(self._settings)
        except OSError as error:
            raise StartFailed(
                f"cannot serve metrics on port {self._settings.metrics} of 127.0.0.1: "
                f"{error.strerror}; choose another --metrics"
            ) from error

    def _start(self, address: str) -> None:
        tries_count = PORT_TRIES_MAX if self._settings.port == 0 else 1
        for attempt in range(tries_count):
            self._port = self._settings.port or free_base_port(address)
            self._orders = Orders(
                self._settings,
                address,
                self._port,
                self._port + 1,
                self._port + 2,
                introduction_port=self._port + 3,
                is_secure=self._pair is not None,
                allowed=self._allowed,
            )
            try:
                for child in self._children.values():
                    self._start_first(child)
                for child in self._children.values():
                    self._await_report(child)
            except PortTaken:
                for child in self._children.values():
                    child.kill()
                    child.reap()
                if attempt == tries_count - 1:
                    raise
            else:
                for child in self._children.values():
                    self._listen_to(child)
                    child.tell_note()
                return

    def _start_first(self, child: Child) -> None:
        try:
            child.start(msgspec.json.encode(self._orders), self._lock)
        except OSError as error:
            raise StartFailed(
                f"cannot start {child.name}: {error.strerror}; close other programs, or raise the "
                "limits of processes (ulimit -u), open files (ulimit -n) or memory"
            ) from error

    def _await_report(self, child: Child) -> None:
        """Wait until the child serves; raise `StartFailed`."""
        assert child.process is not None
        assert child.process.stdout is not None
        lines: list[bytes] | None = []
        with selectors.DefaultSelector() as selector:
            selector.register(child.process.stdout, selectors.EVENT_READ)
            selector.register(self._signals, selectors.EVENT_READ)
            while lines == []:
                is_unsaid = child.go_on()
                wait_s = child.started_s + START_S_MAX - time.monotonic()
                turn_s = min(wait_s, UNSAID_S) if is_unsaid else wait_s
                ready = [key.fileobj for key, _ in selector.select(max(0.0, turn_s))]
                if self._signals in ready:
                    self._take_signals()  # Or the stop would take it for a second one, and hurry.
                    if self._is_stopping:
                        raise StopAsked
                if child.process.stdout in ready:
                    lines = child.hear()
                elif wait_s <= 0:
                    raise StartFailed(f"{child.name} did not start")
        if lines is None:
            raise StartFailed(f"{child.name} ended at its start; its message is above")
        self._take_report(child, lines[0])

    def _take_report(self, child: Child, line: bytes) -> None:
        """Note that the child serves; raise `StartFailed` when it does not."""
        told = msgspec.json.decode(line, type=Report)
        if told.is_port_taken:
            raise PortTaken(
                f"{told.failure}: another program serves there; stop it or choose another --port"
            )
        if told.failure:
            raise StartFailed(f"cannot serve on {told.failure}; choose another --host or --port")
        child.note = told.note
        child.phase = SERVING

    def _listen_to(self, child: Child) -> None:
        assert child.process is not None
        assert child.process.stdout is not None
        self._selector.register(child.process.stdout, selectors.EVENT_READ, child)

    # --- watching -----------------------------------------------------------
    def _watch_signals(self) -> None:
        """Turn signals into bytes on a pipe, so that the selector sees them."""
        self._signals, writer = os.pipe()
        os.set_blocking(writer, False)
        os.set_blocking(self._signals, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)
        # A broker in the background of a shell must not be stopped for looking at the console.
        signal.signal(signal.SIGTTIN, signal.SIG_IGN)
        self._selector.register(self._signals, selectors.EVENT_READ, "signals")

    def _watch_console(self) -> None:
        """Listen for `q` and Enter; a console that is closed, or none, says nothing."""
        # /dev/null and plain files cannot be waited for, and have nothing to say.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, "console")

    def _watch(self) -> None:
        """Go round until it is time to stop."""
        while not self._is_stopping:
            for key, _ in self._selector.select(self._wait_s()):
                if key.data == "signals":
                    self._take_signals()
                elif key.data == "console":
                    self._take_console_line()
                else:
                    self._hear(key.data)
            if self._is_reload_asked and not self._is_stopping:
                self._reload()
            now_s = time.monotonic()
            for child in self._children.values():
                child.go_on()
                if child.restart_at_s is not None and now_s >= child.restart_at_s:
                    self._restart(child)
            self._watch_silence(now_s)
            self._watch_memory(now_s)
            self._lookout.show(snapshot_of(self._children.values(), now_s))

    def _wait_s(self) -> float:
        now_s = time.monotonic()
        deadlines_s = [self._memory_at_s, self._lookout.next_deadline_s()] + [
            child.restart_at_s
            for child in self._children.values()
            if child.restart_at_s is not None
        ]
        deadlines_s += [now_s + UNSAID_S for child in self._children.values() if child.has_unsaid]
        return max(0.0, min(deadlines_s) - now_s)

    def _take_signals(self) -> None:
        try:
            numbers = os.read(self._signals, CONSOLE_LINE_MAX)
        except BlockingIOError:
            return
        reloads_count = numbers.count(signal.SIGUSR1)  # From live: `hubbub admin reload`.
        self._reloads_asked += reloads_count
        reloads_count += 0 if self._is_at_terminal else numbers.count(signal.SIGHUP)
        self._is_reload_asked |= reloads_count > 0
        self._stop_signals += len(numbers) - reloads_count
        self._is_stopping = self._stop_signals > 0

    def _reload(self) -> None:
        """Read the settings again, and the list of keys; where one is wrong, all stays as it is.

        The children hear of either, for live has perhaps somebody to answer.
        """
        self._is_reload_asked = False
        try:
            fresh = self._load()
            allowed = _allowed(fresh) if self._pair is not None else None
        except HubbubError as error:
            failure = f"{error}; everything stays as it was"
            logger.error("%s", failure)  # noqa: TRY400 - it says all
            self._tell_settings(failure)
            return
        changed = {name: getattr(fresh, name) for name in RELOADED}
        self._settings = msgspec.structs.replace(self._settings, **changed)
        self._allowed = allowed
        self._orders = msgspec.structs.replace(
            self._orders, settings=self._settings, allowed=allowed
        )
        self._tell_settings()
        logger.info(
            "settings were read again: %s; keys let in: %s",
            ", ".join(RELOADED),
            "all" if allowed is None else len(allowed),
        )

    def _tell_settings(self, failure: str = "") -> None:
        """Tell the children what holds from here on, and why it is what held before."""
        told = Reload(self._settings, self._allowed, self._reloads_asked, RELOADED, failure)
        line = msgspec.json.encode(told)
        for child in self._children.values():
            child.tell(line)

    def _take_console_line(self) -> None:
        try:
            line = os.read(sys.stdin.fileno(), CONSOLE_LINE_MAX)
        except OSError:
            line = b""  # In the background of a terminal: it is not ours to read.
        if not line:
            self._selector.unregister(sys.stdin.fileno())
        elif b"q" in [word.strip().lower() for word in line.splitlines()]:
            self._is_stopping = True

    def _hear(self, child: Child) -> None:
        """Take what a child says: its report, then its figures; or the end of its output."""
        lines = child.hear()
        if lines is None:
            self._take_death(child)
            return
        for line in lines:
            try:
                if child.phase == STARTING:
                    self._take_report(child, line)
                    logger.info("%s is back", child.name)
                    child.tell_note()
                else:
                    child.take(msgspec.json.decode(line, type=Figures))
            except StartFailed as error:
                logger.error("%s", error)  # noqa: TRY400 - the message is the cause
                child.kill()
            except msgspec.DecodeError:
                logger.warning("%s said what nobody understands: %r", child.name, line[:100])

    def _take_death(self, child: Child) -> None:
        """Plan the restart of a child whose output has ended."""
        assert child.process is not None
        assert child.process.stdout is not None
        self._selector.unregister(child.process.stdout)
        child.kill()  # An end of output without an end of process would be a hung child.
        status = child.process.wait()
        child.reap()
        if time.monotonic() - child.started_s > HEALTHY_S:
            child.deaths_count = 0
        delay_s = self._plan_restart(child)
        logger.error(
            "%s %s; again in %.2f s",
            child.name,
            end_of(status),
            delay_s,
            extra=logs.fields(process=child.name, status=status, restarts=child.restarts_count),
        )

    def _plan_restart(self, child: Child) -> float:
        """Return in how many seconds it is."""
        delay_s = BACK_OFF_S[min(child.deaths_count, len(BACK_OFF_S) - 1)]
        child.deaths_count += 1
        child.restart_at_s = time.monotonic() + delay_s
        return delay_s

    def _restart(self, child: Child) -> None:
        orders = msgspec.structs.replace(self._orders, restarts=child.restarts_count + 1)
        try:
            child.start(msgspec.json.encode(orders), self._lock)
        except OSError as error:  # What killed it may leave no process or descriptor for a while.
            delay_s = self._plan_restart(child)
            logger.error(  # noqa: TRY400 - the message is the cause
                "%s cannot be started (%s); again in %.2f s",
                child.name,
                error.strerror,
                delay_s,
                extra=logs.fields(process=child.name, restarts=child.restarts_count),
            )
            return
        self._listen_to(child)
        if child.name == "live":
            self._reloads_asked = 0  # By this one.

    def _watch_silence(self, now_s: float) -> None:
        """Restart a child that hangs: one that has not started, or gives no sign of life.

        One that waits for the disk is left alone: another one would wait, too. So is one that a
        debugger holds.
        """
        if now_s - self._turn_s > PAUSED_S:
            for child in self._children.values():
                child.heard_s = now_s
        self._turn_s = now_s
        for child in self._children.values():
            silent_s = now_s - child.heard_s
            if child.phase == STARTING and silent_s > START_S_MAX:
                logger.error("%s did not start in %.0f s: again", child.name, START_S_MAX)
                child.kill()
            elif child.phase == SERVING and child.process is not None:
                found = states(child.process.pid) if silent_s > READY_SILENCE_S else set()
                child.is_at_disk = "D" in found
                if silent_s > self._settings.silence and not found & {"D", "t"}:
                    logger.error(
                        "%s has given no sign of life for %.0f s: restarting it",
                        child.name,
                        silent_s,
                        extra=logs.fields(process=child.name, silent_s=round(silent_s, 1)),
                    )
                    child.kill()

    def _watch_memory(self, now_s: float) -> None:
        """Restart a child that a peer made grow beyond its bound.

        libzmq keeps refused subscriptions and half messages of a peer without a limit of its
        own, and cannot be told to drop a peer. A restart drops them all; clients resume.
        """
        if now_s < self._memory_at_s:
            return
        self._memory_at_s = now_s + MEMORY_EVERY_S
        for child in self._children.values():
            memory_mib = memory_bytes(child.process.pid) >> 20 if child.process else 0
            if memory_mib > self._settings.memory_mib:
                logger.error(
                    "%s holds %d MiB, more than %d: restarting it",
                    child.name,
                    memory_mib,
                    self._settings.memory_mib,
                )
                child.kill()

    # --- stopping -----------------------------------------------------------
    def _stop(self) -> int:
        """End the children in order: live tells the clients, then history may go."""
        logger.info("closing")
        children = self._children.values()
        self._lookout.closing(snapshot_of(children, time.monotonic(), is_closing=True))
        deadline_s = time.monotonic() + STOP_S_MAX
        signals_count = self._stop_signals
        is_clean = True
        for name in reversed(CHILDREN):
            child = self._children[name]
            child.tell_to_stop()
            while child.process is not None and child.process.poll() is None:
                try:
                    child.process.wait(0.02)
                except subprocess.TimeoutExpired:
                    self._take_signals()
                is_hurried = self._stop_signals > signals_count
                if is_hurried or time.monotonic() > deadline_s:
                    child.kill()
                    is_clean = is_hurried
                    child.process.wait()
            child.reap()
        if is_clean and self._stop_signals == signals_count:
            fold(Path(self._settings.data))
        return 0 if is_clean else 1


def _is_terminal(file: TextIO) -> bool:
    try:
        return file.isatty()
    except (OSError, ValueError):  # Closed.
        return False


def _allowed(settings: Settings) -> tuple[str, ...] | None:
    """Return the keys that are let in, in hex, None for all; raise `ConfigInvalid`."""
    return allow_list.read(Path(settings.allow).expanduser()) if settings.allow else None


def run(settings: Settings, announce: Callable[[str], None], load: Callable[[], Settings]) -> int:
    """Run a broker in this process until it is told to stop; return the exit status.

    load: reads the settings again.
    """
    logs.set_up(settings.log_level, settings.log_format)
    return Supervisor(settings, announce, load).run()
