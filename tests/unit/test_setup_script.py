"""What scripts/setup.sh says on a machine that lacks what it needs."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tests

SCRIPT = Path(tests.__file__).parent.parent / "scripts" / "setup.sh"
# What the script uses besides Python. PATH holds these alone, so it finds no real Python.
TOOLS = ["sh", "dirname", "cat", "cksum"]


@dataclass
class Machine:
    """A folder with the script in it, and a PATH of its own."""

    folder: Path

    def add_python(self, name: str, pretence: str) -> None:
        """Add a Python that runs `pretence` before what it is asked to run."""
        path = self.folder / "bin" / name
        path.write_text(
            f"#!/bin/sh\nexec '{sys.executable}' -c 'import sys; {pretence}; exec(sys.argv[1])' "
            '"$2"\n'
        )
        path.chmod(0o755)

    def set_up(self, **environment: str) -> str:
        """Run the script, which must fail, and return what it says."""
        result = subprocess.run(
            [self.folder / "bin" / "sh", self.folder / "scripts" / "setup.sh"],
            env={"PATH": str(self.folder / "bin"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 1
        assert result.stdout == ""
        assert "Traceback" not in result.stderr
        assert not (self.folder / ".venv").exists()
        return result.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder = tmp_path / "a folder"
    (folder / "bin").mkdir(parents=True)
    for tool in TOOLS:
        (folder / "bin" / tool).symlink_to(str(shutil.which(tool)))
    (folder / "scripts").mkdir()
    shutil.copy(SCRIPT, folder / "scripts")
    return Machine(folder)


OLD = "sys.version_info = (3, 9, 2)"
NO_VENV = 'sys.version_info = (3, 12, 1); sys.modules["ensurepip"] = None'


def test_no_python(machine: Machine) -> None:
    said = machine.set_up()
    assert "Python 3.11 or newer is needed; found none." in said
    assert "apt install python3 python3-venv" in said


def test_old_python(machine: Machine) -> None:
    machine.add_python("python3", OLD)
    assert "Python 3.11 or newer is needed; found 3.9.2." in machine.set_up()


def test_python_without_venv(machine: Machine) -> None:
    machine.add_python("python3", NO_VENV)
    said = machine.set_up()
    assert "Python 3.12.1 is here, but its venv module (with ensurepip) is missing." in said
    assert "apt install python3-venv (or python3.12-venv)" in said


def test_the_python_that_is_nearest_to_working_is_the_one_reported(machine: Machine) -> None:
    machine.add_python("python3", OLD)
    machine.add_python("python3.12", NO_VENV)
    assert "Python 3.12.1 is here" in machine.set_up()


def test_a_python_asked_for_by_name_is_not_replaced(machine: Machine) -> None:
    machine.add_python("python3", NO_VENV)
    machine.add_python("python 3.9", OLD)
    said = machine.set_up(PYTHON=str(machine.folder / "bin" / "python 3.9"))
    assert "found 3.9.2 (PYTHON=" in said
