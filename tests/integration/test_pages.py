"""What the pages show works as it stands: the tutorial's commands, and every program."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.helpers.program import Program, bare_environment
from tests.helpers.typed import Snippet, shown_script, snippets, typed

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs/TUTORIAL.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ADDRESS = "127.0.0.1:8080"
DEMO = (sys.executable, "-m", "vastproxy", "demo", "--listen", "127.0.0.1:0", "--tokens-per-s", "400")
#: A program of a page that begins a proxy and does not wait for it has ended when it has been read.
ACCOUNT = (sys.executable, "-m", "vastproxy.simulator", "--instances", "1", "--tokens-per-s", "400")


def environment(home: Path) -> dict[str, str]:
    return bare_environment(home, PYTHONPATH=str(ROOT), NO_PROXY="127.0.0.1")


def tool(directory: Path, name: str, command: str) -> None:
    """Something that can be typed."""
    path = directory / name
    path.write_text(f"#!/bin/sh\nexec {command}\n")
    path.chmod(0o755)


@pytest.mark.timeout(180)
async def test_the_tutorial(tmp_path: Path) -> None:
    """Everything that is typed in the second terminal while the demo runs in the first."""
    commands = typed(TUTORIAL.read_text())
    assert len(commands) >= 8
    tools = tmp_path / "tools"
    await asyncio.to_thread(tools.mkdir)
    tool(tools, "vastproxy", f'"{sys.executable}" -m vastproxy "$@"')
    env = environment(tmp_path)
    async with Program(DEMO, env=env, cwd=tmp_path) as demo:
        await demo.says("Served by instance")
        address = (await demo.says(r"http://(127\.0\.0\.1:\d+)/v1"))[1]
        script = shown_script([command.replace(ADDRESS, address) for command in commands])
        env |= {"PATH": f"{tools}:{env['PATH']}", "LISTEN_ADDR": address}
        async with Program(("bash", "-c", script), env=env, cwd=tmp_path) as shell:
            assert await shell.ends(limit_s=120) == 0, shell.output
        assert await demo.stop() == 0
    said = shell.output
    assert said.count("data: [DONE]") == 1
    assert "backends: 3 in total (3 healthy)" in said
    assert re.search(r"(?i)x-vastproxy-instance: 4800100\d", said)
    assert "request my-first" in said
    assert "chosen: session" in said
    assert "I am Qwen/Qwen3-8B on simulated instance 48001003" in said
    assert re.search(r"48001002 +draining", said)


def test_what_is_said_to_be_tried_is() -> None:
    page = TUTORIAL.read_text()
    assert page.count("<!-- tried") == len(re.findall(r"✓\n\n<!-- tried", page)) >= 4


ALL = [snippet for page in PAGES for snippet in snippets(page)]


@pytest.mark.parametrize("snippet", [one for one in ALL if one.no_run is None], ids=str)
async def test_a_program_of_a_page_runs(snippet: Snippet, tmp_path: Path) -> None:
    """As it stands, with an account in its environment; one that asks a proxy finds one at its address."""
    path = tmp_path / "program.py"
    env = environment(tmp_path)
    if ADDRESS not in snippet.text:
        path.write_text(snippet.text)
        await _run(path, env)
        return
    async with Program(DEMO, env=env, cwd=tmp_path) as demo:
        await demo.says("Served by instance")
        address = (await demo.says(r"http://(127\.0\.0\.1:\d+)/v1"))[1]
        path.write_text(snippet.text.replace(ADDRESS, address))
        await _run(path, env)
        assert await demo.stop() == 0


async def _run(path: Path, env: dict[str, str]) -> None:
    async with Program((*ACCOUNT, sys.executable, path), env=env, cwd=path.parent) as program:
        assert await program.ends() == 0, program.output
    assert "Traceback" not in program.output, program.output


def test_one_that_is_not_run_says_why() -> None:
    """And there are programs that are."""
    assert len([one for one in ALL if one.no_run is None]) >= 10
    assert [str(one) for one in ALL if one.no_run is not None and len(one.no_run) < 10] == []
