"""Turns away who knocks while the broker has no descriptor left; a process of its own for a second.

Run by `broker.host.door` as a script, with the listening socket as descriptor 3 and nothing else.
It has descriptors where the broker has none, so it can accept, and close at once.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time

LISTENER = 3
BOUNCE_S = 1.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no words, and nothing left of it in the kernel.
DESCRIPTORS_MAX = 1 << 20


def main() -> None:
    """Turn away everybody for a while."""
    os.closerange(LISTENER + 1, DESCRIPTORS_MAX)  # What was inherited must end with the broker.
    listener = socket.socket(fileno=LISTENER)
    listener.setblocking(False)  # As it is: the broker may be faster.
    poller = select.poll()
    poller.register(listener, select.POLLIN)
    end_s = time.monotonic() + BOUNCE_S
    while (left_s := end_s - time.monotonic()) > 0:
        if not poller.poll(left_s * 1_000):
            continue
        try:
            knocking, _ = listener.accept()
        except OSError:
            continue
        knocking.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        knocking.close()


if __name__ == "__main__":
    main()
