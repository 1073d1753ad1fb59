"""Pins in a file that several proxies share."""

import asyncio
import fcntl
import logging
import os
from pathlib import Path as FilePath

import pytest

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import MAX_FILE_BYTES, HostKeyPins, pins_path
from vastproxy.services.tunnels.pins import Verdict
from vastproxy.settings.model import TunnelSettings


@pytest.fixture
def file(tmp_path: FilePath) -> FilePath:
    return tmp_path / "state" / "host_keys.json"


def test_the_file_is_below_the_state_directory() -> None:
    home = {"HOME": "/home/u"}
    assert pins_path(TunnelSettings(), home) == FilePath("/home/u/.local/state/vastproxy/host_keys.json")
    xdg = {**home, "XDG_STATE_HOME": "/state"}
    assert pins_path(TunnelSettings(), xdg) == FilePath("/state/vastproxy/host_keys.json")
    chosen = TunnelSettings(state_dir="~/mine")
    assert pins_path(chosen, xdg) == FilePath("/home/u/mine/host_keys.json")
    assert pins_path(TunnelSettings(), {}) is None


async def test_without_a_file_pins_live_in_memory() -> None:
    pins = HostKeyPins(None)
    await pins.refresh()
    assert await pins.trust("7@1", Path.DIRECT, "A") is Verdict.NEW
    assert await pins.trust("7@1", Path.DIRECT, "A") is Verdict.SAME
    assert await pins.trust("7@1", Path.DIRECT, "B") is Verdict.CHANGED
    assert pins.pinned("7@1", Path.DIRECT) == "A"
    assert repr(pins) == "<HostKeyPins in memory pins=1>"
    assert await pins.forget(7) == 1
    assert pins.check("7@1", Path.DIRECT, "B") is Verdict.NEW


def mode(path: FilePath) -> int:
    return path.stat().st_mode & 0o777


async def test_pins_survive_in_a_private_file(file: FilePath) -> None:
    await HostKeyPins(file, clock=lambda: 1e9).trust("7@1", Path.RELAY, "A")
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    later = HostKeyPins(file)
    await later.refresh()
    assert later.check("7@1", Path.RELAY, "A") is Verdict.SAME
    assert sorted(os.listdir(file.parent)) == ["host_keys.json", "host_keys.json.lock"]


async def test_two_proxies_do_not_lose_each_others_pins(file: FilePath) -> None:
    """Each writes 20 pins at the same time, from its own view."""
    proxies = [HostKeyPins(file, lock_limit_s=30) for _ in range(2)]
    await asyncio.gather(
        *(proxy.trust(f"{n}@{who}", Path.DIRECT, "k") for who, proxy in enumerate(proxies) for n in range(20))
    )
    reader = HostKeyPins(file)
    await reader.refresh()
    assert repr(reader).endswith("pins=40>")


async def test_what_another_proxy_pinned_counts_even_if_we_have_not_seen_it(file: FilePath) -> None:
    ours, theirs = HostKeyPins(file), HostKeyPins(file)
    await theirs.trust("7@1", Path.DIRECT, "A")
    assert ours.check("7@1", Path.DIRECT, "B") is Verdict.NEW
    assert await ours.trust("7@1", Path.DIRECT, "B") is Verdict.CHANGED
    assert ours.pinned("7@1", Path.DIRECT) == "A"


async def test_what_another_process_forgot_is_forgotten(file: FilePath) -> None:
    ours = HostKeyPins(file)
    await ours.trust("7@1", Path.DIRECT, "A")
    assert await HostKeyPins(file).forget(7) == 1
    await ours.refresh()
    assert ours.pinned("7@1", Path.DIRECT) is None
    assert await ours.forget(7) == 0


def put(file: FilePath, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)


@pytest.mark.parametrize(
    "content", [b"{", b"\xff\xfe", b"", b" " * (MAX_FILE_BYTES + 1)], ids=["json", "utf8", "empty", "huge"]
)
async def test_a_corrupt_file_is_moved_aside_with_a_warning(
    file: FilePath, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    put(file, content)
    pins = HostKeyPins(file)
    await pins.refresh()
    assert pins.check("7@1", Path.DIRECT, "A") is Verdict.NEW
    assert file.with_name("host_keys.json.unreadable").read_bytes() == content
    assert "host keys are trusted anew" in caplog.text
    await pins.trust("7@1", Path.DIRECT, "A")
    await pins.refresh()
    assert pins.pinned("7@1", Path.DIRECT) == "A"
    assert len(caplog.records) == 1


async def test_where_nothing_can_be_written_pins_live_in_memory_with_one_warning(
    tmp_path: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    """A file stands where the directory should be, which stops even root."""
    (tmp_path / "state").write_text("")
    pins = HostKeyPins(tmp_path / "state" / "host_keys.json")
    await pins.refresh()
    assert await pins.trust("7@1", Path.DIRECT, "A") is Verdict.NEW
    await pins.refresh()
    assert await pins.trust("7@1", Path.DIRECT, "B") is Verdict.CHANGED
    assert await pins.trust("8@1", Path.DIRECT, "C") is Verdict.NEW
    assert pins.pinned("7@1", Path.DIRECT) == "A"
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "cannot be kept" in caplog.text
    await pins.forget(7)
    assert pins.pinned("7@1", Path.DIRECT) is None
    assert pins.pinned("8@1", Path.DIRECT) == "C"


async def test_what_could_not_be_written_is_written_later(tmp_path: FilePath) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("")
    pins = HostKeyPins(blocked / "host_keys.json")
    await pins.trust("7@1", Path.DIRECT, "A")
    blocked.unlink()
    await pins.refresh()
    assert pins.pinned("7@1", Path.DIRECT) == "A"
    await pins.trust("8@1", Path.DIRECT, "B")
    reader = HostKeyPins(blocked / "host_keys.json")
    await reader.refresh()
    assert (reader.pinned("7@1", Path.DIRECT), reader.pinned("8@1", Path.DIRECT)) == ("A", "B")


async def test_a_lock_that_nobody_releases_costs_its_limit_and_no_more(
    file: FilePath, caplog: pytest.LogCaptureFixture
) -> None:
    file.parent.mkdir()
    with file.with_name("host_keys.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        pins = HostKeyPins(file, lock_limit_s=0.05)
        assert await pins.trust("7@1", Path.DIRECT, "A") is Verdict.NEW
    assert pins.pinned("7@1", Path.DIRECT) == "A"
    assert "another process holds its lock" in caplog.text


async def test_a_failed_write_leaves_the_old_pins_and_no_scrap(file: FilePath) -> None:
    pins = HostKeyPins(file)
    await pins.trust("7@1", Path.DIRECT, "A")
    before = sorted(os.listdir(file.parent))
    file_that_cannot_be_replaced(file)
    await pins.trust("8@1", Path.DIRECT, "B")
    assert pins.pinned("8@1", Path.DIRECT) == "B"
    assert sorted(os.listdir(file.parent)) == before


def file_that_cannot_be_replaced(file: FilePath) -> None:
    """A directory that is not empty in the file's place: neither readable nor replaceable, even by root."""
    file.unlink()
    file.mkdir()
    (file / "inside").touch()
