"""Completion in a real bash, installed as a user installs it."""

import asyncio
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.proxy_process import environment
from tests.helpers.vastapi import VastApi

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed"),
]

#: What happens when somebody types `vastproxy ssh 480` and presses Tab.
_PRESS_TAB = """
source ~/.bash_completions/vastproxy.sh
complete -p vastproxy
COMP_WORDS=(vastproxy ssh 480); COMP_CWORD=2
_vastproxy_completion vastproxy 480 ssh
echo "${COMPREPLY[@]}"
"""


async def bash(script: str, env: dict[str, str]) -> str:
    """What a script writes in a bash of its own, which stays the parent of what it starts."""
    argv = ["bash", "--norc", "-c", f"{script}\ntrue"]
    done = await asyncio.to_thread(
        subprocess.run,
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


async def test_ids_are_completed_in_bash_after_installing_it(tmp_path: Path) -> None:
    program = tmp_path / "tools" / "vastproxy"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vastproxy "$@"\n')
    program.chmod(0o755)
    async with VastApi() as api:
        api.account.add(id=48001001)
        api.account.add(id=48001002)
        env = environment(tmp_path, VAST_URL=api.url, VAST_API_KEY=api.account.api_key)
        env["PATH"] = f"{program.parent}:{env['PATH']}"
        assert "installed" in await bash("vastproxy --install-completion", env)
        shown = (await bash(_PRESS_TAB, env)).splitlines()
        again = (await bash(_PRESS_TAB, env)).splitlines()
    assert "_vastproxy_completion" in shown[0]
    assert shown[1].split() == again[1].split() == ["48001001", "48001002"]
    assert len(api.lists) == 1
