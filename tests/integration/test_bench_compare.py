"""The comparison from its command line to its table: real servers, each several times."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.protocol_document import ROOT

SERVERS = ("hubbub", "proxy")  # Neither has to be installed.


def test_servers_are_compared_by_the_same_work(tmp_path: Path) -> None:
    """Each runs as often as the others, loses nothing, and is in the table."""
    raw, table = tmp_path / "raw.json", tmp_path / "table.md"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench", "compare", "--work", "rest-2"),
            *("--servers", ",".join(SERVERS), "--repeat", "2", "--messages", "20"),
            *("--warmup", "0", "--json", str(raw), "--markdown", str(table)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(raw.read_text())["results"]
    assert Counter(result["server"] for result in results) == dict.fromkeys(SERVERS, 2)
    for result in results:
        counts = result["counts"]
        assert counts["delivered"] == 2 * counts["sent"] > 0
        assert counts["lost"] == counts["duplicated"] == counts["reordered"] == 0
    for server in SERVERS:
        assert server in table.read_text().lower()
