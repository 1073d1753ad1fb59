"""Requests that are over wait in a bounded queue for a collector that may be slow, away or wrong."""

import logging
import threading
from collections.abc import Iterator, Sequence

import pytest

from tests.helpers.otlp_receiver import OtlpReceiver
from vastproxy.services.dispatch.claim import Claim
from vastproxy.services.tracing.ended import Ended
from vastproxy.services.tracing.make import make_tracing, otlp_outlet
from vastproxy.services.tracing.tracing import BATCH, MAX_PATH_BYTES, Tracing
from vastproxy.settings import SettingsError
from vastproxy.settings.tracing import TracingSettings

LIMIT_S = 10.0


class Outlet:
    """A collector that takes requests while its gate is open, and says `error` of them."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.error: str | None = None
        self.begun = threading.Semaphore(0)
        self.done = threading.Semaphore(0)
        self.batches: list[list[bytes]] = []
        self.stopped = False

    def send(self, ended: Sequence[Ended]) -> str | None:
        self.begun.release()
        assert self.gate.wait(LIMIT_S)
        self.batches.append([each.claim.request_id for each in ended])
        error = self.error  # whoever waits for this batch may change it for the next
        self.done.release()
        return error

    def stop(self) -> None:
        self.stopped = True
        self.gate.set()

    def wait(self, what: threading.Semaphore) -> None:
        assert what.acquire(timeout=LIMIT_S)


@pytest.fixture
def outlet() -> Outlet:
    return Outlet()


@pytest.fixture
def tracing(outlet: Outlet) -> Iterator[Tracing]:
    tracing = Tracing(outlet, queue=10, interval_s=0.0)
    yield tracing
    outlet.gate.set()
    tracing.close(limit_s=LIMIT_S)


def end(tracing: Tracing, name: bytes = b"r", at: float = 1.0) -> None:
    tracing.ended(Claim(at, name, b"GET", b"/v1/x"), (), b"/v1/x", None, None, None, None, False, "")


def test_of_a_long_path_the_beginning_waits() -> None:
    """A client may send 64 KB of it, and a collector that is away lets thousands wait."""
    told: list[bytes] = []

    class Noting(Outlet):
        def send(self, ended: Sequence[Ended]) -> str | None:
            told.extend(each.path for each in ended)
            return super().send(ended)

    tracing = Tracing(Noting(), interval_s=0.0)
    path = b"/" + b"x" * 60_000
    tracing.ended(Claim(1.0, b"r", b"GET", path), (), path, None, None, None, None, False, "")
    tracing.close(limit_s=LIMIT_S)
    assert told == [path[:MAX_PATH_BYTES]]


def test_nothing_runs_before_the_first_request(outlet: Outlet) -> None:
    threads = set(threading.enumerate())
    tracing = Tracing(outlet)
    assert set(threading.enumerate()) <= threads, "others may end meanwhile"
    tracing.close()
    assert outlet.stopped


def test_they_are_sent_in_their_order(outlet: Outlet, tracing: Tracing) -> None:
    outlet.gate.clear()
    end(tracing, b"0")
    outlet.wait(outlet.begun)
    for number in range(1, 10):
        end(tracing, b"%d" % number)
    outlet.gate.set()
    tracing.close(limit_s=LIMIT_S)
    assert [name for batch in outlet.batches for name in batch] == [b"%d" % number for number in range(10)]


def test_no_call_takes_more_than_a_batch(outlet: Outlet) -> None:
    tracing = Tracing(outlet, queue=5 * BATCH, interval_s=LIMIT_S)
    for number in range(2 * BATCH + 1):
        end(tracing, at=float(number))
    tracing.close(limit_s=LIMIT_S)
    assert [len(batch) for batch in outlet.batches] == [BATCH, BATCH, 1]


def test_those_for_which_there_is_no_room_are_lost_and_told(
    outlet: Outlet, tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outlet.gate.clear()
    end(tracing, b"first")
    outlet.wait(outlet.begun)
    for number in range(30):
        end(tracing, b"%d" % number)
    assert "waiting=10 lost=20" in repr(tracing)
    assert tracing.lost == 20
    outlet.gate.set()
    tracing.close(limit_s=LIMIT_S)
    assert sum(map(len, outlet.batches)) == 11
    (line,) = caplog.messages
    assert line.endswith("those of 20 requests were lost")


def test_a_collector_that_is_away_is_told_of_once_and_again_when_it_is_back(
    outlet: Outlet, tracing: Tracing, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    outlet.error = "connection refused"
    for _ in range(3):
        end(tracing)
        outlet.wait(outlet.done)
    outlet.error = None
    end(tracing)
    outlet.wait(outlet.done)
    tracing.close(limit_s=LIMIT_S)
    assert caplog.messages == [
        "traces cannot be sent, and are lost until they can: connection refused",
        "traces are sent again; those of 3 requests were lost",
    ]


def test_a_collector_that_hangs_does_not_hold_up_the_end(outlet: Outlet, tracing: Tracing) -> None:
    outlet.gate.clear()
    end(tracing)
    outlet.wait(outlet.begun)
    tracing.close(limit_s=0.05)
    assert outlet.stopped
    end(tracing)
    assert "waiting=0" in repr(tracing)


def test_it_is_off_unless_it_is_wanted() -> None:
    assert make_tracing(TracingSettings()) is None


def test_without_the_packages_there_is_one_line_that_says_what_to_do() -> None:
    def missing(endpoint: object, clock: object) -> Outlet:
        raise ModuleNotFoundError("No module named 'opentelemetry'")

    with pytest.raises(SettingsError, match=r"tracing\.enabled.*pip install 'vastproxy\[otel\]'") as caught:
        make_tracing(TracingSettings(enabled=True), outlet=missing)
    assert "\n" not in str(caught.value)


def test_a_collector_that_refuses_is_quoted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with OtlpReceiver() as receiver:
        receiver.status = 401
        tracing = Tracing(otlp_outlet(receiver.url, lambda: 0.0), interval_s=0.0)
        for number in (1, 2):
            end(tracing, at=float(number))
            receiver.wait(lambda number=number: len(receiver.paths) >= number)  # type: ignore[misc]
        tracing.close(limit_s=LIMIT_S)
    (line,) = caplog.messages
    assert "401" in line


def test_nobody_there_is_told_and_the_end_does_not_wait(caplog: pytest.LogCaptureFixture) -> None:
    """The exporter tries again and again; the end cuts it short."""
    tracing = Tracing(otlp_outlet("http://127.0.0.1:1/v1/traces", lambda: 0.0), interval_s=0.0)
    end(tracing)
    tracing.close(limit_s=LIMIT_S / 20)
    assert len(caplog.messages) <= 1
