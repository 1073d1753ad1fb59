"""A doubt is told once, taken back once, and said in the log."""

import logging

import pytest

from vastproxy.services.tunnels.doubt import Doubtable


def test_each_change_is_told_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="vastproxy")
    told: list[bool] = []
    tunnel = Doubtable("instance 42 (direct 192.0.2.7:22)")
    tunnel.doubt(False)
    tunnel.doubt(True)
    tunnel.on_doubt = told.append
    tunnel.doubt(True)
    assert tunnel.is_doubted
    tunnel.doubt(False)
    tunnel.doubt(False)
    tunnel.doubt(True)
    assert told == [False, True]
    assert caplog.messages == [
        "instance 42 (direct 192.0.2.7:22) owes a sign of life; nothing new is to be sent into it",
        "instance 42 (direct 192.0.2.7:22) has given a sign of life",
        "instance 42 (direct 192.0.2.7:22) owes a sign of life; nothing new is to be sent into it",
    ]
