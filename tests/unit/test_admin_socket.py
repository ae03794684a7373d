"""The socket in the data folder: who may connect, what is left behind, and long paths."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket as sockets
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from broker.host.admin_socket import ANSWERS_WAITING_MAX, MESSAGES_MAX, AdminRoute, AdminSocket
from common.endpoints import ADMIN_SOCKET, UNIX_PATH_BYTES_MAX, admin_url
from common.limits import COMMAND_BYTES_MAX
from tests.waiting import DEADLINE_S, eventually

WAIT_MS = int(DEADLINE_S * 1_000)
QUIET_MS = 300

Context = zmq.Context[zmq.Socket[bytes]]
Connect = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def context() -> Iterator[Context]:
    made: Context = zmq.Context()
    yield made
    made.destroy(0)


@pytest.fixture
def connect(context: Context) -> Iterator[Connect]:
    """Let somebody connect to the socket of a folder, as the command line does."""
    opened: list[int] = []
    dealers: list[zmq.Socket[bytes]] = []

    def connected(folder: Path, queue_max: int = 0) -> zmq.Socket[bytes]:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        dealers.append(context.socket(zmq.DEALER))
        dealers[-1].setsockopt(zmq.RCVHWM, queue_max)
        dealers[-1].connect(admin_url(str(folder), opened[-1]))
        return dealers[-1]

    yield connected
    for dealer in dealers:
        dealer.close(0)
    context.destroy(0)  # Until then libzmq may come back to the folders.
    for descriptor in opened:
        os.close(descriptor)


def taken(server: AdminSocket) -> list[tuple[AdminRoute, list[bytes]]]:
    """Wait for a message, and return what one turn takes."""
    assert server.socket.poll(WAIT_MS)
    return list(server.receive())


def folder_of(parent: Path, path_bytes: int) -> Path:
    """Return a new folder whose socket has a path of so many bytes."""
    folder = parent
    while (left := path_bytes - len(os.fsencode(folder)) - len(f"/{ADMIN_SOCKET}")) > 0:
        folder /= "x" * min(left - 1, 100)
    folder.mkdir(mode=0o700, parents=True)
    assert path_bytes == len(os.fsencode(folder / ADMIN_SOCKET))
    return folder


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    """Return a folder below a short path: those of the tests may be too long themselves."""
    folder = Path("/proc/self/fd")
    opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield folder / str(opened)
    os.close(opened)


@pytest.mark.parametrize("path_bytes", [50, UNIX_PATH_BYTES_MAX, UNIX_PATH_BYTES_MAX + 1, 900])
def test_orders_go_there_and_answers_back_however_long_the_path(
    short: Path, path_bytes: int, context: Context, connect: Connect
) -> None:
    folder = folder_of(short, path_bytes)
    is_direct = path_bytes <= UNIX_PATH_BYTES_MAX
    assert is_direct == (admin_url(str(folder), 3) == f"ipc://{folder}/{ADMIN_SOCKET}")
    server = AdminSocket(context, folder)
    one, two = connect(folder), connect(folder)
    for dealer in (one, two):
        dealer.send_multipart([b"head", b"payload"])
        ((route, frames),) = taken(server)
        assert [b"head", b"payload"] == frames
        server.send(route, [b"answer", b"to it"])
        assert dealer.poll(WAIT_MS)
        assert [b"answer", b"to it"] == dealer.recv_multipart()
    server.close()
    assert [] == list(folder.iterdir())


def test_a_folder_whose_name_is_no_text_has_one(
    tmp_path: Path, context: Context, connect: Connect
) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    folder.mkdir()
    server = AdminSocket(context, folder)
    connect(folder).send_multipart([b"head", b"payload"])
    assert 1 == len(taken(server))
    server.close()


def test_the_file_is_its_owners_alone(tmp_path: Path, context: Context) -> None:
    """Whatever the umask: write permission is what connecting takes (unix(7))."""
    server = AdminSocket(context, tmp_path)
    mode = (tmp_path / ADMIN_SOCKET).stat().st_mode
    assert (True, 0o600) == (stat.S_ISSOCK(mode), stat.S_IMODE(mode))
    server.close()


def test_the_kernel_is_asked_who_knocks(tmp_path: Path, context: Context, connect: Connect) -> None:
    """A process of another user is not let in, even where the mode lets it."""
    server = AdminSocket(context, tmp_path, users=[os.geteuid() + 1])
    dealer = connect(tmp_path)
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    dealer.send_multipart([b"head", b"payload"])
    assert monitor.poll(WAIT_MS)
    event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder)
    assert zmq.EVENT_DISCONNECTED == event
    assert not server.socket.poll(QUIET_MS)
    dealer.disable_monitor()
    monitor.close()
    server.close()


def test_what_a_dead_broker_left_is_replaced(
    tmp_path: Path, context: Context, connect: Connect
) -> None:
    with sockets.socket(sockets.AF_UNIX) as dead:
        opened = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        dead.bind(f"/proc/self/fd/{opened}/{ADMIN_SOCKET}")
        os.close(opened)
    assert (tmp_path / ADMIN_SOCKET).exists()
    server = AdminSocket(context, tmp_path)
    connect(tmp_path).send_multipart([b"head", b"payload"])
    assert 1 == len(taken(server))
    server.close()


@pytest.mark.parametrize("name", ["gone", "file"])
def test_without_a_folder_there_is_none(tmp_path: Path, context: Context, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=name):
        AdminSocket(context, tmp_path / name)


def test_a_file_system_without_modes_has_none(
    tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then everybody could connect."""
    monkeypatch.setattr(Path, "chmod", lambda *_: (tmp_path / ADMIN_SOCKET).stat())
    before = os.umask(0o022)
    try:
        with pytest.raises(OSError, match="modes"):
            AdminSocket(context, tmp_path)
    finally:
        os.umask(before)
    assert [] == list(tmp_path.iterdir())


def test_a_turn_takes_a_few_messages(tmp_path: Path, context: Context, connect: Connect) -> None:
    server = AdminSocket(context, tmp_path)
    dealer = connect(tmp_path)
    for _ in range(MESSAGES_MAX + 1):
        dealer.send_multipart([b"head", b"payload"])
    counts: list[int] = []

    def are_all_there() -> bool:
        counts.append(len(list(server.receive())))
        return MESSAGES_MAX + 1 == sum(counts)

    eventually(are_all_there, "the messages")
    assert max(counts) <= MESSAGES_MAX
    server.close()


def test_answers_that_nobody_reads_are_dropped(
    tmp_path: Path, context: Context, connect: Connect
) -> None:
    """With an error: whoever reads slowly does not make the broker hold tables without end."""
    server = AdminSocket(context, tmp_path)
    assert ANSWERS_WAITING_MAX == server.socket.getsockopt(zmq.SNDHWM)
    connect(tmp_path, 1).send_multipart([b"head", b"payload"])
    ((route, _),) = taken(server)

    def is_full() -> bool:
        with contextlib.suppress(zmq.Again):
            server.send(route, [b"head", bytes(1_000_000)])
            return False
        return True

    sent = itertools.takewhile(lambda _: not is_full(), range(1_000))
    assert len(list(sent)) < 100
    server.close()


def test_a_frame_that_is_too_long_ends_its_connection(
    tmp_path: Path, context: Context, connect: Connect
) -> None:
    server = AdminSocket(context, tmp_path)
    large, small = connect(tmp_path), connect(tmp_path)
    large.send_multipart([b"head", bytes(COMMAND_BYTES_MAX + 1)])
    small.send_multipart([b"head", bytes(COMMAND_BYTES_MAX)])
    ((_, frames),) = taken(server)
    assert COMMAND_BYTES_MAX == len(frames[1])
    assert not server.socket.poll(QUIET_MS)
    server.close()
