"""Classes, limits and refusals."""

import pytest

from vastproxy.services.routing.ticket import (
    ClassLimits,
    Priority,
    Reason,
    Refusal,
    Stage,
    Ticket,
    priority_of,
)


@pytest.mark.parametrize(
    ("header", "by_key", "expected"),
    [
        (None, Priority.INTERACTIVE, Priority.INTERACTIVE),
        (None, Priority.BATCH, Priority.BATCH),
        (b"batch", Priority.INTERACTIVE, Priority.BATCH),
        (b" Batch ", Priority.INTERACTIVE, Priority.BATCH),
        (b"interactive", Priority.INTERACTIVE, Priority.INTERACTIVE),
        (b"interactive", Priority.BATCH, Priority.BATCH),
        (b"urgent", Priority.INTERACTIVE, Priority.INTERACTIVE),
        (b"", Priority.BATCH, Priority.BATCH),
    ],
)
def test_a_request_may_go_behind_the_class_of_its_key_and_never_before_it(
    header: bytes | None, by_key: Priority, expected: Priority
) -> None:
    assert priority_of(header, by_key) is expected


@pytest.mark.parametrize("reason", list(Reason), ids=str)
def test_only_a_limit_of_the_key_is_429(reason: Reason) -> None:
    refusal = Refusal(reason, 7)
    assert refusal.status == (429 if "API key" in refusal.message else 503)
    assert refusal.message.endswith("; try again in 7 s")
    assert "\n" not in refusal.message


def test_a_key_is_not_shown() -> None:
    ticket = Ticket(3, "llama", "sk-secret", Priority.BATCH, object(), 1.0, 2.0)
    assert repr(ticket) == "<Ticket 3 WAITING BATCH need='llama'>"
    assert ticket.stage is Stage.WAITING
    assert (ticket.entered_at, ticket.deadline) == (1.0, 2.0)


@pytest.mark.parametrize("limits", [(-1, 0, 1.0), (0, -1, 1.0), (1, 1, 0.0), (1, 1, float("nan"))])
def test_limits_without_a_meaning_are_refused(limits: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match="limits"):
        ClassLimits(*limits)
