"""Simulated instances from outside: OpenSSH's client, asyncssh's client, HTTP through both, and every misfortune."""

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import asyncssh
import h11
import pytest

from tests.helpers.raw import Answer, Client
from vastproxy.simulator.catalog import ENGINES
from vastproxy.simulator.chaos import API_ONLY, Chaos, Incident, Misfortune, Strike, heal, hurt
from vastproxy.simulator.contract import Phase, Verb
from vastproxy.simulator.engine import End
from vastproxy.simulator.gateway import Gateway
from vastproxy.simulator.instance import SimulatedInstance
from vastproxy.simulator.simulation import Simulation

QUERY = (Path(__file__).resolve().parents[1] / "fixtures/nvidia_smi/nvidia_smi_QUERY.txt").read_text().strip()
CHAT = "/v1/chat/completions"
LIMIT_S = 10.0


@pytest.fixture
async def sim() -> AsyncIterator[Simulation]:
    async with Simulation(instances=3, tokens_per_s=200.0, first_token_s=0.01) as simulation:
        yield simulation


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)


def options(key: Path) -> list[str]:
    chosen = [
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "BatchMode=yes",
    ]
    return ["-F", "none", "-i", str(key), *(word for option in chosen for word in ("-o", option))]


async def openssh(
    sim: Simulation, port: int, *words: str, key: Path | None = None, user: str = "root"
) -> tuple[int, str, str]:
    """Run the real client; exit code, stdout, stderr."""
    argv = ["ssh", *options(key or sim.ssh_key_path), "-p", str(port), f"{user}@127.0.0.1", *words]
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), err.decode()


@contextlib.asynccontextmanager
async def login(sim: Simulation, port: int) -> AsyncIterator[asyncssh.SSHClientConnection]:
    async with asyncio.timeout(LIMIT_S):
        conn = await asyncssh.connect(
            "127.0.0.1",
            port,
            username="root",
            client_keys=[str(sim.ssh_key_path)],
            known_hosts=None,
            agent_path=None,
            config=None,
        )
    try:
        yield conn
    finally:
        conn.abort()
        await conn.wait_closed()


class Tunnelled(Client):
    """HTTP through a forwarded stream."""

    def __init__(self, conn: asyncssh.SSHClientConnection, port: int = 18_000) -> None:
        super().__init__(port)
        self._conn = conn

    async def __aenter__(self) -> Self:
        reader, writer = await self._conn.open_connection("127.0.0.1", self._port)
        self.reader, self.writer = reader, writer  # type: ignore[assignment]
        return self

    async def chat(self, **body: Any) -> Answer:
        return await self.ask("POST", body.pop("path", CHAT), body=question(**body))


def question(**body: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": "hello"}], **body}).encode()


async def get(conn: asyncssh.SSHClientConnection, path: str, port: int = 18_000) -> Answer:
    async with Tunnelled(conn, port) as client:
        return await client.ask("GET", path)


def events(answer: Answer) -> list[dict[str, Any]]:
    blocks = answer.body.decode().split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    return [json.loads(block.removeprefix("data: ")) for block in blocks[:-2]]


# SSH


async def test_openssh_logs_in_and_asks_nvidia_smi(sim: Simulation) -> None:
    """Both paths, the vast.ai banner, the columns in their order; the key file is private."""
    machine = sim.instances[1]
    for port in (machine.direct.port, machine.relay.port):
        status, out, err = await openssh(sim, port, f"timeout 10 {QUERY}")
        assert status == 0, err
        assert [line.split(", ")[2] for line in out.splitlines()] == ["NVIDIA H100 80GB HBM3"] * 2
        assert "Welcome to vast.ai." in err
        assert "Have fun!" in err
    assert stat.S_IMODE(sim.ssh_key_path.stat().st_mode) == 0o600
    assert machine.ssh.logins == 2


async def test_openssh_commands(sim: Simulation) -> None:
    port = sim.instances[0].direct.port
    assert (await openssh(sim, port, "true"))[0] == 0
    status, _, err = await openssh(sim, port, "reboot")
    assert status == 127
    assert "command not found" in err
    status, out, _ = await openssh(sim, port)
    assert (status, "no shell" in out) == (0, True)


async def test_openssh_forwards_to_the_engine_only(sim: Simulation) -> None:
    """`ssh -W` speaks HTTP with the engine inside; another port is refused as a closed port is."""
    port = sim.instances[0].direct.port
    argv = ["ssh", *options(sim.ssh_key_path), "-p", str(port), "-W", "127.0.0.1:18000", "root@127.0.0.1"]
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"GET /v1/models HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(LIMIT_S):
        answer = await process.stdout.read()
        process.stdin.close()
        await process.wait()
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b'"owned_by":"sglang"' in answer
    status, _, err = await openssh(sim, port, "-W", "127.0.0.1:8000")
    assert status == 255
    assert "Connection refused" in err


async def test_other_keys_and_users_are_refused(sim: Simulation, tmp_path: Path) -> None:
    other = tmp_path / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(other))
    other.chmod(0o600)
    port = sim.instances[0].direct.port
    for user, key in (("root", other), ("ubuntu", sim.ssh_key_path)):
        status, _, err = await openssh(sim, port, "true", key=key, user=user)
        assert status == 255
        assert "Permission denied (publickey)" in err


async def test_a_key_attached_later_is_accepted(sim: Simulation, tmp_path: Path) -> None:
    machine, key = sim.instances[0], asyncssh.generate_private_key("ssh-ed25519")
    path = tmp_path / "later"
    key.write_private_key(str(path))
    path.chmod(0o600)
    sim.account.attach_key(machine.id, key.export_public_key().decode())
    assert (await openssh(sim, machine.direct.port, "true", key=path))[0] == 0


async def test_addresses_follow_the_rules_of_the_api(sim: Simulation) -> None:
    """Direct by the port map; the relay's port is one higher than told where Jupyter runs."""
    for machine in sim.instances:
        row = sim.account.row(machine.id)
        assert row is not None
        assert row["public_ipaddr"] == "127.0.0.1\n"
        assert {entry["HostPort"] for entry in row["ports"]["22/tcp"]} == {str(machine.direct.port)}
        shift = 1 if "jupyter" in row["image_runtype"] else 0
        assert row["ssh_port"] + shift == machine.relay.port
    assert [("jupyter" in m.contract.row["image_runtype"]) for m in sim.instances] == [False, True, False]


async def test_repeated_measuring_goes_on_until_the_client_leaves(sim: Simulation) -> None:
    async with login(sim, sim.instances[0].relay.port) as conn:
        process = await conn.create_process("nvidia-smi --query-gpu=index --format=csv,noheader -l 0.02")
        async with asyncio.timeout(LIMIT_S):
            assert [await process.stdout.readline() for _ in range(3)] == ["0\n"] * 3
        process.close()


async def test_noise_on_the_port_ends_only_its_connection(sim: Simulation) -> None:
    port = sim.instances[0].direct.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n" * 50)
    async with asyncio.timeout(LIMIT_S):
        with contextlib.suppress(ConnectionError):
            await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    assert (await openssh(sim, port, "true"))[0] == 0


# Engines


@pytest.mark.parametrize("flavour", ENGINES)
async def test_each_engine_is_known_by_its_paths(flavour: str) -> None:
    """The path that gives an engine away answers on it; those of the others do not."""
    marks = {
        "sglang": "/get_model_info",
        "vllm": "/version",
        "ollama": "/api/version",
        "llamacpp": "/props",
        "tgi": "/info",
    }
    async with (
        Simulation(instances=1, engines=[flavour]) as sim,
        login(sim, sim.instances[0].direct.port) as conn,
    ):
        port = sim.instances[0].engine_port
        found = {name: (await get(conn, path, port)).status for name, path in marks.items()}
        assert found == {name: 200 if name == flavour else 404 for name in marks}
        models = json.loads((await get(conn, "/v1/models", port)).body)["data"]
        assert [model["id"] for model in models] == ["Qwen/Qwen3-8B"]
        health = {"ollama": "/"}.get(flavour, "/health")
        assert (await get(conn, health, port)).status == 200


async def test_every_page_of_every_engine_answers() -> None:
    pages = {
        "sglang": "/health_generate /ping /model_info /server_info /get_server_info /get_load /v1/loads /metrics",
        "vllm": "/ping /load /metrics",
        "llamacpp": "/slots /metrics",
        "ollama": "/api/tags /api/ps",
        "tgi": "/ping /metrics",
    }
    async with Simulation(instances=5, engines=list(pages)) as sim:
        for machine in sim.instances:
            async with login(sim, machine.direct.port) as conn:
                for path in pages[machine.engine.flavour].split():
                    assert (await get(conn, path, machine.engine_port)).status == 200, path


async def test_streams_come_token_by_token_with_usage_at_the_end(sim: Simulation) -> None:
    async with login(sim, sim.instances[0].direct.port) as conn, Tunnelled(conn) as client:
        options = {"stream": True, "stream_options": {"include_usage": True}}
        answer = await client.chat(max_tokens=6, **options)
        assert answer.header("content-type") == "text/event-stream; charset=utf-8"
        chunks = events(answer)
        assert len(answer.pieces) >= 6
        assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
        contents = [chunk["choices"][0]["delta"]["content"] for chunk in chunks[1:-2]]
        assert len(contents) == 6
        assert chunks[-2]["choices"][0]["finish_reason"] == "length"
        assert chunks[-1]["choices"] == []
        assert chunks[-1]["usage"]["completion_tokens"] == 6
        without = await client.chat(max_tokens=6, stream=True)
        assert [chunk["choices"][0]["delta"].get("content") for chunk in events(without)][1:-1] == contents
        whole = json.loads((await client.chat(max_tokens=6)).body)
        assert whole["choices"][0]["message"]["content"] == "".join(contents)
        assert whole["usage"]["total_tokens"] == whole["usage"]["prompt_tokens"] + 6
    engine = sim.instances[0].engine
    assert engine.served == 3
    assert engine.last_request is not None
    assert engine.last_request.path == CHAT
    assert json.loads(engine.last_request.body)["max_tokens"] == 6
    assert engine.last_request.headers["host"] == "proxy.test"


async def test_plain_completions(sim: Simulation) -> None:
    async with login(sim, sim.instances[1].direct.port) as conn, Tunnelled(conn) as client:
        body = {"path": "/v1/completions", "prompt": "once", "max_tokens": 3}
        whole = json.loads((await client.chat(**body)).body)
        streamed = events(await client.chat(**body, stream=True))
        assert whole["object"] == "text_completion"
        text = "".join(chunk["choices"][0]["text"] for chunk in streamed)
        assert text == whole["choices"][0]["text"] != ""


async def test_bad_requests_get_errors_in_the_shape_of_openai(sim: Simulation) -> None:
    machine = sim.instances[1]
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client:

        async def refused(raw: bytes) -> tuple[int, str | None]:
            answer = await client.ask("POST", CHAT, body=raw)
            error = json.loads(answer.body)["error"]
            assert error["message"]
            assert error["code"] == answer.status
            return answer.status, error["param"]

        assert await refused(question(model="gpt-9")) == (404, "model")
        assert await refused(b"{") == (400, None)
        assert await refused(b"[]") == (400, None)
        assert await refused(b"{}") == (400, "messages")
        assert await refused(b'{"prompt": "x"}') == (400, "messages")
        assert await refused(question(max_tokens=0)) == (400, "max_tokens")
        machine.engine.loading = True
        assert await refused(question()) == (503, None)
        assert (await client.ask("GET", "/health")).status == 503
        machine.engine.loading = False
        machine.engine.failing = 500
        assert await refused(question()) == (500, None)
        machine.engine.failing = None
        assert (await client.chat(max_tokens=1)).status == 200


async def test_an_engine_may_want_a_key(sim: Simulation) -> None:
    machine = sim.instances[1]
    machine.engine.require_token = machine.token
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client:
        assert (await client.chat()).status == 401
        assert (await client.ask("GET", "/health")).status == 200
        allowed = {"authorization": f"Bearer {machine.token}"}
        assert (await client.ask("POST", CHAT, allowed, question(max_tokens=1))).status == 200


async def test_llamacpp_tells_that_its_slots_are_taken(sim: Simulation) -> None:
    machine = sim.instances[2]
    machine.engine.tokens_per_s = 1.0
    async with login(sim, machine.direct.port) as conn, contextlib.AsyncExitStack() as stack:
        for _ in range(machine.engine.slots):
            client = await stack.enter_async_context(Tunnelled(conn))
            await client.send("POST", CHAT, body=question(stream=True))
        await until(lambda: machine.engine.active_streams == machine.engine.slots)
        assert (await get(conn, "/slots?fail_on_no_slot=1")).status == 503
        busy = json.loads((await get(conn, "/slots")).body)
        assert all(slot["is_processing"] for slot in busy)
        machine.engine.loading = True
        assert json.loads((await get(conn, "/health")).body)["error"]["message"] == "Loading model"
    await until(lambda: machine.engine.active_streams == 0)


@pytest.mark.parametrize(("flavour", "status"), [("ollama", 503), ("tgi", 429)])
async def test_a_full_queue_refuses_in_the_words_of_the_engine(flavour: str, status: int) -> None:
    async with Simulation(instances=1, engines=[flavour], tokens_per_s=1.0) as sim:
        machine = sim.instances[0]
        machine.engine.slots, machine.engine.queue = 1, 0
        async with (
            login(sim, machine.direct.port) as conn,
            Tunnelled(conn, machine.engine_port) as first,
            Tunnelled(conn, machine.engine_port) as second,
        ):
            await first.send("POST", CHAT, body=question(stream=True))
            await first.head()
            assert (await second.chat()).status == status


async def test_sglang_aborts_by_rid_while_the_client_is_there(sim: Simulation) -> None:
    machine = sim.instances[0]
    machine.engine.tokens_per_s = 20.0
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client, Tunnelled(conn) as other:
        await client.send("POST", CHAT, body=question(stream=True, rid="vp-1"))
        answer = await client.head()
        await client.piece()
        assert (await other.ask("POST", "/abort_request", body=b"{}")).status == 422
        assert (await other.ask("POST", "/flush_cache", body=b"")).status == 400
        assert (await other.ask("POST", "/abort_request", body=b'{"rid": "vp-1"}')).status == 200
        assert events(await client.rest(answer))[-1]["choices"] != []
        assert list(machine.engine.aborted) == ["vp-1"]
        assert machine.engine.active_streams == 0
        assert (await other.ask("POST", "/flush_cache", body=b"")).status == 200


@pytest.mark.parametrize(("index", "ended"), [(0, None), (1, End.DISCONNECTED)])
async def test_a_client_that_leaves(sim: Simulation, index: int, ended: End | None) -> None:
    """SGLang goes on for nobody, and an abort comes too late; vLLM stops."""
    machine = sim.instances[index]
    machine.engine.tokens_per_s = 20.0
    async with login(sim, machine.direct.port) as conn:
        async with Tunnelled(conn) as client:
            await client.send("POST", CHAT, body=question(stream=True, rid="gone"))
            await client.head()
        work = machine.engine.active[0]
        await until(lambda: not work.connected)
        assert list(machine.engine.abandoned) == [work.rid]
        assert work.end is ended
        assert machine.engine.abort(work.rid) == []


# Misfortunes


async def refused(sim: Simulation, port: int) -> bool:
    try:
        async with login(sim, port):
            return False
    except (OSError, asyncssh.Error):
        return True


async def test_stop_and_start_keep_the_host_key_and_change_the_port(sim: Simulation) -> None:
    machine = sim.instances[0]
    before, key = machine.direct.port, machine.ssh.fingerprint
    relay = machine.relay.port
    await machine.stop()
    row = sim.account.row(machine.id)
    assert row is not None
    assert (row["actual_status"], row["intended_status"], row["ports"]) == ("exited", "stopped", {})
    assert await refused(sim, before)
    assert await refused(sim, relay)
    await machine.start()
    assert machine.direct.port != before
    assert machine.relay.port == relay
    async with login(sim, machine.direct.port) as conn:
        host_key = conn.get_server_host_key()
        assert host_key is not None
        assert host_key.get_fingerprint() == key
        assert (await get(conn, "/v1/models")).status == 200
    await machine.start()  # it runs already


async def test_recycling_and_rebooting(sim: Simulation) -> None:
    machine = sim.instances[0]
    key = machine.ssh.fingerprint
    await machine.reboot()
    assert machine.ssh.fingerprint == key
    await machine.recycle()
    assert machine.ssh.fingerprint != key
    assert machine.contract.phase is Phase.RUNNING


async def test_a_crash_breaks_streams_off(sim: Simulation) -> None:
    """No proper end reaches the client; the API says exited although it should run."""
    machine = sim.instances[0]
    machine.engine.tokens_per_s = 5.0
    async with login(sim, machine.relay.port) as conn, Tunnelled(conn) as client:
        await client.send("POST", CHAT, body=question(stream=True))
        answer = await client.head()
        await machine.die()
        with contextlib.suppress(asyncssh.Error):
            assert not (await client.rest(answer)).complete
    assert machine.contract.row["actual_status"] == "exited"
    assert machine.contract.row["intended_status"] == "running"
    assert machine.engine.active_streams == 0


async def test_an_outbid_instance(sim: Simulation) -> None:
    machine = sim.instances[0]
    await machine.outbid()
    assert machine.contract.outbid
    assert sim.account.set_state(machine.id, "running")["success"] is False
    sim.account.change_bid(machine.id, machine.contract.row["min_bid"])
    await until(lambda: machine.contract.phase is Phase.RUNNING)


async def test_sshd_can_die_alone(sim: Simulation) -> None:
    """Both paths refuse, connections end, the engine goes on; afterwards the ports are the same."""
    machine = sim.instances[0]
    ports = machine.direct.port, machine.relay.port
    async with login(sim, machine.direct.port) as conn:
        await machine.kill_ssh()
        await conn.wait_closed()
    assert all([await refused(sim, port) for port in ports])
    assert machine.engine_running
    await machine.restore_ssh()
    assert (machine.direct.port, machine.relay.port) == ports
    assert not any([await refused(sim, port) for port in ports])


async def test_a_blocked_direct_port_leaves_the_relay(sim: Simulation) -> None:
    machine = sim.instances[0]
    await machine.block_direct()
    assert await refused(sim, machine.direct.port)
    assert not await refused(sim, machine.relay.port)
    await machine.stop()
    await machine.start()
    assert await refused(sim, machine.direct.port)
    await machine.unblock_direct()
    assert not await refused(sim, machine.direct.port)


async def test_a_dead_engine_refuses_while_ssh_goes_on(sim: Simulation) -> None:
    machine = sim.instances[0]
    machine.engine.tokens_per_s = 5.0
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client:
        await client.send("POST", CHAT, body=question(stream=True))
        answer = await client.head()
        await machine.engine_down()
        assert not (await client.rest(answer)).complete
        with pytest.raises(asyncssh.ChannelOpenError, match="refused"):
            await get(conn, "/v1/models")
        assert (await conn.run("true")).exit_status == 0
        await machine.engine_up()
        assert (await get(conn, "/v1/models")).status == 200
        await machine.engine_down()
        await machine.engine_down()
    await machine.stop()
    await machine.engine_up()
    assert not machine.engine_running


async def test_a_frozen_instance_is_silent_but_connected(sim: Simulation) -> None:
    """TCP stays open and new connections are accepted, no byte comes; after the thaw all goes on."""
    machine = sim.instances[0]
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client:
        await client.send("POST", CHAT, body=question(stream=True, max_tokens=50))
        answer = await client.head()
        machine.freeze()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.rest(answer)
        reader, writer = await asyncio.open_connection("127.0.0.1", machine.direct.port)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert repr(machine.direct).endswith("frozen connections=2>")
        machine.thaw()
        async with asyncio.timeout(LIMIT_S):
            assert (await client.rest(answer)).complete
            assert (await reader.readline()).startswith(b"SSH-2.0-")
        writer.close()
        await writer.wait_closed()


async def test_slowing_down(sim: Simulation) -> None:
    machine = sim.instances[0]
    machine.slow_down(3.0)
    assert machine.engine.slowness == 3.0
    with pytest.raises(ValueError, match="greater than 0"):
        machine.slow_down(0)


async def test_changed_host_keys_are_met_by_new_connections(sim: Simulation) -> None:
    machine = sim.instances[0]
    async with login(sim, machine.direct.port) as conn:
        machine.change_host_key()
        async with login(sim, machine.direct.port) as later:
            first, second = conn.get_server_host_key(), later.get_server_host_key()
            assert first != second


async def test_cut_connections_end_and_new_ones_work(sim: Simulation) -> None:
    machine = sim.instances[0]
    async with login(sim, machine.relay.port) as conn:
        machine.drop_connections()
        await conn.wait_closed()
    assert not await refused(sim, machine.relay.port)


async def test_a_destroyed_instance_is_gone(sim: Simulation) -> None:
    machine, other = sim.instances[:2]
    await machine.destroy()
    assert machine.id not in [one.id for one in sim.instances]
    assert sim.account.row(machine.id) is None
    assert await refused(sim, machine.relay.port)
    sim.account.destroy(other.id)
    await until(lambda: not other.relay.accepting)
    assert len(sim.instances) == 1


@pytest.mark.parametrize("verb", [Verb.STOP, Verb.REBOOT, Verb.RECYCLE])
async def test_the_api_is_obeyed(sim: Simulation, verb: Verb) -> None:
    machine = sim.instances[0]
    before = machine.direct.port
    if verb is Verb.STOP:
        sim.account.set_state(machine.id, "stopped")
        await until(lambda: machine.contract.phase is Phase.STOPPED)
        await until(lambda: not machine.engine_running)
        sim.account.set_state(machine.id, "running")
    else:
        sim.account.restart(machine.id, verb)
    await until(lambda: machine.contract.phase is Phase.RUNNING and machine.direct.port != before)


# Chaos


async def works(sim: Simulation, machine: SimulatedInstance, *, within_s: float = LIMIT_S) -> bool:
    """Does a request get through the direct path, in time?"""
    try:
        async with (
            asyncio.timeout(within_s),
            login(sim, machine.direct.port) as conn,
            Tunnelled(conn) as client,
        ):
            return (await client.chat(max_tokens=20, ignore_eos=True)).complete
    except (OSError, asyncssh.Error, TimeoutError, h11.RemoteProtocolError):
        return False


@pytest.mark.parametrize("misfortune", [one for one in Misfortune if one not in API_ONLY])
async def test_every_misfortune_hurts_and_heals(misfortune: Misfortune) -> None:
    """What is hurt does not work, or is slow, or lost its connections; what is healed works."""
    async with Simulation(instances=1, tokens_per_s=100.0) as sim:
        machine = sim.instances[0]
        async with login(sim, machine.direct.port) as conn:
            await hurt(machine, misfortune)
            if misfortune is Misfortune.CUT:
                await conn.wait_closed()
            else:
                assert not await works(sim, machine, within_s=1)
        await heal(machine, misfortune)
        assert await works(sim, machine)


async def test_chaos_carries_out_its_script_and_tells_it(sim: Simulation) -> None:
    told: list[Incident] = []
    script = [
        Strike(0.01, Misfortune.ENGINE, 0, 0.05),
        Strike(0.01, Misfortune.FREEZE, 7, 0.05),
        Strike(0.01, Misfortune.API_LIMIT, 0, 0.05),
        Strike(0.01, Misfortune.API_DOWN, 0, 0.05),
    ]
    await Chaos(sim, script, listener=told.append).run()
    ids = [machine.id for machine in sim.instances]
    assert [(one.misfortune, one.instance_id, one.healed) for one in told] == [
        (Misfortune.ENGINE, ids[0], False),
        (Misfortune.ENGINE, ids[0], True),
        (Misfortune.FREEZE, ids[1], False),
        (Misfortune.FREEZE, ids[1], True),
        (Misfortune.API_LIMIT, None, False),
        (Misfortune.API_LIMIT, None, True),
        (Misfortune.API_DOWN, None, False),
        (Misfortune.API_DOWN, None, True),
    ]
    assert sim.account.faults.pending == 0
    assert await works(sim, sim.instances[0])


async def test_cancelled_chaos_heals_what_it_broke(sim: Simulation) -> None:
    broken = asyncio.Event()
    chaos = Chaos(sim, [Strike(0, Misfortune.ENGINE, 0, 60)], listener=lambda incident: broken.set())
    task = asyncio.get_running_loop().create_task(chaos.run())
    async with asyncio.timeout(LIMIT_S):
        await broken.wait()
        await until(lambda: not sim.instances[0].engine_running)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await works(sim, sim.instances[0])
    with pytest.raises(ValueError, match="API_DOWN"):
        await hurt(sim.instances[0], Misfortune.API_DOWN)


async def test_chaos_without_instances_waits_for_better_times() -> None:
    async with Simulation(instances=0) as sim:
        await Chaos(sim, [Strike(0, Misfortune.CRASH, 0, 0)]).run()


# The end


async def test_nothing_is_left_in_the_middle_of_everything() -> None:
    """Streams, a frozen machine, a command that never ends, a login half way: the end takes seconds at most."""
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with contextlib.AsyncExitStack() as stack:
        async with Simulation(instances=3, tokens_per_s=5.0) as sim:
            home = sim.ssh_key_path.parent
            for machine in sim.instances:
                conn = await stack.enter_async_context(login(sim, machine.relay.port))
                client = await stack.enter_async_context(Tunnelled(conn))
                await client.send("POST", CHAT, body=question(stream=True))
                await client.head()
            await conn.create_process("nvidia-smi -l 1")
            _, writer = await asyncio.open_connection("127.0.0.1", sim.instances[1].direct.port)
            stack.callback(writer.close)
            sim.instances[0].freeze()
            began = loop.time()
        assert loop.time() - began < 10
        assert not home.exists()
        assert repr(sim).startswith("<Simulation down")
        await sim.aclose()
    await until(lambda: asyncio.all_tasks() == before)


async def test_a_gateway_that_ends_before_it_joined_leaves_nothing() -> None:
    async def serve(sock: Any) -> None:
        sock.close()

    gateway = Gateway("test", serve)
    await gateway.open()
    await gateway.open()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    await gateway.aclose()
    await gateway.aclose()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_large_answers_pass_with_back_pressure(sim: Simulation) -> None:
    """A client that reads late gets every byte although the answer is larger than all buffers on its way."""
    machine = sim.instances[2]
    machine.engine.slots = 150_000
    async with login(sim, machine.direct.port) as conn, Tunnelled(conn) as client, Tunnelled(conn) as other:
        await client.send("GET", "/slots")
        answer = await client.head()
        assert (await other.ask("GET", "/v1/models")).status == 200
        async with asyncio.timeout(30):
            slots = json.loads((await client.rest(answer)).body)
        assert len(slots) == 150_000
        body = question(max_tokens=1, padding="x" * 8_000_000)
        async with asyncio.timeout(30):
            assert (await other.ask("POST", CHAT, body=body)).status == 200
    assert machine.engine.last_request is not None
    assert machine.engine.last_request.body == body


@pytest.fixture(scope="module")
def uvloop() -> Any:
    """uvloop, with the pipe open that it keeps for the life of the process."""
    found = pytest.importorskip("uvloop")
    found.run(asyncio.sleep(0))
    return found


def test_it_runs_on_uvloop_too(uvloop: Any) -> None:
    """The server's own loop reads at other moments than asyncio's; nothing may get lost between the two."""

    async def play() -> None:
        async with Simulation(instances=1, tokens_per_s=200.0) as sim:
            machine = sim.instances[0]
            assert await works(sim, machine)
            machine.freeze()
            assert not await works(sim, machine, within_s=1)
            machine.thaw()
            assert await works(sim, machine)
            await machine.engine_down()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
