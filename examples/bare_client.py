"""A client written from docs/PROTOCOL.md alone: it imports nothing of Hubbub.

    python examples/bare_client.py HOST:PORT NICK ROOM TEXT [--until WORD]

Joins the room, prints its last 100 entries, says the text, and prints what is said until somebody
says the word (its own text, if no word is given). It shows the frames, the numbers and the cursor.
It leaves out what a real client needs besides: coming back after a lost connection, another epoch
of the log, presence, and neutralising control characters in what others say.
"""

import argparse
import secrets
import struct
import sys
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import zmq

Socket = zmq.Socket[bytes]

GREET, HELLO, BYE, JOIN, SEND, HISTORY = 1, 2, 3, 5, 7, 10
ERROR = 192
AFTER, BEFORE = 0, 1
BATCH = 1
ANSWER_S_MAX = 5.0


# --- MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) -----
def pack(value: object) -> bytes:
    """Encode what commands hold: whole numbers from 0, strings, bytes, booleans and lists."""
    match value:
        case bool():
            return b"\xc3" if value else b"\xc2"
        case int():
            return bytes([value]) if value < 0x80 else struct.pack(">BQ", 0xCF, value)
        case str():
            data = value.encode()
            return struct.pack(">BH", 0xDA, len(data)) + data
        case bytes():
            return struct.pack(">BB", 0xC4, len(value)) + value
        case list():
            return struct.pack(">BH", 0xDC, len(value)) + b"".join(map(pack, value))
    raise TypeError(value)


# By first byte: the format of a number, or of the length of bytes, a string or a list.
NUMBERS = dict(zip(range(0xCA, 0xD4), ("f", "d", *"BHIQbhiq"), strict=True))
CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
LENGTHS = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I"}


def unpack(data: bytes, start: int = 0) -> tuple[Any, int]:
    """Decode one value; return it and where it ends. Raises for what Hubbub never sends."""
    first, at = data[start], start + 1
    if first <= 0x7F or first >= 0xE0:
        return (first if first <= 0x7F else first - 0x100), at
    if first in CONSTANTS:
        return CONSTANTS[first], at
    if first in NUMBERS:
        form = ">" + NUMBERS[first]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if 0x90 <= first <= 0xBF:
        length = first & (0x1F if first >= 0xA0 else 0x0F)
    else:
        form = ">" + LENGTHS[first]
        (length,) = struct.unpack_from(form, data, at)
        at += struct.calcsize(form)
    if first <= 0x9F or first >= 0xDC:
        items = []
        for _ in range(length):
            item, at = unpack(data, at)
            items.append(item)
        return items, at
    raw = data[at : at + length]
    return (raw if first in (0xC4, 0xC5, 0xC6) else raw.decode()), at + length


# --- the client ---------------------------------------------------------------
class Client:
    """One session. Owns its three sockets."""

    def __init__(self, broker: str) -> None:
        """Connect to the broker at HOST:PORT and subscribe the inbox."""
        host, _, port = broker.rpartition(":")
        self.context: zmq.Context[Socket] = zmq.Context()
        self.token = secrets.token_bytes(16)
        self.ids = count(2**52)
        self.url = f"tcp://{host}"
        self.commands = self.socket(zmq.DEALER, int(port), linger_ms=1_000)
        _, _, _, rooms_port, self.history_port, *_ = self.ask(GREET)
        self.rooms = self.socket(zmq.SUB, rooms_port)
        letters = bytes(ord("a") + int(digit, 16) for digit in self.token.hex()[:10])
        self.rooms.subscribe(b"\0" + letters)

    def socket(self, kind: int, port: int, linger_ms: int = 0) -> Socket:
        """Return a socket that connects to a port of the broker."""
        socket = self.context.socket(kind)
        options = (
            (zmq.LINGER, linger_ms), (zmq.MAXMSGSIZE, 8 << 20), (zmq.TCP_KEEPALIVE, 1),
            (zmq.RECONNECT_IVL, 100), (zmq.RECONNECT_IVL_MAX, 2_000), (zmq.IPV6, "[" in self.url),
        )  # fmt: skip
        for option, value in options:
            socket.setsockopt(option, int(value))
        socket.connect(f"{self.url}:{port}")
        return socket

    def frames(self, command: int, *fields: object) -> list[bytes]:
        """Return the two frames of a command."""
        token = bytes(16) if command in (GREET, HISTORY) else self.token
        return [b"HUB\x01" + bytes([command]) + token, pack(list(fields))]

    def ask(self, command: int, *fields: object) -> list[Any]:
        """Send a command with a new id; return the fields of the reply to it."""
        request_id = next(self.ids)
        self.commands.send_multipart(self.frames(command, request_id, *fields))
        return self.reply_to(request_id)

    def reply_to(self, request_id: int) -> list[Any]:
        """Wait for the reply with this id or number, and return its fields."""
        deadline_s = time.monotonic() + ANSWER_S_MAX
        while (reply := check(receive(self.commands, deadline_s)))[0] != request_id:
            pass
        return reply

    def page(self, room: str, ticket: bytes, mode: int, at: int) -> list[list[Any]]:
        """Ask history; return the batches."""
        with self.socket(zmq.REQ, self.history_port) as socket:
            socket.send_multipart(self.frames(HISTORY, 0, room, ticket, mode, at, 100))
            frames = receive(socket, time.monotonic() + ANSWER_S_MAX)
        check(frames)
        return [unpack(frame)[0] for frame in frames[2:]]


def receive(socket: Socket, deadline_s: float) -> list[bytes]:
    """Return the frames of the next message, or end the program."""
    if not socket.poll(max(0, int((deadline_s - time.monotonic()) * 1_000))):
        sys.exit("the broker does not answer")
    return socket.recv_multipart()


def check(frames: list[bytes]) -> list[Any]:
    """Return the fields of a reply; end the program at an ERROR."""
    fields: list[Any] = unpack(frames[1])[0]
    if frames[0][4] == ERROR:
        sys.exit(f"refused: {fields[1]}: {fields[2]}")
    return fields


def entries(batch: list[Any]) -> Iterator[tuple[int, str, str]]:
    """Yield seq, nick and text of each entry of a batch, or what a page says is lost."""
    if not batch[5] and batch[4] <= batch[3]:
        yield batch[3], "---", f"{batch[3] - batch[4] + 1} entries are lost"
    seqs = count(batch[4])
    for _, nick, _, texts, *_ in batch[5]:
        yield from ((next(seqs), nick, text) for text in texts)


def main() -> None:
    """Greet, hello, join, history, send, receive, bye."""
    parser = argparse.ArgumentParser(usage="bare_client.py HOST:PORT NICK ROOM TEXT [--until WORD]")
    for name in ("broker", "nick", "room", "text", "--until"):
        parser.add_argument(name)
    given = parser.parse_args()
    client = Client(given.broker)
    welcome = client.ask(HELLO, given.nick, secrets.token_bytes(16), secrets.randbits(53), 1)
    _, room, topic, ticket, _, _, head, _, _, users, *_ = client.ask(JOIN, given.room)
    client.rooms.subscribe(topic)
    proof_s = time.monotonic() + ANSWER_S_MAX
    while not receive(client.rooms, proof_s)[0].startswith(topic):
        pass  # Another's news in the inbox. A frame on the topic proves the subscription.
    print(f"{welcome[1]} is in #{room}, {users} users now", flush=True)
    cursor = head
    shown = [e for b in client.page(room, ticket, BEFORE, head + 1) for e in entries(b)]
    for entry in [entry for entry in shown if entry[0] <= head][-100:]:
        print("history {} {}: {}".format(*entry), flush=True)
    client.commands.send_multipart(client.frames(SEND, 1, [[room, 0, [given.text]]]))
    _, ((first, *_),) = client.reply_to(1)
    print(f"acknowledged as {first}", flush=True)
    while True:
        (frame,) = client.rooms.recv_multipart()
        body = unpack(frame, len(topic))[0] if frame.startswith(topic) else [None]
        if body[0] != BATCH:
            continue
        is_hole = body[3] > cursor
        for batch in client.page(room, ticket, AFTER, cursor) if is_hole else [body]:
            for seq, nick, text in entries(batch):
                if seq > cursor:
                    cursor = seq
                    print(f"live {seq} {nick}: {text}", flush=True)
                    if text == (given.until or given.text):
                        client.ask(BYE)
                        client.context.destroy()
                        return


if __name__ == "__main__":
    main()
