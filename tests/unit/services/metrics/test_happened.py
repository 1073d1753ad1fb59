"""What happens to the fleet is counted as it is published."""

import pytest

from tests.helpers.scraped import scraped
from vastproxy.services.backends.state import Event, State
from vastproxy.services.events import (
    AccountRead,
    BackendAdded,
    BackendRemoved,
    LabelWritten,
    PathChanged,
    PollFailed,
    StateChanged,
    TokenRefused,
)
from vastproxy.services.happenings import EventBus
from vastproxy.services.metrics.exposition import Form
from vastproxy.services.metrics.happened import Happened


@pytest.mark.parametrize("form", Form)
def test_events_are_counted(form: Form) -> None:
    gone: list[int] = []
    happened, bus = Happened(forget=gone.append), EventBus()
    bus.subscribe(happened)
    for event in (
        BackendAdded(1),
        AccountRead(instances=5, backends=1),
        PathChanged(1, "direct", ""),
        StateChanged(1, State.CONNECTING, State.HEALTHY, Event.SERVING, ""),
        StateChanged(1, State.HEALTHY, State.UNHEALTHY, Event.FAILING, "no answer"),
        StateChanged(1, State.UNHEALTHY, State.HEALTHY, Event.SERVING, ""),
        LabelWritten(1, "x"),
        PathChanged(1, None, "gone"),
        PollFailed("no"),
        TokenRefused(1, 8000, "401"),
        AccountRead(instances=4, backends=0),
        BackendRemoved(1, "it is not running"),
    ):
        bus.publish(event)
    found = scraped(happened.text(form), form)
    assert found.get("vastproxy_backend_state_changes_total", state="healthy") == 2
    assert found.get("vastproxy_backend_state_changes_total", state="unhealthy") == 1
    assert found.get("vastproxy_path_changes_total", path="direct") == 1
    assert found.get("vastproxy_path_changes_total", path="none") == 1
    assert found["vastproxy_polls_failed_total"] == 1
    assert found.get("vastproxy_events_total", kind="token_refused") == 1
    assert found.get("vastproxy_events_total", kind="state_changed") == 3
    assert found["vastproxy_account_instances"] == 4
    assert gone == [1]


def test_before_the_first_list_the_account_is_unknown() -> None:
    found = scraped(Happened(forget=lambda _: None).text(Form.TEXT))
    assert found.names == {"vastproxy_polls_failed_total"}
