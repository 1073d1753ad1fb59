"""Pins in a file that several proxies share."""

import asyncio
import fcntl
import logging
import os
from pathlib import Path as FilePath

import pytest

from vastproxy.services.ownfile import stamp_of
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.hostkeys import HostKeyPins, PinsNotStored, pins_path
from vastproxy.services.tunnels.pinfile import MAX_FILE_BYTES
from vastproxy.services.tunnels.pins import Sibling, Verdict
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
    assert await pins.recycled("7@2") == 1
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
        *(
            proxy.trust(f"{n}{who}@0", Path.DIRECT, "k")
            for who, proxy in enumerate(proxies)
            for n in range(1, 21)
        )
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


async def test_what_another_process_dropped_is_dropped(file: FilePath) -> None:
    ours = HostKeyPins(file)
    await ours.trust("7@1", Path.DIRECT, "A")
    assert await HostKeyPins(file).recycled("7@2") == 1
    await ours.refresh()
    assert ours.pinned("7@1", Path.DIRECT) is None
    assert await ours.recycled("7@2") == 0


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
    await pins.recycled("7@2")
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


def at(seconds: float) -> HostKeyPins:
    """Pins in memory at a time that stands still."""
    return HostKeyPins(None, clock=lambda: seconds)


async def changed(pins: HostKeyPins, path: Path = Path.DIRECT) -> HostKeyPins:
    """Instance 7 has shown A, then B."""
    await pins.trust("7@1", path, "ssh-ed25519 A")
    await pins.refuse("7@1", path, "ssh-ed25519 B", address="192.0.2.7:41022")
    return pins


async def test_a_refused_key_waits_until_it_is_accepted_and_is_then_the_pinned_one() -> None:
    pins = await changed(at(5))
    [change] = pins.changes(7)
    assert (change.pinned.key, change.refused.key, change.refused.address, change.refused.seen) == (
        "ssh-ed25519 A",
        "ssh-ed25519 B",
        "192.0.2.7:41022",
        5,
    )
    assert await pins.accept(change)
    assert pins.check("7@1", Path.DIRECT, "ssh-ed25519 B") is Verdict.SAME
    assert pins.check("7@1", Path.DIRECT, "ssh-ed25519 A") is Verdict.CHANGED
    assert pins.changes(7) == ()
    assert not await pins.accept(change), "it is settled"
    pin = pins.pin("7@1", Path.DIRECT)
    assert pin is not None
    assert pin.since == 5


async def test_another_process_accepts_what_this_one_refused(file: FilePath) -> None:
    """As the command line does while the proxy runs: each sees the other's part after a refresh."""
    proxy, person = await changed(HostKeyPins(file)), HostKeyPins(file)
    await person.refresh()
    [change] = person.changes(7)
    assert await person.accept(change)
    assert proxy.check("7@1", Path.DIRECT, "ssh-ed25519 B") is Verdict.CHANGED
    await proxy.refresh()
    assert proxy.check("7@1", Path.DIRECT, "ssh-ed25519 B") is Verdict.SAME
    assert proxy.changes(7) == ()


async def test_nobody_accepts_a_key_that_was_not_shown_to_them(file: FilePath) -> None:
    """Between looking and accepting, the instance shows yet another key: that one stays refused."""
    proxy, person = await changed(HostKeyPins(file)), HostKeyPins(file)
    await person.refresh()
    [change] = person.changes(7)
    await proxy.refuse("7@1", Path.DIRECT, "ssh-ed25519 C", address="192.0.2.7:41022")
    assert not await person.accept(change)
    assert person.pinned("7@1", Path.DIRECT) == "ssh-ed25519 A"
    assert [one.refused.key for one in person.changes(7)] == ["ssh-ed25519 C"]


async def test_a_decision_that_cannot_be_written_is_an_error(tmp_path: FilePath) -> None:
    (tmp_path / "state").write_text("")
    pins = await changed(HostKeyPins(tmp_path / "state" / "host_keys.json"))
    [change] = pins.changes(7)
    with pytest.raises(
        PinsNotStored, match=r"cannot be written to .*host_keys\.json; make the file writable"
    ):
        await pins.accept(change)


async def test_what_was_refused_while_nothing_could_be_written_is_written_later(tmp_path: FilePath) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("")
    pins = await changed(HostKeyPins(blocked / "host_keys.json"))
    await pins.trust("8@1", Path.DIRECT, "gone")
    assert await pins.recycled("8@2") == 1
    blocked.unlink()
    await pins.trust("9@1", Path.DIRECT, "new")
    reader = HostKeyPins(blocked / "host_keys.json")
    await reader.refresh()
    assert [one.refused.key for one in reader.changes(7)] == ["ssh-ed25519 B"]
    assert reader.pinned("8@1", Path.DIRECT) is None


async def test_a_key_refused_again_at_once_does_not_write_the_file(file: FilePath) -> None:
    now = 100.0
    pins = HostKeyPins(file, clock=lambda: now)
    await changed(pins)
    before = stamp_of(file)  # nothing of when it was read, which the look at it may change
    now += 10
    await changed(pins)
    assert stamp_of(file) == before
    now += 60
    await changed(pins)
    assert pins.changes(7)[0].refused.seen == 170
    assert pins.changes(7)[0].refused.since == 100


async def test_a_recycled_instance_starts_anew(file: FilePath) -> None:
    """A later start date drops what the earlier one pinned and refused; a look at the past does not."""
    pins = await changed(HostKeyPins(file))
    assert await pins.trust("7@2", Path.RELAY, "ssh-ed25519 C") is Verdict.NEW
    assert pins.changes(7) == ()
    assert pins.pinned("7@1", Path.DIRECT) is None
    assert await pins.trust("7@1", Path.DIRECT, "ssh-ed25519 A") is Verdict.NEW
    assert pins.pinned("7@2", Path.RELAY) == "ssh-ed25519 C"
    assert await pins.recycled("7@2") == 1
    assert await pins.recycled("7@2") == 0
    assert pins.pinned("7@2", Path.RELAY) == "ssh-ed25519 C"


async def test_what_the_other_path_says() -> None:
    pins = await changed(at(5))
    assert pins.sibling("7@1", Path.DIRECT, "ssh-ed25519 B") is Sibling.SILENT
    await pins.trust("7@1", Path.RELAY, "ssh-ed25519 A")
    assert pins.sibling("7@1", Path.DIRECT, "ssh-ed25519 B") is Sibling.UNCHANGED
