"""Looking at host keys leaves no trace."""

import os
from pathlib import Path as FilePath

import asyncssh

from vastproxy.services.diagnosis.hostkeys import SeenHostKeys
from vastproxy.services.tunnels.base import Path, SshAddress, TunnelTarget
from vastproxy.services.tunnels.pins import PinBook, Verdict

AT = SshAddress("203.0.113.7", 41022, Path.DIRECT)
ID = "7@1700000000"
TARGET = TunnelTarget(7, ID, (AT,))


def key() -> str:
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
    return " ".join(public.split()[:2])


OLD, NEW = key(), key()


def written(directory: FilePath, book: PinBook) -> FilePath:
    file = directory / "host_keys.json"
    file.write_text(book.dump())
    file.chmod(0o600)
    return file


async def test_a_key_at_first_sight_is_accepted_and_not_pinned(tmp_path: FilePath) -> None:
    rules = SeenHostKeys(tmp_path / "state" / "host_keys.json")
    check = await rules.begin(TARGET, AT)
    assert check.kinds == ()
    assert check.accepts(NEW)
    await check.confirm()
    assert await check.refusal() is None
    assert (rules.shown[ID, AT].verdict, rules.shown[ID, AT].pin) == (Verdict.NEW, None)
    assert os.listdir(tmp_path) == []


async def test_the_pinned_key_is_the_same(tmp_path: FilePath) -> None:
    book = PinBook().with_pin(ID, Path.DIRECT, OLD, now=1)
    rules = SeenHostKeys(written(tmp_path, book))
    check = await rules.begin(TARGET, AT)
    assert check.kinds == ("ssh-ed25519",)
    assert check.accepts(OLD)
    assert rules.shown[ID, AT].pin == book.pins[ID, Path.DIRECT]


async def test_a_changed_key_is_refused_and_not_remembered(tmp_path: FilePath) -> None:
    """Only what a proxy has refused can be trusted; looking does not make it so."""
    file = written(tmp_path, PinBook().with_pin(ID, Path.DIRECT, OLD, now=1))
    before = file.read_bytes()
    rules = SeenHostKeys(file)
    check = await rules.begin(TARGET, AT)
    assert not check.accepts(NEW)
    refusal = await check.refusal()
    assert refusal is not None
    assert str(refusal).startswith("HOST KEY CHANGED: instance 7 (direct 203.0.113.7:41022)")
    assert not rules.shown[ID, AT].can_be_trusted
    await rules.recycled(ID)
    assert file.read_bytes() == before
    assert os.listdir(tmp_path) == [file.name]


async def test_a_key_that_a_proxy_has_refused_can_be_trusted(tmp_path: FilePath) -> None:
    book = PinBook().with_pin(ID, Path.DIRECT, OLD, now=1)
    book = book.with_refused(ID, Path.DIRECT, NEW, address="203.0.113.7:41022", now=2)
    rules = SeenHostKeys(written(tmp_path, book))
    check = await rules.begin(TARGET, AT)
    assert not check.accepts(NEW)
    assert rules.shown[ID, AT].can_be_trusted


async def test_a_file_that_cannot_be_used_is_said_and_left_alone(tmp_path: FilePath) -> None:
    file = tmp_path / "host_keys.json"
    file.write_text("not ours")
    rules = SeenHostKeys(file)
    assert (await rules.begin(TARGET, AT)).accepts(NEW)
    assert "does not hold pinned host keys" in rules.trouble
    file.chmod(0o666)
    await rules.begin(TARGET, AT)
    assert "everybody may write it" in rules.trouble
    assert file.read_text() == "not ours"
    assert (await SeenHostKeys(None).begin(TARGET, AT)).kinds == ()
