"""The project's documents as data: fenced blocks, tables, links and named tests."""

from __future__ import annotations

import re
from pathlib import Path

import tests

ROOT = Path(tests.__file__).parent.parent
CELL_END = re.compile(r"(?<!\\)\|")  # "\|" is a bar inside a cell.


def documents() -> list[Path]:
    """Return every document of the repository, but for the protocol, which has its own tests."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path for path in found if path.name != "PROTOCOL.md")


def read(path: str | Path) -> str:
    """Return a document's text, by its path in the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Return what stands between ```language and ```, block by block."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """Return a document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def table(text: str, *titles: str) -> list[list[str]]:
    """Return the cells of the only table with these titles; code marks are dropped."""
    head = f"| {' | '.join(titles)} |\n"
    assert text.count(head) == 1, head
    lines = text.partition(head)[2].splitlines()[1:]  # Without the line of dashes.
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        cells = CELL_END.split(line)[1:-1]
        rows.append([cell.strip().replace("`", "").replace("\\|", "|") for cell in cells])
    return rows
