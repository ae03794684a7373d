"""The broker's own key pair: made once, kept where nobody else reads it.

The secret key is read from its file by each process that needs it, and goes nowhere else: not
into orders, arguments, the environment or the log.
"""

from __future__ import annotations

from pathlib import Path

import zmq

from common import certificates, private_files
from common.certificates import KeyPair
from common.errors import HubbubError
from common.private_files import FileUnusable

FOLDER_NAME = "keys"  # In the data folder.
PUBLIC_NAME = "broker.key"


def load_or_make(data: Path) -> KeyPair:
    """Return the key pair of a data folder, made where there is none; raise `HubbubError`."""
    if not zmq.has("curve"):
        raise HubbubError("this libzmq was built without CURVE, so nothing can be encrypted")
    path = data / FOLDER_NAME / PUBLIC_NAME
    try:
        private_files.make_folder(path.parent)
        return certificates.load_or_make(path)
    except OSError as error:
        message = f"the keys in {path.parent} cannot be made or read: {error.strerror}"
        raise FileUnusable(message) from error


def load(data: Path) -> KeyPair:
    """Return the key pair of a data folder; raise `FileUnusable`, FileNotFoundError or OSError."""
    path = data / FOLDER_NAME / PUBLIC_NAME
    private_files.check_folder(path.parent)
    return certificates.load(path)
