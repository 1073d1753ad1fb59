"""Which address and which files `vastproxy ssh` chooses."""

from pathlib import Path as FilePath

import pytest

from tests.helpers.builders import make_instance
from tests.unit.cli.conftest import Run
from vastproxy.cli.ssh import NotReachable, key_files, prepare, write_known_hosts
from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.openssh import known_hosts_text
from vastproxy.services.tunnels.pins import PinBook
from vastproxy.settings import SettingsError, load
from vastproxy.settings.model import TunnelSettings


def test_the_named_key_or_the_default_ones_that_are_there(tmp_path: FilePath) -> None:
    env = {"HOME": str(tmp_path)}
    assert key_files(TunnelSettings(key_path="~/keys/mine"), env) == [tmp_path / "keys" / "mine"]
    assert key_files(TunnelSettings(), env) == []
    (tmp_path / ".ssh").mkdir()
    for name in ("id_rsa", "id_ed25519", "other"):
        (tmp_path / ".ssh" / name).touch()
    assert [file.name for file in key_files(TunnelSettings(), env)] == ["id_ed25519", "id_rsa"]
    assert key_files(TunnelSettings(agent="on"), env) == []
    assert key_files(TunnelSettings(), {}) == []


def test_the_file_is_written_for_its_owner_alone_and_only_when_it_changes(tmp_path: FilePath) -> None:
    file = tmp_path / "known_hosts"
    book = PinBook().with_pin("7@1", Path.DIRECT, "ssh-ed25519 AAAA", now=1)
    assert write_known_hosts(file, book) == file
    assert file.read_text() == known_hosts_text(book)
    assert file.stat().st_mode & 0o077 == 0
    before = file.stat().st_ino
    write_known_hosts(file, book)
    assert file.stat().st_ino == before
    longer = book.with_pin("8@1", Path.DIRECT, "ssh-ed25519 BBBB", now=1)
    for each in (longer, book):
        write_known_hosts(file, each)
        assert file.read_text() == known_hosts_text(each)


def test_a_place_that_cannot_be_written_is_a_matter_of_settings(tmp_path: FilePath) -> None:
    with pytest.raises(SettingsError, match=r"tunnels\.state_dir"):
        write_known_hosts(tmp_path / "gone" / "known_hosts", PinBook())


async def test_an_instance_without_an_address_is_said_to_be_what_it_is(tmp_path: FilePath) -> None:
    loaded = load(environ={"HOME": str(tmp_path)}, cwd=tmp_path)
    loading = make_instance(actual_status="loading", ports=None, ssh_host=None)
    with pytest.raises(NotReachable, match="has no SSH address; it is loading"):
        await prepare(loaded, loading, command=())
    with pytest.raises(NotReachable, match="on the direct path"):
        await prepare(loaded, make_instance(ports=None), command=(), path=Path.DIRECT)


def test_without_a_client_it_says_what_to_install(run: Run, tmp_path: FilePath) -> None:
    result = run("ssh", "7", PATH=str(tmp_path))
    assert isinstance(result.exception, SettingsError)
    assert "apt-get install openssh-client" in str(result.exception)
