"""The places for streams of the sshtunnel engine."""

import logging
import resource

import pytest

from vastproxy.services.errors import ChannelRefused, StreamsFull, TunnelError
from vastproxy.services.tunnels.paramiko_slots import SPARE_DESCRIPTORS, Slots, descriptor_limit


def test_as_many_as_there_are_places_and_no_more() -> None:
    slots = Slots(2)
    slots.take("a")
    slots.take("b")
    with pytest.raises(StreamsFull, match=r"^c: all 2 streams .* in use; set tunnels\.engine to asyncssh"):
        slots.take("c")
    slots.free()
    slots.take("d")
    assert (slots.in_use, slots.refused) == (2, 1)


def test_a_full_engine_says_so_once_a_minute_with_the_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    slots = Slots(0, clock=lambda: now)
    with caplog.at_level(logging.WARNING):
        for now in (0.0, 1.0, 59.0, 60.0, 61.0):  # noqa: B007 - the clock reads it
            with pytest.raises(StreamsFull):
                slots.take("x")
    assert caplog.messages == [
        "all 0 streams that the sshtunnel engine carries in one process are in use "
        f"(streams refused since the start: {count}); set tunnels.engine to asyncssh, which has no such limit"
        for count in (1, 4)
    ]
    assert slots.refused == 5


def test_being_full_says_nothing_about_the_port_and_is_unavailable_for_now() -> None:
    """Who looks for an engine must not take it for a closed port; a client is told 503."""
    assert issubclass(StreamsFull, TunnelError)
    assert not issubclass(StreamsFull, ChannelRefused)
    assert (StreamsFull.status, StreamsFull.transient) == (503, True)


@pytest.mark.parametrize(("newest", "fits"), [(0, True), (99, True), (100, False), (5000, False)])
def test_descriptors_are_left_for_others(newest: int, fits: bool) -> None:
    slots = Slots(descriptors=lambda: 100 + SPARE_DESCRIPTORS)
    if fits:
        slots.require_descriptors(newest, "x")
    else:
        with pytest.raises(
            StreamsFull, match=rf"limit of {100 + SPARE_DESCRIPTORS} open files \(ulimit -n\)"
        ):
            slots.require_descriptors(newest, "x")
    assert slots.refused == (not fits)


def test_the_limit_is_the_one_of_this_process() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert descriptor_limit() == (1 << 30 if soft == resource.RLIM_INFINITY else soft)
