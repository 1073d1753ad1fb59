"""Webhooks of the account: what is sent, and what is made of the answers."""

from typing import Any

import pytest
import responses
from responses import matchers

from tests.unit.vastai.support import URL, client, data
from vastproxy.vastai import VastProtocolError, VastRejected, VastUnavailable
from vastproxy.vastai.webhooks import NotificationType, Webhook

Web = responses.RequestsMock
HOOKS = f"{URL}/api/v0/webhooks/"


def test_the_list_is_read_by_id(web: Web) -> None:
    rows = [{"id": 50}, data("webhooks_list.json")["webhooks"][0], {"name": "without an id"}, 5]
    web.get(HOOKS, json={"success": True, "webhooks": rows})
    with client() as vast:
        first, second = vast.webhooks.list()
    assert (first.id, first.name, first.url) == (42, "vastproxy", "https://proxy.example.com/hooks/vast")
    assert first.event_types[0] == "client:outbid"
    assert second == Webhook(50)


def test_a_webhook_is_made_as_documented(web: Web) -> None:
    request = data("webhook_create_request.json")
    web.post(HOOKS, json=data("webhook_create_ok.json"), match=[matchers.json_params_matcher(request)])
    with client() as vast:
        made = vast.webhooks.create(request["webhook_url"], request["event_types"])
    assert (made.id, made.secret) == (42, "fixture-webhook-secret")
    assert "fixture-webhook-secret" not in repr(made)
    assert "secret" not in made.to_json()


def test_types_are_read(web: Web) -> None:
    web.get(f"{URL}/api/v0/notification-types/", json=data("notification_types.json"))
    with client() as vast:
        types = vast.webhooks.types()
    assert NotificationType("client:outbid", "outbid", "Outbid") in types
    assert NotificationType.from_json({"key": "client:new"}) == NotificationType("client:new", "new")
    assert NotificationType.from_json({}) is None


def test_secrets_are_rotated_webhooks_deleted_and_tests_sent(web: Web) -> None:
    web.post(f"{HOOKS}42/rotate-secret/", json={"success": True, "webhook_secret": "n3w"})
    web.post(f"{HOOKS}42/test/", json={"success": True})
    web.delete(f"{HOOKS}42/", json={"success": True})
    with client() as vast:
        assert vast.webhooks.rotate_secret(42).secret == "n3w"
        vast.webhooks.send_test(42)
        vast.webhooks.delete(42)


def test_what_makes_something_is_tried_once(web: Web) -> None:
    """After a failure there may be a webhook, and nobody knows its secret."""
    web.post(HOOKS, status=502)
    with client(attempts=3) as vast, pytest.raises(VastUnavailable):
        vast.webhooks.create("https://h/x", ["client:outbid"])
    assert len(web.calls) == 1


@pytest.mark.parametrize("answer", [{}, {"webhooks": {}}, {"webhooks": None}, 5])
def test_an_answer_without_a_list_is_an_error(web: Web, answer: Any) -> None:
    web.get(HOOKS, json=answer)
    web.get(f"{URL}/api/v0/notification-types/", json=answer)
    with client(attempts=1) as vast:
        with pytest.raises(VastProtocolError, match="no list of webhooks"):
            vast.webhooks.list()
        with pytest.raises(VastProtocolError, match="no list of types"):
            vast.webhooks.types()


def test_a_bare_list_is_one_too(web: Web) -> None:
    web.get(HOOKS, json=[{"id": 1}])
    web.get(f"{URL}/api/v0/notification-types/", json=[{"key": "client:outbid"}])
    with client() as vast:
        assert [one.id for one in vast.webhooks.list()] == [1]
        assert [one.slug for one in vast.webhooks.types()] == ["outbid"]


@pytest.mark.parametrize("url", ["http://h/x", "", "https://h/" + "x" * 2048, "https://h/ x", "https://h/\n"])
def test_an_address_that_vast_ai_refuses_is_not_sent(url: str) -> None:
    with client() as vast, pytest.raises(VastRejected, match="https://"):
        vast.webhooks.create(url, [])


@pytest.mark.parametrize("number", [0, -1, True, "4/../5"])
def test_what_is_no_id_is_not_sent(number: Any) -> None:
    with client() as vast, pytest.raises(VastRejected, match="no webhook id"):
        vast.webhooks.delete(number)
