"""The file of keys on a disk: nobody reads half of it, no two writers lose each other's keys."""

import os
import stat
import threading
from pathlib import Path

import pytest

from vastproxy.services.access.keyfile import edit_keys, keys_path, read_keys
from vastproxy.services.access.records import KeyBook, KeyLimits, Right, UnreadableKeys
from vastproxy.services.ownfile import read_own, stamp_of, writing
from vastproxy.settings import Settings


def add(file: Path, name: str) -> str:
    def edit(book: KeyBook) -> tuple[KeyBook, str]:
        edited, _, key = book.create(name, rights=frozenset({Right.INFERENCE}), limits=KeyLimits(), now=1.0)
        return edited, key

    return edit_keys(file, edit, limit_s=30.0)  # a disk may take its time for each that is before it


def names(file: Path) -> list[str]:
    book = read_keys(file)
    assert book is not None
    return [key.name for key in book.keys]


def test_only_its_owner_can_read_it_and_its_directory(tmp_path: Path) -> None:
    file = tmp_path / "state" / "keys.json"
    add(file, "web")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert sorted(os.listdir(file.parent)) == ["keys.json", "keys.json.lock"]


def test_no_file_is_no_keys(tmp_path: Path) -> None:
    assert read_keys(tmp_path / "keys.json") is None
    assert read_own(tmp_path / "no" / "such", max_bytes=1) is None


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    file, wanted = tmp_path / "keys.json", [f"key{number}" for number in range(12)]
    threads = [threading.Thread(target=add, args=(file, name)) for name in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(file)) == sorted(wanted)


def test_a_lock_that_is_never_given_back_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    with writing(file), pytest.raises(TimeoutError), writing(file, limit_s=0.05):
        pass
    with writing(file, limit_s=0.05):
        pass


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    file = tmp_path / "keys.json"
    file.symlink_to("real/keys.json")
    add(file, "web")
    assert file.is_symlink()
    assert names(tmp_path / "real" / "keys.json") == ["web"]


@pytest.mark.parametrize("content", [b"{", b"", b"\x00"])
def test_what_is_no_book_is_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    with pytest.raises(UnreadableKeys):
        add(file, "web")
    assert file.read_bytes() == content


def test_an_edit_that_fails_leaves_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    add(file, "web")
    before = file.read_bytes()
    with pytest.raises(ZeroDivisionError):
        edit_keys(file, lambda book: (book, 1 // 0))
    assert file.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == ["keys.json", "keys.json.lock"]


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_one_line_and_is_not_waited_for(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "keys.json")
    with pytest.raises(UnreadableKeys, match=r"is a directory|not a regular file"):
        read_keys(tmp_path / "keys.json")


def test_a_file_that_is_much_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_own(tmp_path / "x", max_bytes=4)


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    with pytest.raises(UnreadableKeys, match="not a directory"):
        add(tmp_path / "x" / "y" / "keys.json", "web")


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "x"
    seen = [stamp_of(file)]
    for written, content in enumerate(("a", "b", "cc")):
        file.write_text(content)
        os.utime(file, (written, written))  # a system's own times may be too coarse to tell these apart
        seen.append(stamp_of(file))
    file.unlink()
    assert stamp_of(file) == seen[0]
    assert len(set(seen)) == 4


@pytest.mark.parametrize(
    ("server", "tunnels", "environ", "path"),
    [
        ({}, {}, {"HOME": "/h"}, "/h/.local/state/vastproxy/keys.json"),
        ({}, {}, {"HOME": "/h", "XDG_STATE_HOME": "/s"}, "/s/vastproxy/keys.json"),
        ({}, {"state_dir": "~/t"}, {"HOME": "/h"}, "/h/t/keys.json"),
        ({"keys_file": "~/k"}, {"state_dir": "/t"}, {"HOME": "/h"}, "/h/k"),
        ({}, {}, {}, None),
    ],
)
def test_where_it_is(
    server: dict[str, str], tunnels: dict[str, str], environ: dict[str, str], path: str | None
) -> None:
    settings = Settings.model_validate({"server": server, "tunnels": tunnels})
    assert keys_path(settings, environ) == (None if path is None else Path(path))
