"""The programs in `examples/`, run as their first lines say, with an account that does not exist."""

import ast
import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.helpers.ports import free_port
from tests.helpers.program import Program, bare_environment
from tests.helpers.raw import ask

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
ACCOUNT = (sys.executable, "-m", "vastproxy.simulator", "--tokens-per-s", "400")
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json", "host": "localhost"}
#: uvicorn ends its process by the signal that asked for it, after everything else has ended.
TERMINATED = 128 + 15
BODY = json.dumps(
    {
        "model": "Qwen/Qwen3-8B",
        "stream": True,
        "messages": [{"role": "user", "content": "Hi"}],
        "max_tokens": 4,
    }
).encode()


def environment(home: Path, **variables: str) -> dict[str, str]:
    """The tree under test is what is imported, from whatever directory a program starts in."""
    return bare_environment(home, **{"PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **variables})


async def until_healthy(port: int, path: str, count: int) -> dict[str, object]:
    """What /healthz says when so many backends can serve."""
    async with asyncio.timeout(30):
        while True:
            try:
                health = json.loads((await ask(port, "GET", path, headers={"host": "localhost"})).body)
            except OSError:  # it does not listen yet
                health = {"backends": {"healthy": 0}}
            if health["backends"]["healthy"] >= count:
                return dict(health)
            await asyncio.sleep(0.05)


@asynccontextmanager
async def chat_room() -> AsyncIterator[tuple[str, list[str]]]:
    """A webhook as chats have one: its address, and the lines that were posted."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None
        lines.append(json.loads(await reader.readexactly(int(length[1])))["text"])
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/services/secret", lines


def test_each_teaches() -> None:
    """Each begins with what it shows and how it is run, and does nothing when it is imported."""
    programs = sorted(EXAMPLES.glob("*.py"))
    assert len(programs) >= 5
    for path in programs:
        tree = ast.parse(path.read_text())
        text = ast.get_docstring(tree) or ""
        assert len(text.splitlines()) >= 8, path.name
        assert f"examples/{path.name}" in text, f"{path.name} does not say how to run it"
        last = tree.body[-1]
        assert isinstance(last, ast.If), path.name
        assert ast.unparse(last.test) == "__name__ == '__main__'", path.name


async def test_the_client_alone_lists_the_account(tmp_path: Path) -> None:
    command = (*ACCOUNT, sys.executable, EXAMPLES / "list_instances.py")
    async with Program(command, env=environment(tmp_path), cwd=tmp_path) as program:
        assert await program.ends() == 0, program.output
    assert "credit: $37.42" in program.output
    assert "48001001  running" in program.output
    assert "3 instances, $4.68 an hour in all" in program.output
    assert re.search(r"offer \d+: RTX 4090 for \$0\.\d+/h in \w", program.output)
    assert program.output.endswith(
        "not found (no_such_instance): there is no instance 1, or it is not yours\n"
    )


@pytest.mark.parametrize(
    ("variables", "code", "says"),
    [
        ({}, 2, "no vast.ai API key: set VAST_API_KEY"),
        ({"VAST_API_KEY": "k", "VAST_URL": "http://127.0.0.1:1"}, 1, "(try again in 5 s)"),
    ],
)
async def test_the_client_alone_says_what_is_wrong(
    tmp_path: Path, variables: dict[str, str], code: int, says: str
) -> None:
    """Without a key, and where nobody answers: one line, and what to do."""
    fast = {"VASTPROXY_VAST__RETRIES__ATTEMPTS": "1"}
    command = (sys.executable, EXAMPLES / "list_instances.py")
    async with Program(command, env=environment(tmp_path, **fast, **variables), cwd=tmp_path) as program:
        assert await program.ends() == code, program.output
    assert says in program.output
    assert "Traceback" not in program.output


async def test_embedded_in_an_application_of_ones_own(tmp_path: Path) -> None:
    """Its own page and the proxy below /llm, both on plain uvicorn; at the end the account is as it was."""
    port = free_port()
    command = (*ACCOUNT, sys.executable, EXAMPLES / "embed.py")
    async with Program(command, env=environment(tmp_path, PORT=str(port)), cwd=tmp_path) as program:
        await program.says("Application startup complete")
        await until_healthy(port, "/llm/healthz", 3)
        page = json.loads((await ask(port, "GET", "/", headers={"host": "localhost"})).body)
        assert page["status"] == "healthy"
        assert [one["models"] for one in page["backends"]] == [["Qwen/Qwen3-8B"]] * 3
        seen = set()
        for _ in range(3):
            answer = await ask(port, "POST", f"/llm{CHAT}", headers={**JSON, "x-chat-id": "a"}, body=BODY)
            assert (answer.status, answer.complete) == (200, True)
            assert answer.body.endswith(b"data: [DONE]\n\n")
            seen.add(answer.header("x-vastproxy-instance"))
        assert len(seen) == 1, "the session's requests stay together"
        refused = await ask(port, "POST", f"/llm{CHAT}", headers={**JSON, "host": "evil.example"}, body=BODY)
        assert json.loads(refused.body)["error"]["code"] == "host_not_allowed"
        assert await program.stop() == TERMINATED, program.output
    assert "label cleared" in program.output
    assert "Application shutdown complete" in program.output
    assert "Traceback" not in program.output


async def test_a_policy_on_machines_made_up(tmp_path: Path) -> None:
    command = (sys.executable, EXAMPLES / "canary_policy.py")
    async with Program(command, env=environment(tmp_path), cwd=tmp_path) as program:
        assert await program.ends() == 0
    shares = {
        int(key): float(share) for key, share in re.findall(r"machine (\d+): ([\d.]+) %", program.output)
    }
    assert 4 < shares[103] < 6, "the newest gets one request in twenty"
    assert 1.8 < shares[102] / shares[101] < 2.6, "and the others as much as they can do"


async def test_a_policy_in_a_real_proxy(tmp_path: Path) -> None:
    """Named in the environment, found in the directory of the start, and `explain` tells its reasons."""
    port = free_port()
    env = environment(
        tmp_path, VASTPROXY_ROUTING__POLICY="canary_policy:Canary", LISTEN_ADDR=f"127.0.0.1:{port}"
    )
    command = (*ACCOUNT, sys.executable, "-m", "vastproxy", "serve")
    async with Program(command, env=env, cwd=EXAMPLES) as program:
        await until_healthy(port, "/healthz", 3)
        whys = set()
        for _ in range(400):
            answer = await ask(port, "POST", CHAT, headers=JSON, body=BODY)
            assert answer.complete
            path = f"/vastproxy/v1/requests/{answer.header('x-request-id')}"
            told = await ask(port, "GET", path, headers={"host": "localhost"})
            whys |= set(re.findall(r'"reason": ?"([^"]+)"', told.body.decode()))
            if "canary" in whys:
                break
        assert "canary" in whys
        assert "the policy failed" not in whys
        assert await program.stop() == 0, program.output
    assert "Traceback" not in program.output


async def test_a_policy_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    env = environment(tmp_path, VASTPROXY_ROUTING__POLICY="canary_policy:Canary")
    command = (*ACCOUNT, sys.executable, "-m", "vastproxy", "serve", "--listen", "127.0.0.1:0")
    async with Program(command, env=env, cwd=tmp_path) as program:
        assert await program.ends() == 2, program.output
    assert "routing.policy is canary_policy:Canary, but the module canary_policy cannot be" in program.output
    assert "Traceback" not in program.output


async def test_the_chat_hears_what_happens(tmp_path: Path) -> None:
    port = free_port()
    async with chat_room() as (url, lines):
        env = environment(tmp_path, PORT=str(port), CHAT_WEBHOOK_URL=url)
        command = (*ACCOUNT, sys.executable, EXAMPLES / "chat_alerts.py")
        async with Program(command, env=env, cwd=tmp_path) as program:
            await until_healthy(port, "/healthz", 3)
            assert await program.stop() == TERMINATED, program.output
        assert {line for line in lines if ":rabbit:" in line} == {
            f":rabbit: instance {id} serves" for id in (48001001, 48001002, 48001003)
        }
        assert sum("the proxy is stopping" in line for line in lines) == 3
    assert "secret" not in program.output


async def test_a_chat_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """The proxy serves, and the address of the chat is in no line."""
    port = free_port()
    env = environment(tmp_path, PORT=str(port), CHAT_WEBHOOK_URL="http://127.0.0.1:1/services/secret")
    command = (*ACCOUNT, sys.executable, EXAMPLES / "chat_alerts.py")
    async with Program(command, env=env, cwd=tmp_path) as program:
        await until_healthy(port, "/healthz", 3)
        assert (await ask(port, "POST", CHAT, headers=JSON, body=BODY)).status == 200
        assert await program.stop() == TERMINATED, program.output
    assert "the chat was not told: ConnectionError" in program.output
    assert "secret" not in program.output


async def test_asking_with_openais_client(tmp_path: Path) -> None:
    """A stream, a conversation that stays where it was, and a pin; beside the demo, as the first lines say."""
    env = environment(tmp_path)
    demo = (sys.executable, "-m", "vastproxy", "demo", "--listen", "127.0.0.1:0", "--tokens-per-s", "400")
    async with Program(demo, env=env, cwd=tmp_path) as proxy:
        await proxy.says("Served by instance")
        address = (await proxy.says(r"http://127\.0\.0\.1:(\d+)/v1"))[0]
        command = (sys.executable, EXAMPLES / "ask.py", "Who", "are", "you?")
        async with Program(command, env={**env, "OPENAI_BASE_URL": address}, cwd=tmp_path) as program:
            assert await program.ends() == 0, program.output
        first, again, pinned = re.findall(r"served by instance (\d+)", program.output)
        assert first == again == pinned
        assert "I am Qwen/Qwen3-8B on simulated instance" in program.output
        await proxy.stop()


async def test_asking_where_nobody_is(tmp_path: Path) -> None:
    env = environment(tmp_path, OPENAI_BASE_URL=f"http://127.0.0.1:{free_port()}/v1")
    async with Program((sys.executable, EXAMPLES / "ask.py"), env=env, cwd=tmp_path) as program:
        assert await program.ends() == 1
    assert "nobody answers at http://127.0.0.1:" in program.output
    assert "Traceback" not in program.output


async def test_an_account_for_a_shell(tmp_path: Path) -> None:
    """Without a command the account stays, and its lines can be pasted."""
    command = (sys.executable, "-m", "vastproxy.simulator", "--instances", "1")
    async with Program(command, env=environment(tmp_path), cwd=tmp_path) as account:
        await account.says("until you press Ctrl-C")
        exported = dict(re.findall(r"(?m)^export (\w+)=(\S+)$", account.output))
        assert set(exported) == {"VAST_URL", "VAST_API_KEY", "SSH_KEY_PATH", "VASTPROXY_TUNNELS__STATE_DIR"}
        words = (sys.executable, "-m", "vastproxy", "instances", "--json")
        async with Program(words, env=environment(tmp_path, **exported), cwd=tmp_path) as program:
            assert await program.ends() == 0, program.output
        assert "48001001" in program.output
    assert not (tmp_path / ".local").exists()


async def test_an_account_for_a_command(tmp_path: Path) -> None:
    """Its exit code is the command's; one that is not there is one line."""
    env = environment(tmp_path)
    for command, code, says in (
        (
            (sys.executable, "-c", "import os, sys; sys.exit(len(os.environ['VAST_API_KEY']) > 9 and 7)"),
            7,
            "",
        ),
        (("no-such-program",), 127, "no-such-program: No such file or directory"),
    ):
        words = (*ACCOUNT, "--instances", "0", "--", *command)
        async with Program(words, env=env, cwd=tmp_path) as program:
            assert await program.ends() == code, program.output
        assert says in program.output
        assert "Traceback" not in program.output
