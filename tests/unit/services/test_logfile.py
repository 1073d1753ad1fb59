"""The log file: every line once and whole, however it is moved, filled and rotated meanwhile."""

import os
import re
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.logfile import LogFile
from vastproxy.services.logwriter import LogWriter

LIMIT_S = 10.0


def put(file: LogFile, *lines: bytes) -> None:
    """As a `LogWriter` does: what was not taken is offered again."""
    rest = memoryview(b"".join(lines))
    while rest:
        rest = rest[file.write(rest) :]


def all_bytes(path: Path) -> bytes:
    """Of all its files, the oldest first."""
    numbered = sorted(path.parent.glob(f"{path.name}.*"), key=lambda each: -int(each.name.rpartition(".")[2]))
    return b"".join(each.read_bytes() for each in (*numbered, path))


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"old\n")
    file = LogFile(path)
    put(file, b"new\n")
    file.close()
    assert path.read_bytes() == b"old\nnew\n"


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    """It holds addresses of clients."""
    LogFile(tmp_path / "log").close()
    assert (tmp_path / "log").stat().st_mode & 0o137 == 0


def test_before_it_grows_too_large_it_is_renamed_and_the_oldest_deleted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LogFile(path, max_bytes=20, keep=2)
    for number in range(10):
        put(file, b"line %05d\n" % number)
    file.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert all_bytes(path) == b"line 00007\nline 00008\nline 00009\n"


def test_with_none_kept_it_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LogFile(path, max_bytes=10, keep=0)
    put(file, b"first one\n")
    put(file, b"second\n")
    file.close()
    assert [each.name for each in tmp_path.iterdir()] == ["log"]
    assert path.read_bytes() == b"second\n"


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b".") + b"\n"), max_size=30),
    pieces=st.lists(st.integers(1, 70), min_size=1, max_size=10),
    max_bytes=st.integers(1, 100),
)
def test_no_line_is_lost_cut_or_in_two_files(lines: list[bytes], pieces: list[int], max_bytes: int) -> None:
    """However the lines are handed over, also in pieces that end in the middle of one."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log"
        file = LogFile(path, max_bytes=max_bytes, keep=1000)
        text, turn = b"".join(lines), 0
        while text:
            text = text[file.write(memoryview(text[: pieces[turn % len(pieces)]])) :]
            turn += 1
        file.close()
        files = [each.read_bytes() for each in path.parent.iterdir()]
        assert all(not each or each.endswith(b"\n") for each in files)
        assert all_bytes(path) == b"".join(lines)
        longest = max(map(len, lines), default=0)
        assert all(len(each) <= max_bytes + longest for each in files)


def test_one_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LogFile(path)
    put(file, b"before\n")
    path.rename(tmp_path / "log-20260131")
    put(file, b"after\n")
    file.close()
    assert (tmp_path / "log-20260131").read_bytes() == b"before\n"
    assert path.read_bytes() == b"after\n"


def test_one_that_was_replaced_is_left_alone_for_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = LogFile(path)
    put(file, b"before\n")
    path.rename(tmp_path / "moved")
    path.write_bytes(b"theirs\n")
    put(file, b"after\n")
    file.close()
    assert path.read_bytes() == b"theirs\nafter\n"


def test_one_that_was_emptied_goes_on_from_its_beginning(tmp_path: Path) -> None:
    """As by logrotate's copytruncate: no hole of zeros."""
    path = tmp_path / "log"
    file = LogFile(path)
    put(file, b"before\n")
    os.truncate(path, 0)
    put(file, b"after\n")
    file.close()
    assert path.read_bytes() == b"after\n"


def test_a_line_is_ended_where_it_was_begun(tmp_path: Path) -> None:
    """A disk that was full took half of it; meanwhile the file was moved."""
    path = tmp_path / "log"
    file = LogFile(path)
    file.write(memoryview(b"ha"))
    path.rename(tmp_path / "moved")
    put(file, b"lf\nwhole\n")
    file.close()
    assert (tmp_path / "moved").read_bytes() == b"half\n"
    assert path.read_bytes() == b"whole\n"


def test_reopen_follows_a_link_that_leads_elsewhere_now(tmp_path: Path) -> None:
    link = tmp_path / "log"
    link.symlink_to(tmp_path / "one")
    file = LogFile(link)
    put(file, b"1\n")
    link.unlink()
    link.symlink_to(tmp_path / "two")
    file.reopen()
    put(file, b"2\n")
    file.close()
    assert ((tmp_path / "one").read_bytes(), (tmp_path / "two").read_bytes()) == (b"1\n", b"2\n")


def test_while_its_directory_is_gone_lines_go_to_the_old_file(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    file = LogFile(directory / "log", max_bytes=10)
    put(file, b"before\n")
    directory.rename(tmp_path / "away")
    put(file, b"meanwhile\n")
    assert (tmp_path / "away" / "log").read_bytes() == b"before\nmeanwhile\n"
    directory.mkdir()
    put(file, b"after\n")
    file.close()
    assert (directory / "log").read_bytes() == b"after\n"


def test_what_cannot_be_opened_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LogFile(tmp_path / "no" / "log")
    with pytest.raises(IsADirectoryError):
        LogFile(tmp_path)


def test_a_named_pipe_that_nobody_reads_does_not_hold_up_the_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe"):
        LogFile(tmp_path / "pipe")


def test_a_device_is_never_renamed() -> None:
    file = LogFile(Path("/dev/null"), max_bytes=1)
    put(file, b"a line\n", b"another\n")
    file.close()
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.1").exists()


def test_a_full_disk_is_an_error_of_the_write_and_no_other() -> None:
    file = LogFile(Path("/dev/full"), max_bytes=1)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            file.write(memoryview(b"a line\n"))
    file.close()


def test_a_full_disk_costs_lines_and_no_time(tmp_path: Path) -> None:
    """Who logs is not held up, and after the disk was emptied it goes on, in whole lines, and says what is lost."""
    link = tmp_path / "log"
    link.symlink_to("/dev/full")
    file = LogFile(link)
    with LogWriter(file.write, release=file.close, limit_bytes=100_000, interval_s=0.001) as writer:
        for number in range(5_000):
            writer.put(b"line %06d\n" % number)
        assert not writer.flush(limit_s=0.05)
        link.unlink()
        link.symlink_to(tmp_path / "real")
        assert writer.flush(limit_s=LIMIT_S)
    lines = (tmp_path / "real").read_bytes().splitlines()
    kept = [int(line.split()[1]) for line in lines if line.startswith(b"line")]
    (lost,) = [int(line.split()[0]) for line in lines if line.endswith(b"lines were lost")]
    assert kept == list(range(len(kept)))
    assert len(kept) + lost == 5_000


def test_rotation_under_load_loses_nothing(tmp_path: Path) -> None:
    """From several threads, while somebody moves it away as well."""
    path = tmp_path / "log"
    file = LogFile(path, max_bytes=20_000, keep=1000)
    writer = LogWriter(file.write, release=file.close, batch_bytes=4096, interval_s=0.001)

    def write(name: int) -> None:
        for number in range(4_000):
            writer.put(b"%d %06d %b\n" % (name, number, b"x" * 30))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        assert writer.flush(limit_s=LIMIT_S)
        if path.exists():
            path.rename(tmp_path / f"moved-{turn}")
    for thread in threads:
        thread.join()
    assert writer.close()
    found: dict[bytes, list[int]] = {b"0": [], b"1": [], b"2": []}
    for each in tmp_path.iterdir():
        text = each.read_bytes()
        assert len(text) <= 20_000
        assert re.fullmatch(rb"(\d \d{6} x{30}\n)*", text)
        for line in text.splitlines():
            found[line[:1]].append(int(line.split()[1]))
    assert all(sorted(numbers) == list(range(4_000)) for numbers in found.values())
