"""What events mean."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vastai.support import data
from vastproxy.vastai.handlers.events import INSTANCE_EVENTS, VAST_EVENTS, Decision, Verdict, decide
from vastproxy.vastai.handlers.webhooks import Notice, Origin

KNOWN = (7, 8)


@pytest.mark.parametrize("slug", ["outbid", "instance_stopped", "instance_offline", "instance_deleted"])
def test_an_instance_that_may_be_gone_is_suspect_if_we_serve_it(slug: str) -> None:
    decision = decide(Notice(Origin.VAST, slug, (5, 7)), KNOWN)
    assert decision == Decision(Verdict.SUSPECT, (7,), f"vast.ai says: {slug}")
    assert decide(Notice(Origin.VAST, slug, (5,)), KNOWN).verdict is Verdict.POLL
    assert decide(Notice(Origin.VAST, slug), KNOWN).verdict is Verdict.POLL


@pytest.mark.parametrize("slug", ["instance_started", "instance_online"])
def test_an_instance_that_may_have_come_up_is_looked_at(slug: str) -> None:
    assert decide(Notice(Origin.VAST, slug, (8,)), KNOWN) == Decision(
        Verdict.LOOK, (8,), f"vast.ai says: {slug}"
    )
    assert decide(Notice(Origin.VAST, slug, (9,)), KNOWN).verdict is Verdict.POLL


@pytest.mark.parametrize("slug", ["webhook_test", "payment_receipt"])
def test_what_changes_nothing_does_nothing(slug: str) -> None:
    assert decide(Notice(Origin.VAST, slug, (7,)), KNOWN) == Decision(
        Verdict.NOTHING, (), f"vast.ai says: {slug}"
    )


@pytest.mark.parametrize("slug", ["", "low_credit", "upcoming_downtime", "something_new"])
@pytest.mark.parametrize("origin", list(Origin))
def test_everything_else_is_a_reason_to_look_at_the_account(origin: Origin, slug: str) -> None:
    decision = decide(Notice(origin, slug, (7,)), KNOWN)
    assert (decision.verdict, decision.instance_ids) == (Verdict.POLL, ())


def test_what_an_instance_says_of_itself_has_meanings_of_its_own() -> None:
    def verdict(slug: str) -> Verdict:
        return decide(Notice(Origin.INSTANCE, slug, (7,)), KNOWN).verdict

    assert [verdict(slug) for slug in ("up", "onstart", "down", "test")] == [
        "look",
        "look",
        "suspect",
        "nothing",
    ]
    assert verdict("webhook_test") is Verdict.POLL
    assert decide(Notice(Origin.VAST, "down", (7,)), KNOWN).verdict is Verdict.POLL


def test_every_documented_type_of_an_instance_leads_at_least_to_a_poll() -> None:
    slugs = {row["slug"] for row in data("notification_types.json")["notification_types"]}
    assert {slug for slug, verdict in VAST_EVENTS.items() if verdict is not Verdict.NOTHING} <= slugs
    for slug in slugs:
        if slug.startswith("instance_") or slug == "outbid":
            assert decide(Notice(Origin.VAST, slug, (7,)), KNOWN).verdict is not Verdict.NOTHING


@given(
    st.sampled_from(list(Origin)),
    st.sampled_from([*VAST_EVENTS, *INSTANCE_EVENTS, "other", ""]),
    st.lists(st.integers(1, 10)),
    st.frozensets(st.integers(1, 10)),
)
def test_nothing_is_ever_done_to_an_instance_that_we_do_not_serve_or_was_not_named(
    origin: Origin, slug: str, ids: list[int], known: frozenset[int]
) -> None:
    decision = decide(Notice(origin, slug, tuple(ids)), known)
    assert set(decision.instance_ids) <= known & set(ids)
    assert bool(decision.instance_ids) == (decision.verdict in (Verdict.LOOK, Verdict.SUSPECT))
