"""What scripts/peers.sh does to a machine: only what is missing, and no service left running."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import tests

SCRIPT = Path(tests.__file__).parent.parent / "scripts" / "peers.sh"
# What the script uses that is no part of the shell. PATH holds these alone.
TOOLS = ["sh", "env", "chmod", "rm"]
NAMES = ["redis-server", "mosquitto", "ngircd"]


@dataclass
class Machine:
    """A folder of programs, and a folder of servers' programs."""

    folder: Path

    @property
    def policy(self) -> Path:
        return self.folder / "sbin" / "policy-rc.d"

    def add(self, name: str, script: str = "", place: str = "bin") -> None:
        path = self.folder / place / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def install(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.folder / "bin" / "sh", SCRIPT],
            env={"PATH": str(self.folder / "bin"), "SBIN": str(self.folder / "sbin")},
            capture_output=True,
            text=True,
            check=False,
        )

    def done(self) -> list[str]:
        """Return which commands changed the machine, in order."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for place in ("bin", "sbin"):
        (tmp_path / place).mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    # A package would ask just this before it starts a service.
    asks = f'policy="$({machine.policy} 2>&1; echo $?)"'
    machine.add("apt-get", f'{asks}; echo "apt-get $*; policy $policy" >>{tmp_path}/log')
    machine.add("systemctl", f'echo "systemctl $*" >>{tmp_path}/log')
    machine.add("id", "echo 0")
    return machine


def test_what_is_missing_is_installed_and_never_started(machine: Machine) -> None:
    machine.add("redis-server")
    result = machine.install()
    assert result.returncode == 0, result.stderr
    assert machine.done() == [
        "apt-get update -q; policy 101",
        "apt-get install -q -y --no-install-recommends mosquitto ngircd; policy 101",
        "systemctl disable --quiet mosquitto ngircd",
    ]
    assert not machine.policy.exists()


def test_nothing_is_done_when_all_are_there(machine: Machine) -> None:
    for name in NAMES:
        machine.add(name, place="sbin")
    assert machine.install().returncode == 0
    assert machine.done() == []


def test_somebodys_own_policy_stays(machine: Machine) -> None:
    machine.add("policy-rc.d", "exit 0", place="sbin")
    assert machine.install().returncode == 0
    assert machine.policy.exists()
    assert machine.done()[0] == "apt-get update -q; policy 0"


def test_the_policy_goes_when_the_installation_fails(machine: Machine) -> None:
    machine.add("apt-get", "exit 100")
    assert machine.install().returncode == 100
    assert not machine.policy.exists()


def test_without_root_it_is_done_by_sudo_or_not_at_all(machine: Machine) -> None:
    machine.add("id", "echo 1000")
    result = machine.install()
    assert result.returncode == 1
    assert "run this as root, or install sudo" in result.stderr
    machine.add("sudo", f'echo sudo >>{machine.folder}/log; exec "$@"')
    assert machine.install().returncode == 0
    assert machine.done().count("sudo") == 5  # Policy, update, install, disable, policy again.
    assert not machine.policy.exists()


def test_another_system_is_told_what_to_install(machine: Machine) -> None:
    (machine.folder / "bin" / "apt-get").unlink()
    result = machine.install()
    assert result.returncode == 1
    assert "install redis-server mosquitto ngircd with" in result.stderr
