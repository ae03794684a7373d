"""One client's conversation over plain blocking sockets: whether a server can be reached at all."""

from __future__ import annotations

import selectors
import socket
from contextlib import ExitStack
from typing import Final, TypeVar

from bench.dialect import Conversation, Dialect, Heard, Unexpected
from bench.target import Target

T = TypeVar("T")

SILENCE_S_MAX: Final = 5.0
READ_BYTES: Final = 65_536


def converse(target: Target, dialect: Dialect, conversation: Conversation[T]) -> T:
    """Lead a conversation over connections of its own; return what it returns.

    Raises `OSError` when the server cannot be reached, and `Unexpected`.
    """
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        sockets: list[socket.socket] = []
        for channel, port_at in enumerate(dialect.channels):
            address = (target.host, target.ports[port_at])
            tcp = stack.enter_context(socket.create_connection(address, SILENCE_S_MAX))
            sockets.append(tcp)
            selector.register(tcp, selectors.EVENT_READ, channel)
        try:
            says = next(conversation)
            while True:
                for say in says:
                    sockets[say.channel].sendall(say.data)
                says = conversation.send(_hear(selector, sockets))
        except StopIteration as end:
            value: T = end.value
            return value


def _hear(selector: selectors.BaseSelector, sockets: list[socket.socket]) -> Heard:
    for key, _ in selector.select(SILENCE_S_MAX):
        channel: int = key.data
        if data := sockets[channel].recv(READ_BYTES):
            return Heard(channel, data)
        raise Unexpected(f"the server closed connection {channel}")
    raise Unexpected(f"the server was silent for {SILENCE_S_MAX} s")
