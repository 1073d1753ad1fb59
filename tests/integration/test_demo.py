"""`vastproxy demo` as people type it: what it shows is true, and what it prints works as pasted."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from vastproxy.cli.demo import free_address
from vastproxy.cli.demo_client import ask

LIMIT_S = 45.0


class Demo:
    """A running demo. Its output is read as it comes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def read_until(self, pattern: str) -> str:
        """Read on until the output matches; the match."""
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            while not (found := re.search(pattern, self.output, re.DOTALL)):
                piece = await self.process.stdout.read(65_536)
                assert piece, self.output
                self.output += piece.decode()
        return found[0]

    async def rest(self) -> int:
        assert self.process.stdout is not None
        async with asyncio.timeout(LIMIT_S):
            self.output += (await self.process.stdout.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def demo(home: Path, *words: str) -> AsyncIterator[Demo]:
    # The key and the settings of the real account must not matter.
    kept = ("COVERAGE_", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    environment |= {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "PYTHONUNBUFFERED": "1",
        "VAST_URL": "http://127.0.0.1:1",
        "VAST_API_KEY": "not-used",
        "VASTPROXY_API_KEYS": "not-used",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vastproxy",
        "demo",
        *words,
        env=environment,
        cwd=home,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield Demo(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        # What is still in the pipe keeps its transport open.
        assert process.stdout is not None
        await process.stdout.read()


async def shell(command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(LIMIT_S):
        out, _ = await process.communicate()
    return out.decode()


async def test_once_shows_an_answer_and_ends_well(tmp_path: Path) -> None:
    """Every backend comes up, one of them answers, and nothing is left in the home directory."""
    async with demo(tmp_path, "--once", "--listen", "127.0.0.1:0", "--tokens-per-s", "400") as run:
        assert await run.rest() == 0
    for id in (48001001, 48001002, 48001003):
        assert re.search(rf"{id}\s+healthy", run.output), run.output
    assert re.search(r"Answer\s+I am Qwen/Qwen3-8B on simulated instance 4800100\d", run.output)
    assert re.search(r"Served by instance 4800100\d .*first token after \d+ ms", run.output)
    assert "Traceback" not in run.output
    assert os.listdir(tmp_path) == []


async def test_what_it_prints_works_as_pasted(tmp_path: Path) -> None:
    """The curl line and the openai snippet get answers; Ctrl-C ends it with exit code 0."""
    async with demo(tmp_path, "--listen", "127.0.0.1:0", "--tokens-per-s", "400", "--instances", "1") as run:
        await run.read_until(r"flush=True\)\n\n")
        curl = re.search(r"^curl .*$", run.output, re.MULTILINE)
        assert curl is not None
        assert "data: [DONE]" in await shell(curl[0])
        snippet = run.output[run.output.index("from openai") :].strip()
        program = tmp_path / "snippet.py"
        program.write_text(snippet)
        assert "You asked: “Hello!”" in await shell(f"{sys.executable} {program}")
        told = await shell(f"curl -sS {curl[0].split('/v1/')[0].split()[-1]}/metrics")
        assert "vastproxy_vast_api_call_duration_seconds_count" in told, "calls to vast.ai are counted"
        run.process.send_signal(signal.SIGINT)
        assert await run.rest() == 0
    assert "Traceback" not in run.output


async def test_chaos_tells_what_breaks_and_requests_go_on(tmp_path: Path) -> None:
    async with demo(tmp_path, "--once", "--chaos", "--listen", "127.0.0.1:0", "--tokens-per-s", "400") as run:
        assert await run.rest() == 0
    assert len(re.findall(r"^  breaks ", run.output, re.MULTILINE)) == 4
    assert len(re.findall(r"^  heals ", run.output, re.MULTILINE)) == 4
    tally = re.findall(r"(\d+) ok, (\d+) failed", run.output)[-1]
    assert int(tally[0]) > 0
    assert run.output.count("Served by instance") == 2


async def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with demo(tmp_path, "--once", "--listen", f"127.0.0.1:{port}") as run:
            assert await run.rest() == 2
    last = run.output.strip().splitlines()[-1]
    assert last.startswith(f"vastproxy: cannot listen on 127.0.0.1:{port}: address already in use")
    assert "Traceback" not in run.output


def test_a_taken_port_is_passed_over() -> None:
    """Without an address the next free port is taken, and any port when none is near."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        host, _, chosen = free_address(port).rpartition(":")
        assert host == "127.0.0.1"
        assert int(chosen) > port
        assert free_address(port, 1) == "127.0.0.1:0"


@pytest.mark.parametrize(
    ("response", "error"),
    [
        (
            b'HTTP/1.1 503 x\r\ncontent-length: 33\r\n\r\n{"error":{"message":"nobody is"}}',
            "HTTP 503: nobody is",
        ),
        (b"HTTP/1.1 502 x\r\ncontent-length: 4\r\n\r\noops", "HTTP 502: oops"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\ndata: [DON",
            "ChunkedEncodingError: the connection broke off",
        ),
        (b'HTTP/1.1 200 OK\r\n\r\ndata: {"error": {"message": "died"}}\n\ndata: [DONE]\n\n', "died"),
        (b"nonsense\r\n\r\n", "ConnectionError: the connection broke off"),
        (b"HTTP/1.1 200 OK\r\n\r\ndata: {\n\n", "JSONDecodeError: the connection broke off"),
    ],
)
async def test_failures_of_a_request_are_told_and_never_raised(response: bytes, error: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        await reader.readexactly(int(length[1]) if length else 0)  # what is not read makes the end a reset
        writer.write(response)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        answer = await asyncio.to_thread(ask, f"http://127.0.0.1:{port}", "m", "q")
    assert not answer.whole
    assert answer.error == error
