"""The file of pinned host keys: replaced as a whole, under a lock. What several processes see is in test_hostkeys."""

import fcntl
import os
from pathlib import Path as FilePath

import pytest

from vastproxy.services.tunnels.base import Path
from vastproxy.services.tunnels.pinfile import edit_book, read_book
from vastproxy.services.tunnels.pins import PinBook, UnreadablePins


def pinned(book: PinBook) -> PinBook:
    return book.with_pin("7@1", Path.DIRECT, "A", now=1)


def test_no_file_is_an_empty_book_and_an_edit_makes_one(tmp_path: FilePath) -> None:
    path = tmp_path / "state" / "host_keys.json"
    assert read_book(path) == PinBook()
    assert edit_book(path, pinned) == read_book(path) == pinned(PinBook())


def test_an_edit_that_changes_nothing_writes_nothing(tmp_path: FilePath) -> None:
    path = tmp_path / "host_keys.json"
    edit_book(path, lambda book: book)
    assert os.listdir(tmp_path) == ["host_keys.json.lock"]


def test_the_lock_of_somebody_else_is_respected(tmp_path: FilePath) -> None:
    path = tmp_path / "host_keys.json"
    with (tmp_path / "host_keys.json.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            edit_book(path, pinned)
    assert edit_book(path, pinned) == pinned(PinBook())


def test_a_reader_does_not_touch_what_it_cannot_read(tmp_path: FilePath) -> None:
    path = tmp_path / "host_keys.json"
    path.write_bytes(b"\xff")
    with pytest.raises(UnreadablePins):
        read_book(path)
    assert path.exists()


def test_a_file_that_others_may_have_written_is_not_believed(tmp_path: FilePath) -> None:
    path = tmp_path / "host_keys.json"
    edit_book(path, pinned)
    path.chmod(0o666)
    for use in (read_book, lambda path: edit_book(path, pinned)):
        with pytest.raises(PermissionError, match="everybody may write it; run: chmod 600"):
            use(path)
    path.chmod(0o644)
    assert read_book(path) == pinned(PinBook())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_not_believed(tmp_path: FilePath) -> None:
    path = tmp_path / "host_keys.json"
    edit_book(path, pinned)
    os.chown(path, 65_534, -1)
    with pytest.raises(PermissionError, match="it belongs to another user, 65534"):
        read_book(path)


def test_a_pipe_or_a_planted_link_holds_nobody_up(tmp_path: FilePath) -> None:
    """The pipe has no writer; the link would have the lock made elsewhere."""
    path = tmp_path / "host_keys.json"
    os.mkfifo(path)
    with pytest.raises(PermissionError, match="it is not a regular file"):
        read_book(path)
    path.unlink()
    (tmp_path / "host_keys.json.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        edit_book(path, pinned)
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_that_cannot_be_replaced_leaves_no_scrap(tmp_path: FilePath) -> None:
    """A directory that is not empty takes its place meanwhile, which stops even root."""
    path = tmp_path / "host_keys.json"

    def obstruct(book: PinBook) -> PinBook:
        (path / "inside").mkdir(parents=True)
        return pinned(book)

    with pytest.raises(OSError, match="Is a directory"):
        edit_book(path, obstruct)
    assert sorted(os.listdir(tmp_path)) == ["host_keys.json", "host_keys.json.lock"]
