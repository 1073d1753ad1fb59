"""Asking an ssh-agent for its keys, and what is said about one that does not answer. A real one is in the integration
tests."""

import asyncio
import struct
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.ssh_agent import FAILURE, SaidAgent, identities, string
from vastproxy.services.tunnels.agent import (
    MAX_ANSWER_BYTES,
    AgentKey,
    AgentSession,
    AgentUnusable,
    keys_in,
    list_keys,
)
from vastproxy.services.tunnels.publickey import PublicKey, parse_blob

KEY = parse_blob(asyncssh.generate_private_key("ssh-ed25519").public_data)
WEAK = parse_blob(asyncssh.generate_private_key("ssh-rsa", key_size=1024).public_data)


def test_keys_are_listed_with_their_comments_and_unknown_kinds_are_passed_over(tmp_path: Path) -> None:
    answer = identities((KEY.blob, b"me\n\xff"), (b"?", b""), (WEAK.blob, b""))
    with SaidAgent(tmp_path / "agent", answer) as agent:
        assert list_keys(agent.socket) == (AgentKey(KEY, "me �"), AgentKey(WEAK, ""))
    assert agent.requests == [b"\0\0\0\x01\x0b"]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (FAILURE, "refuses to list its keys"),
        (string(bytes([6])), "is not an ssh-agent"),
        (string(bytes([12])), "is not an ssh-agent"),
        (string(bytes([12]) + struct.pack(">I", 2**31)), "is not an ssh-agent"),
        (string(bytes([12]) + struct.pack(">I", 1) + string(KEY.blob)), "is not an ssh-agent"),
        (b"\0\0\0\0", "is not an ssh-agent"),
        (struct.pack(">I", MAX_ANSWER_BYTES + 1), "is not an ssh-agent"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not an ssh-agent"),
        (identities((KEY.blob, b"me"))[:-1], "cannot be reached: it closed the connection"),
    ],
    ids=["failure", "other", "short", "many", "cut", "empty", "long", "http", "breaks off"],
)
def test_what_is_no_list_of_keys(tmp_path: Path, answer: bytes, message: str) -> None:
    with SaidAgent(tmp_path / "agent", answer) as agent, pytest.raises(AgentUnusable, match=message) as error:
        list_keys(agent.socket)
    assert str(agent.socket) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_silent_agent_costs_its_limit(tmp_path: Path) -> None:
    silent = pytest.raises(AgentUnusable, match=r"does not answer within 0\.05 s")
    with SaidAgent(tmp_path / "agent", None) as agent, silent:
        list_keys(agent.socket, limit_s=0.05)


def test_nobody_there_and_a_path_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(AgentUnusable, match="cannot be reached: No such file or directory"):
        list_keys(tmp_path / "nobody")
    with pytest.raises(AgentUnusable, match="cannot be reached: AF_UNIX path too long"):
        list_keys(tmp_path / ("x" * 200))


@given(st.binary(min_size=1, max_size=80) | st.binary(max_size=80).map(b"\x0c\0\0\0\1".__add__))
def test_any_answer_is_a_list_or_an_error(answer: bytes) -> None:
    try:
        keys = keys_in(answer, Path("/agent"))
    except AgentUnusable:
        return
    assert all(isinstance(key.public, PublicKey) for key in keys)


async def test_a_session_offers_the_wanted_keys_in_their_order(tmp_path: Path) -> None:
    other = parse_blob(asyncssh.generate_private_key("ssh-ed25519").public_data)
    listing = identities((other.blob, b"x"), (WEAK.blob, b"y"), (KEY.blob, b"z"))
    with SaidAgent(tmp_path / "agent", listing) as agent:
        async with AgentSession(agent.socket, [KEY, other]) as session:
            assert [pair.key_public_data for pair in session.keys] == [KEY.blob, other.blob]
            assert session.trouble is None


async def test_a_session_without_its_keys_or_without_an_agent_says_so(tmp_path: Path) -> None:
    lost = pytest.raises(AgentUnusable, match=rf"holds {KEY.kind} .* no more; add it again with ssh-add")
    with SaidAgent(tmp_path / "agent", identities((WEAK.blob, b"y"))) as agent, lost:
        await AgentSession(agent.socket, [KEY]).__aenter__()
    with pytest.raises(AgentUnusable, match="does not answer"):
        await AgentSession(tmp_path / "nobody", [KEY]).__aenter__()


async def test_a_session_that_is_cancelled_while_the_agent_is_silent_leaves_nothing(tmp_path: Path) -> None:
    with SaidAgent(tmp_path / "agent", None) as agent, pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await AgentSession(agent.socket, [KEY]).__aenter__()


async def test_a_silent_agent_is_named_in_time(tmp_path: Path) -> None:
    """Before the login as a whole runs out of time, and what it says later is not taken for another answer."""
    with SaidAgent(tmp_path / "mute", None) as agent:
        silent = pytest.raises(AgentUnusable, match=r"does not answer within 0\.05 s; start it again")
        with silent:
            await AgentSession(agent.socket, [KEY], list_limit_s=0.05).__aenter__()
    with SaidAgent(tmp_path / "slow", identities((KEY.blob, b"y")), None) as agent:
        async with AgentSession(agent.socket, [KEY], sign_limit_s=0.05) as session:
            with pytest.raises(ValueError, match="not signed in time"):
                await sign(session)
            assert f"had not signed with {KEY} yet" in (session.trouble or "")
    assert len(agent.requests) == 2


async def sign(session: AgentSession) -> bytes:
    [pair] = session.keys
    signature: bytes = await pair.sign_async(b"data")  # type: ignore[attr-defined]
    return signature


async def test_who_was_to_blame_for_a_missing_signature(tmp_path: Path) -> None:
    """First it signs, then it refuses, then it is silent."""
    answers = (identities((KEY.blob, b"y")), string(b"\x0e" + string(b"signed")), FAILURE, None)
    with SaidAgent(tmp_path / "agent", *answers) as agent:
        async with AgentSession(agent.socket, [KEY]) as session:
            assert await sign(session) == b"signed"
            assert session.trouble is None
            with pytest.raises(ValueError, match="Unable to sign"):
                await sign(session)
            assert session.trouble == (
                f"the ssh-agent at {agent.socket} refuses to sign with {KEY}: "
                "confirm the use, or unlock the agent with ssh-add -X"
            )
        async with AgentSession(agent.socket, [KEY]) as session:
            await sign(session)
            with pytest.raises(ValueError, match="Unable to sign"):
                await sign(session)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await sign(session)
            assert "refuses to sign" in (session.trouble or "")
    with SaidAgent(tmp_path / "slow", identities((KEY.blob, b"y")), None) as agent:
        async with AgentSession(agent.socket, [KEY]) as session:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await sign(session)
            assert f"had not signed with {KEY} yet: perhaps it waits for a confirmation" in (
                session.trouble or ""
            )
