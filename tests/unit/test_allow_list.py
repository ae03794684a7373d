"""The file of keys that are let in."""

from __future__ import annotations

from pathlib import Path

import pytest
import zmq
from zmq.utils import z85

from broker import allow_list
from broker.config import ConfigInvalid

KEY = bytes(range(32))


def read(tmp_path: Path, text: str | bytes) -> tuple[str, ...]:
    path = tmp_path / "allowed"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return allow_list.read(path)


def test_both_spellings_and_remarks_are_read(tmp_path: Path) -> None:
    """Once each, in their order; a Z85 key may begin with the sign of a remark."""
    sharp = bytes.fromhex("f7ffffff") + KEY[4:]
    spelled = z85.encode(sharp).decode()
    text = f"# people\n\n  {KEY.hex()}  anna, desk 4\n{z85.encode(KEY).decode()}\n{spelled}\n#\n"
    assert (KEY.hex(), sharp.hex()) == read(tmp_path, text)
    assert () == read(tmp_path, "")


def test_a_bad_line_is_named(tmp_path: Path) -> None:
    for text in (f"{KEY.hex()}\nanna\n", f"#\n{KEY.hex()[:-1]}", f"\n{KEY.hex()}ff", b"\n\xff\xfe"):
        with pytest.raises(ConfigInvalid, match=r"allowed: line 2: .* is no key"):
            read(tmp_path, text)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="nobody: the keys that are let in cannot"):
        allow_list.read(tmp_path / "nobody")
    with pytest.raises(ConfigInvalid, match="Is a directory"):
        allow_list.read(tmp_path)


def test_a_list_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In keys and in bytes, whatever is in it."""
    monkeypatch.setattr(allow_list, "KEYS_MAX", 2)
    lines = [zmq.curve_keypair()[0].decode() for _ in range(3)]
    assert 2 == len(read(tmp_path, "\n".join(lines[:2])))
    with pytest.raises(ConfigInvalid, match="3 keys are more than 2"):
        read(tmp_path, "\n".join(lines))
    with pytest.raises(ConfigInvalid, match="at most"):
        read(tmp_path, b"#" * (allow_list.FILE_BYTES_MAX + 1))
