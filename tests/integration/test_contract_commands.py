"""What `Tunnel.run` promises, kept by both engines against OpenSSH's sshd."""

import asyncio
from pathlib import Path as FilePath

import pytest

from tests.helpers.contract import echoes
from tests.helpers.processes import is_running, wait_until
from tests.helpers.ssh_engines import tunnel_over
from tests.helpers.sshd import Sshd
from tests.helpers.tunnelling import Peer, echo
from tests.helpers.uv import BOTH_LOOPS
from vastproxy.services.errors import ChannelRefused

#: uvloop's transports differ from asyncio's in how they close and in what a cancellation leaves.
pytestmark = BOTH_LOOPS


async def test_a_command_returns_what_it_left(sshd: Sshd, engine: str) -> None:
    async with tunnel_over(engine, sshd) as tunnel:
        result = await tunnel.run("echo out; echo err >&2; cat; exit 3", timeout_s=10)
        assert (result.exit_status, result.stdout, result.stderr) == (3, "out\n", "err\n")
        undecodable = await tunnel.run(r"printf 'a\377b'", timeout_s=10)
        assert undecodable.stdout == "a\N{REPLACEMENT CHARACTER}b"
        bounded = await tunnel.run("timeout 5 echo bounded by itself", timeout_s=10)
        assert (bounded.exit_status, bounded.stdout) == (0, "bounded by itself\n")


async def test_a_command_that_takes_too_long_is_killed(sshd: Sshd, engine: str, tmp_path: FilePath) -> None:
    """The process inside the instance is gone, and the tunnel lives on."""
    async with tunnel_over(engine, sshd) as tunnel:
        mark = tmp_path / "pid"
        command = f"echo $$ > {mark}.new; mv {mark}.new {mark}; trap '' HUP TERM; sleep 1000"
        for limit_s in (0.5, 2.0, 8.0, 30.0):  # on a busy machine a command may need longer to begin
            with pytest.raises(TimeoutError, match=rf"instance 7 .* did not end within {limit_s:g} s"):
                await tunnel.run(command, timeout_s=limit_s)
            if mark.exists():
                break
        pid = int(mark.read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")
        assert (await tunnel.run("echo alive", timeout_s=10)).stdout == "alive\n"


async def test_a_cancelled_command_is_killed(sshd: Sshd, engine: str, tmp_path: FilePath) -> None:
    mark = tmp_path / "pid"
    async with tunnel_over(engine, sshd) as tunnel:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(
                tunnel.run(f"echo $$ > {mark}.new; mv {mark}.new {mark}; sleep 1000", timeout_s=60)
            )
            await asyncio.to_thread(wait_until, mark.exists, limit_s=5, what="started")
            running.cancel()
        pid = int(mark.read_text())
        await asyncio.to_thread(wait_until, lambda: not is_running(pid), limit_s=5, what="killed")


async def test_a_command_given_up_before_it_began_is_killed_when_it_begins(
    sshd: Sshd, engine: str, tmp_path: FilePath
) -> None:
    """The time is up while sshd is frozen; once it goes on, nothing of the command remains."""
    mark = tmp_path / "began"
    async with tunnel_over(engine, sshd) as tunnel:
        await tunnel.run("true", timeout_s=10)
        sshd.freeze()
        with pytest.raises(TimeoutError):
            await tunnel.run(f"sleep 1000; touch {mark}", timeout_s=0.05)
        sshd.thaw()
        await tunnel.run("true", timeout_s=10)
        await asyncio.to_thread(
            wait_until, lambda: len(sshd.children()) == 1, limit_s=5, what="only the session"
        )
        assert not mark.exists()


async def test_a_command_that_prints_too_much_is_killed_and_cut(sshd: Sshd, engine: str) -> None:
    async with tunnel_over(engine, sshd) as tunnel:
        result = await tunnel.run("yes", timeout_s=20, max_output_bytes=1000)
        assert (result.exit_status, result.stdout) == (None, "y\n" * 500)
        both = await tunnel.run("yes no >&2", timeout_s=20, max_output_bytes=300_000)
        assert (both.exit_status, both.stderr) == (None, "no\n" * 100_000)


async def test_more_commands_than_sshd_allows_wait_for_their_turn(sshd: Sshd, engine: str) -> None:
    """Thirty at once, while MaxSessions is ten."""
    async with tunnel_over(engine, sshd) as tunnel:
        results = await asyncio.gather(*(tunnel.run(f"echo {n}", timeout_s=20) for n in range(30)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(30)]


async def test_a_server_without_commands_still_forwards(tmp_path: FilePath, engine: str) -> None:
    """MaxSessions 0 refuses every command: connecting works, `run` says why it does not."""
    with Sshd(tmp_path / "sshd", config=["MaxSessions 0"]) as server:
        async with Peer().serve(echo) as peer, tunnel_over(engine, server) as tunnel:
            await echoes(tunnel, peer.port)
            with pytest.raises(ChannelRefused, match="does not open a session for a command"):
                await tunnel.run("true", timeout_s=5)


async def test_a_command_has_run_before_the_tunnel_is_handed_out(sshd: Sshd, engine: str) -> None:
    """It makes sshd set TCP_NODELAY on its side."""
    async with tunnel_over(engine, sshd):
        await asyncio.to_thread(
            wait_until, lambda: "Starting session: command" in sshd.log, limit_s=5, what="logged"
        )
