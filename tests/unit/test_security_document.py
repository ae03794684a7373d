"""docs/SECURITY.md lists every attack that is tested, and no other."""

from __future__ import annotations

import re

from tests import markdown
from tests.markdown import ROOT

PAGE = markdown.read("docs/SECURITY.md")
TESTS = re.compile(r"^def (test_\w+)\(", re.MULTILINE)
NAMED = re.compile(r"^tests/attacks/(test_\w+\.py)::(test_\w+)$")


def rows() -> list[list[str]]:
    return markdown.table(PAGE, "attack", "test", "result")


def test_every_named_test_is_there_and_every_test_is_named() -> None:
    """Each once: a row is an attack, and an attack that nobody tells of helps nobody."""
    named = []
    for attack, test, result in rows():
        found = NAMED.match(test)
        assert found, test
        assert attack
        assert result
        named.append((found[1], found[2]))
    real = [
        (path.name, test)
        for path in (ROOT / "tests" / "attacks").glob("test_*.py")
        for test in TESTS.findall(path.read_text(encoding="utf-8"))
    ]
    assert sorted(real) == sorted(named)


def test_every_test_says_what_it_shows_about_an_attacker() -> None:
    """The files of attacks are many; none is empty, and each begins with what is attacked."""
    for path in (ROOT / "tests" / "attacks").glob("test_*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith('"""'), path.name
        assert TESTS.findall(text), path.name


def test_who_found_a_weakness_is_told_how_to_say_so_in_private() -> None:
    """The page's last words; they are linked, and every link within the page leads somewhere."""
    _, _, section = PAGE.partition("\n## You found a weakness\n")
    assert not re.search("^## ", section, re.MULTILINE)
    for part in ("Report a\n   vulnerability", "**What to write**", "**What we promise**"):
        assert part in section
    assert "@" not in section, "the project has no address"
    anchors = {_anchor(heading) for heading in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)}
    linked = re.findall(r"\]\(#([^)]+)\)", PAGE)
    linked += re.findall(r"SECURITY\.md#([^)]+)\)", markdown.read("CONTRIBUTING.md"))
    assert "you-found-a-weakness" in linked
    assert set(linked) <= anchors


def _anchor(heading: str) -> str:
    """Return what the hosts of repositories make of a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
