"""Inbound keys: from the settings, and from a file that is followed while it changes."""

import asyncio
import contextlib
import logging
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vastproxy.api.auth import LOOK_EVERY_S, RETRY_EVERY_S, KeyRing
from vastproxy.services.access.records import KeyBook, KeyLimits, Right
from vastproxy.services.access.usefile import read_use, use_path
from vastproxy.settings import SettingsError


class Clocks:
    """Time as the test has it: `unix` by which keys expire, `ticks` by which files are looked at."""

    unix = 1_000.0
    ticks = 50.0

    def later(self, seconds: float = 2 * LOOK_EVERY_S) -> None:
        self.unix += seconds
        self.ticks += seconds


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def make_ring(clocks: Clocks, file: Path) -> Callable[..., KeyRing]:
    def make(*keys: str) -> KeyRing:
        ring = KeyRing(keys, clock=lambda: clocks.unix, monotonic=lambda: clocks.ticks)
        ring.follow(file)
        return ring

    return make


def book_of(*names: str, expires_at: float | None = None) -> tuple[KeyBook, list[str]]:
    """A book with these names, and the keys."""
    book, keys = KeyBook(), []
    for name in names:
        book, _, key = book.create(
            name,
            rights=frozenset({Right.INFERENCE}),
            limits=KeyLimits(requests_per_min=60),
            now=0.0,
            expires_at=expires_at,
        )
        keys.append(key)
    return book, keys


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The process may open nothing more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def asks(ring: KeyRing, key: str) -> str | None:
    """The name of who sends this key; None when he is refused."""
    caller = ring.current().find([f"Bearer {key}".encode()])
    return None if caller is None else caller.name


@pytest.mark.parametrize("sent", [b"Bearer one", b"bearer one", b"BEARER  one ", b"Bearer one "])
def test_a_key_is_accepted_in_the_forms_that_clients_send(sent: bytes) -> None:
    assert KeyRing(["one", "two"]).current().find([sent]) is not None


def test_an_empty_key_opens_nothing() -> None:
    assert not KeyRing([""])
    assert KeyRing(["", "x"]).current().find([b"Bearer "]) is None


def test_keys_are_not_in_the_repr(make_ring: Callable[..., KeyRing], file: Path) -> None:
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring("secret", "other")
    assert asks(ring, key) == "web"
    assert repr(ring) == f"<KeyRing <Callers 3 keys> {file}>"
    caller = ring.current().find([b"Bearer secret"])
    assert repr(caller) == "<Caller env-1 admin+inference>"
    for text in (repr(ring), repr(book), repr(book.keys[0])):
        assert key not in text
        assert book.keys[0].sha256 not in text


def test_without_any_key_everybody_may_ask(make_ring: Callable[..., KeyRing]) -> None:
    ring = make_ring()
    assert not ring
    assert repr(ring.current()) == "<Callers anyone>"
    caller = ring.current().find([b"Bearer whatever", b"twice"])
    assert caller is not None
    assert (caller.name, caller.id, caller.meter) == (None, None, None)


def test_a_first_key_closes_the_door_of_a_proxy_that_runs(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    ring = make_ring()
    book, [key] = book_of("web")
    file.write_text(book.dump())
    clocks.later()
    assert ring
    assert asks(ring, key) == "web"
    assert ring.current().find([]) is None


def test_a_revoked_last_key_opens_nothing(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    """Nor does a file that is deleted."""
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring()
    file.write_text(book.without(book.keys[0]).dump())
    clocks.later()
    assert ring
    assert asks(ring, key) is None
    assert asks(ring, "") is None
    file.unlink()
    clocks.later()
    assert ring
    assert ring.current().find([]) is None


def test_the_table_stays_the_same_while_nothing_changes(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    """What was found out for a connection holds for as long as it is the same object."""
    book, _ = book_of("web")
    file.write_text(book.dump())
    ring = make_ring("plain")
    table = ring.current()
    clocks.later()
    assert ring.current() is table
    file.write_text(book_of("web", "more")[0].dump())
    assert ring.current() is table, "it was looked at again at once"
    clocks.later()
    assert ring.current() is not table


def test_what_was_counted_goes_on_when_the_file_changes(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring()
    before = ring.current().find([f"Bearer {key}".encode()])
    assert before is not None
    assert before.meter is not None
    before.enter(clocks.ticks)
    more, _ = book_of("other")
    file.write_text(KeyBook(keys=(*book.keys, *more.keys)).dump())
    clocks.later()
    after = ring.current().find([f"Bearer {key}".encode()])
    assert after is not None
    assert after is not before
    assert after.meter is before.meter
    assert after.meter.in_flight == 1


@pytest.mark.parametrize(
    "broken", [b"", b"{", b"\xff\xfe", b'{"version": 2, "keys": []}', b'{"keys": [{"name": "x"}]}']
)
def test_a_broken_file_leaves_the_last_good_one_in_force_and_says_so_once(
    make_ring: Callable[..., KeyRing],
    clocks: Clocks,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    broken: bytes,
) -> None:
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring()
    file.write_bytes(broken)
    for _ in range(3):
        clocks.later()
        assert asks(ring, key) == "web"
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"the keys in {file} cannot be used (")
    assert "\n" not in record.getMessage()
    file.write_text(KeyBook().dump())
    clocks.later()
    assert asks(ring, key) is None, "it is read again when it has changed again"


def test_a_key_that_was_revoked_while_nothing_could_be_read_is_refused_afterwards(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A flood of connections may take the last descriptor in that very moment; the file does not change again."""
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring()
    file.write_text(KeyBook().dump())
    with no_descriptor_left():
        for _ in range(3):
            clocks.later()
            assert asks(ring, key) == "web"
    [record] = caplog.records
    assert "too many open files" in record.getMessage()
    clocks.later(RETRY_EVERY_S)
    assert asks(ring, key) is None


@pytest.mark.parametrize("broken", [b"", b"{", b"[]"])
def test_a_broken_file_at_the_start_is_an_error(
    make_ring: Callable[..., KeyRing], file: Path, broken: bytes
) -> None:
    file.write_bytes(broken)
    with pytest.raises(SettingsError, match=r"keys\.json cannot be used: "):
        make_ring()


def test_a_file_that_everybody_may_write_is_not_believed(
    make_ring: Callable[..., KeyRing], file: Path
) -> None:
    file.write_text(KeyBook().dump())
    file.chmod(0o666)
    with pytest.raises(SettingsError, match="everybody may write it"):
        make_ring()


def test_a_key_expires_while_the_proxy_runs(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    book, [key] = book_of("web", expires_at=1_060.0)
    file.write_text(book.dump())
    ring = make_ring()
    clocks.later(59.0)
    assert asks(ring, key) == "web"
    clocks.later(1.0)
    assert asks(ring, key) is None
    assert asks(make_ring(), key) is None, "and was so from the start"


def test_the_file_may_come_to_where_a_link_leads(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path, tmp_path: Path
) -> None:
    """As mounted secrets change: the link is another one, the files are as they were."""
    (one, [first]), (two, [second]) = book_of("web"), book_of("web")
    for number, book in enumerate((one, two)):
        (tmp_path / f"book-{number}").write_text(book.dump())
    file.symlink_to("book-0")
    ring = make_ring()
    assert (asks(ring, first), asks(ring, second)) == ("web", None)
    (tmp_path / "new").symlink_to("book-1")
    (tmp_path / "new").replace(file)
    clocks.later()
    assert (asks(ring, first), asks(ring, second)) == (None, "web")


def test_the_use_of_a_key_is_written_down_once(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    """Also where the file has changed since; not that of keys from the settings."""
    book, [one, _] = book_of("one", "two")
    file.write_text(book.dump())
    ring = make_ring("plain")
    for key in (one, "plain"):
        caller = ring.current().find([f"Bearer {key}".encode()])
        assert caller is not None
        caller.used = True
    file.write_text(book.without(book.keys[1]).dump())
    clocks.later()
    ring.current()
    asyncio.run(ring.note_use())
    assert read_use(use_path(file)) == {one[:9]: 1_000.0}
    use_path(file).unlink()
    asyncio.run(ring.note_use())
    assert read_use(use_path(file)) == {}


def test_where_nothing_can_be_written_the_use_is_not_known_and_that_is_said_once(
    make_ring: Callable[..., KeyRing], file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring()
    file.with_name("keys.used.json.lock").mkdir()
    for _ in range(2):
        caller = ring.current().find([f"Bearer {key}".encode()])
        assert caller is not None
        caller.used = True
        asyncio.run(ring.note_use())
    assert [record.getMessage() for record in caplog.records] == [
        "when keys are used cannot be written down: is a directory"
    ]


def test_keys_of_the_settings_come_first(make_ring: Callable[..., KeyRing], file: Path) -> None:
    """The same key in both places has the rights that it has in the settings."""
    book, [key] = book_of("web")
    file.write_text(book.dump())
    ring = make_ring("x", key)
    assert asks(ring, key) == "env-2"


def test_a_key_that_is_vouched_for_stays_when_the_file_changes(
    make_ring: Callable[..., KeyRing], clocks: Clocks, file: Path
) -> None:
    """It makes nobody bring a key, and goes on to be accepted once others have to."""
    ring = make_ring()
    ring.vouch("ours")
    assert not ring
    book, (key,) = book_of("web")
    file.write_text(book.dump())
    clocks.later()
    assert (asks(ring, "ours"), asks(ring, key), asks(ring, "x")) == ("dashboard", "web", None)
