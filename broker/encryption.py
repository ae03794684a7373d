"""Whether the broker encrypts, and what its operator is told about it."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

from broker.config import Settings
from common.keys import fingerprint, key_text

LOBBY = "lobby"


def is_loopback(address: str) -> bool:
    """Tell whether a numeric address is reached from this machine only."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def is_encrypted(settings: Settings, address: str) -> bool:
    """Tell whether a broker at this numeric address encrypts: whatever leaves the machine is."""
    return settings.secure or not (settings.insecure or is_loopback(address))


def warning(settings: Settings, address: str) -> str:
    """Return what the operator must be warned of; nothing if of nothing."""
    if is_encrypted(settings, address) or is_loopback(address):
        return ""
    return (
        f"INSECURE: {address} is served without encryption (--insecure). Everybody on the way can "
        "read along, change what is said and pass for anybody. Leave --insecure out to encrypt."
    )


def announcement(key: bytes, host: str, port: int) -> list[str]:
    """Return the lines that say who this broker is, and how to join it. key: 32 raw bytes."""
    return [f"the broker's key is {fingerprint(key)}", f"join with: {join_line(key, host, port)}"]


def join_line(key: bytes, host: str, port: int) -> str:
    """Return the link that leads a client here, and shows it the right key."""
    name = host.strip("[]")
    if is_wildcard(name):
        name = own_name()
    return f"hubbub://{f'[{name}]' if ':' in name else name}:{port}/{LOBBY}?key={key_text(key)}"


def own_name() -> str:
    """Return what others on the LAN can call this machine: its name, if that leads here."""
    name = socket.gethostname()
    with contextlib.suppress(OSError, ValueError):
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None)}
        if not all(is_loopback(address) for address in found):
            return name
    # The address of the way out; nothing is sent there (192.0.2.0/24 is nobody's, RFC 5737).
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return name


def is_wildcard(host: str) -> bool:
    """Tell whether a host stands for all addresses of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
