"""The systemd unit: systemd itself accepts it and calls it safe, and it speaks of settings that there are."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from vastproxy.settings.fields import variables
from vastproxy.settings.model import ServerSettings

UNIT = Path(__file__).parents[3] / "deploy/systemd/vastproxy.service"
PROGRAM = "/opt/vastproxy/bin/vastproxy"
#: systemd's own scale: 0 is no exposure, 10 all of it; below 2 it says OK.
MOST_EXPOSURE = 1.5


def settings() -> dict[str, list[str]]:
    """The unit's settings, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        if line and line[0] not in "#[":
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def analyze(directory: Path, *arguments: str) -> str:
    """What systemd-analyze says of the unit, with a program in it that this machine has."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    unit = directory / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run([tool, *arguments, str(unit)], capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def test_systemd_accepts_it(tmp_path: Path) -> None:
    assert UNIT.name not in analyze(tmp_path, "verify")


def test_systemd_calls_it_safe(tmp_path: Path) -> None:
    said = analyze(tmp_path, "security", "--offline=true")
    found = re.search(r"Overall exposure level for \S+ ([0-9.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= MOST_EXPOSURE


def test_it_starts_the_proxy_with_settings_that_there_are() -> None:
    unit = settings()
    assert unit["ExecStart"] == [f"{PROGRAM} serve"]
    for name, _, _ in (line.partition("=") for line in unit["Environment"]):
        assert name in variables() or name.startswith("PYTHON"), name


def test_secrets_are_credentials() -> None:
    """Each that is loaded is used, and none is in the environment itself."""
    unit = settings()
    loaded = {line.partition(":")[0] for line in unit["LoadCredential"]}
    used = {name for line in unit["Environment"] for name in re.findall(r"%d/(\w+)", line)}
    assert loaded == used == {"vast_api_key", "ssh_key", "inbound_key"}


def test_streams_may_end_before_it_is_killed() -> None:
    assert float(settings()["TimeoutStopSec"][0]) > ServerSettings().shutdown_grace_s


def test_what_a_restart_cannot_help_is_not_tried_again() -> None:
    """2: bad settings, 3: vast.ai refuses the key."""
    assert settings()["RestartPreventExitStatus"] == ["2 3"]
