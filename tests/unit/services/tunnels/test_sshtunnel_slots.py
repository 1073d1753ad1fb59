"""The places for streams of the sshtunnel engine."""

import logging
import resource

import pytest

from vastproxy.services.tunnels.paramiko_slots import SPARE_DESCRIPTORS, Slots, StreamsFull, descriptor_limit


def test_as_many_as_there_are_places_and_no_more() -> None:
    slots = Slots(2)
    slots.take("a")
    slots.take("b")
    with pytest.raises(StreamsFull, match=r"^c: full: 2 streams .*tunnels\.engine: asyncssh"):
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
    assert [record.getMessage().rsplit("(", 1)[1] for record in caplog.records] == [
        "1 streams refused so far)",
        "4 streams refused so far)",
    ]


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
