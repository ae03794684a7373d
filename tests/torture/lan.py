"""A LAN of hosts in network namespaces, with a wire that can be bad: for tests that are root.

Each host has a TUN device, whose other end is a thread here: it carries packets between the
hosts, and loses, delays, doubles, reorders and withholds them as it is told. That is what
`tc netem` does, which the kernels of small virtual machines often lack; and here a seed decides.
Needs Linux, root and `ip` (iproute2). https://docs.kernel.org/networking/tuntap.html
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import heapq
import itertools
import os
import random
import select
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from tests.needs import lack

T = TypeVar("T")

NAMESPACES = Path("/var/run/netns")  # Where `ip netns` keeps them by name.
NETWORK = "10.77.0"
DEVICE = "lan0"
PACKET_BYTES_MAX = 65_536
IPV4 = 4
_CLONE_NEWNET = 0x40000000
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_numbers = itertools.count()


class Unavailable(Exception):
    """No hosts can be made on this machine; the message says why."""


class Weather(NamedTuple):
    """How bad the wire is. Parts are from 0 to 1; times are one way."""

    lost: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0  # Added by chance; packets overtake each other within it.
    doubled: float = 0.0


GOOD = Weather()


class Host:
    """One host: a namespace with one device."""

    def __init__(self, name: str, number: int) -> None:
        """Make it; raise `Unavailable`."""
        self.namespace = f"hubbub-{os.getpid()}-{name}-{next(_numbers)}"
        self.address = f"{NETWORK}.{number}"
        self.prefix = ["ip", "netns", "exec", self.namespace]
        _run("ip", "netns", "add", self.namespace)
        try:
            self.device = run_inside(self, _open_device)
            _run("ip", "-n", self.namespace, "link", "set", "lo", "up")
            _run("ip", "-n", self.namespace, "addr", "add", f"{self.address}/24", "dev", DEVICE)
            _run("ip", "-n", self.namespace, "link", "set", DEVICE, "up")
        except OSError as error:
            self.remove()
            raise Unavailable(f"no TUN device can be made: {error.strerror}") from error

    def remove(self) -> None:
        """Remove it; the device goes with its descriptor."""
        if hasattr(self, "device"):
            os.close(self.device)
        _run("ip", "netns", "del", self.namespace)


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=20)
    except subprocess.CalledProcessError as error:
        raise Unavailable(f"{' '.join(command[:3])}: {error.stderr.strip()}") from error


def _open_device() -> int:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        request = struct.pack("16sH22x", DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(device, _TUNSETIFF, request)
    except OSError:
        os.close(device)
        raise
    return device


def run_inside(host: Host, call: Callable[[], T]) -> T:
    """Call a function on a thread that lives on a host, as do threads and processes it starts."""
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            namespace = os.open(NAMESPACES / host.namespace, os.O_RDONLY)
            try:
                if libc.setns(namespace, _CLONE_NEWNET):
                    number = ctypes.get_errno()
                    raise OSError(number, os.strerror(number))
            finally:
                os.close(namespace)
            results.append(call())
        except BaseException as error:  # noqa: BLE001 - raised below, by the one who waits
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


class Lan(threading.Thread):
    """The wire between some hosts. Starts and ends with the `with` block."""

    def __init__(self, *names: str, seed: int = 1) -> None:
        """Make the hosts; raise `Unavailable`."""
        super().__init__(name="lan", daemon=True)
        if os.geteuid() != 0:
            raise Unavailable("only root can make network namespaces")
        if not shutil.which("ip"):
            raise Unavailable("there is no `ip` (Debian: apt install iproute2)")
        self.weather = GOOD
        self.carried = self.lost = self.withheld = 0  # Packets.
        self._away: set[bytes] = set()  # Addresses whose cable is cut.
        self._chance = random.Random(seed)
        self._waiting: list[tuple[float, int, int, bytes]] = []  # Due, tie, device, packet.
        self._ties = itertools.count()
        self._end = os.eventfd(0)
        self.hosts: dict[str, Host] = {}
        try:
            for number, name in enumerate(names, 1):
                self.hosts[name] = Host(name, number)
        except BaseException:
            self._remove()
            raise

    # --- for tests ----------------------------------------------------------
    def cut(self, name: str) -> None:
        """Cut a host's cable: neither side is told."""
        self._away |= {_packed(self.hosts[name].address)}

    def mend(self, name: str) -> None:
        """Plug the cable in again."""
        self._away -= {_packed(self.hosts[name].address)}

    @contextmanager
    def without(self, name: str) -> Iterator[None]:
        """Cut a host off for the time of the block."""
        self.cut(name)
        yield
        self.mend(name)

    # --- the wire -----------------------------------------------------------
    def run(self) -> None:
        """Carry packets until the end."""
        routes = {_packed(host.address): host.device for host in self.hosts.values()}
        poll = select.poll()
        for device in (*routes.values(), self._end):
            poll.register(device, select.POLLIN)
        while True:
            for device, _ in poll.poll(self._wait_ms()):
                if device == self._end:
                    return
                self._take(device, routes)
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                _, _, device, packet = heapq.heappop(self._waiting)
                with contextlib.suppress(OSError):  # A host that ends takes no packets.
                    os.write(device, packet)

    def _wait_ms(self) -> int | None:
        if not self._waiting:
            return None
        return max(0, int((self._waiting[0][0] - time.monotonic()) * 1_000) + 1)

    def _take(self, device: int, routes: dict[bytes, int]) -> None:
        packet = os.read(device, PACKET_BYTES_MAX)
        route = routes.get(packet[16:20])  # RFC 791, 3.1: source and destination.
        if packet[0] >> 4 != IPV4 or route is None:
            return  # IPv6 looks for neighbours.
        if packet[12:16] in self._away or packet[16:20] in self._away:
            self.withheld += 1
            return
        weather, chance = self.weather, self._chance.random
        if chance() < weather.lost:
            self.lost += 1
            return
        for _ in range(2 if chance() < weather.doubled else 1):
            self.carried += 1
            due_s = time.monotonic() + weather.delay_s + chance() * weather.jitter_s
            heapq.heappush(self._waiting, (due_s, next(self._ties), route, packet))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.eventfd_write(self._end, 1)
        self.join()
        self._remove()

    def _remove(self) -> None:
        for host in self.hosts.values():
            host.remove()
        os.close(self._end)


def _packed(address: str) -> bytes:
    return bytes(map(int, address.split(".")))


def lan_or_skip(*names: str) -> Lan:
    """Return a LAN of hosts, or skip the test where none can be made."""
    try:
        return Lan(*names)
    except Unavailable as reason:
        lack(str(reason))
