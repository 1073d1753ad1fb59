"""`VastClient`: what it sends, what it makes of answers, when it tries again and when it must not."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import responses
from responses import matchers

from tests.unit.vastai.support import KEY, URL, Clock, client, config, data, text
from vastproxy import __version__
from vastproxy.settings.model import RetrySettings
from vastproxy.vastai import (
    Instance,
    MemoryCache,
    Phase,
    RecordingMonitor,
    VastClient,
    VastConfig,
    VastNotFound,
    VastProtocolError,
    VastRateLimited,
    VastRejected,
    VastUnauthorized,
    VastUnavailable,
    get_client,
    reset_client,
    set_client,
)
from vastproxy.vastai.listing import MAX_PAGES

Web = responses.RequestsMock
V1 = f"{URL}/api/v1/instances/"
V0 = f"{URL}/api/v0/instances/"
ONE = f"{URL}/api/v0/instances/101/"
ME = f"{URL}/api/v0/users/current"


def sent(web: Web) -> list[requests.PreparedRequest]:
    return [call.request for call in web.calls]


def page(*ids: int, token: str | None = None, total: int | None = None, **more: Any) -> dict[str, Any]:
    rows = [{"id": number} for number in ids]
    return {"success": True, "instances": rows, "total_instances": total, "next_token": token, **more}


# --- requests --------------------------------------------------------------------------------------------

VERBS: dict[str, Callable[[VastClient], object]] = {
    "vastai show user --raw": lambda vast: vast.current_user(),
    "vastai show instances --raw": lambda vast: vast.list_instances(),
    "vastai show instance 101 --raw": lambda vast: vast.show_instance(101),
    "vastai label instance 101 proxied": lambda vast: vast.label_instance(101, "proxied"),
    "vastai start instance 101": lambda vast: vast.start_instance(101),
    "vastai stop instance 101": lambda vast: vast.stop_instance(101),
    "vastai reboot instance 101": lambda vast: vast.reboot_instance(101),
    "vastai destroy instance 101 -y": lambda vast: vast.destroy_instance(101),
    "vastai logs 101 --tail 50": lambda vast: vast.logs(101, tail=50),
    "vastai attach ssh 101 'ssh-ed25519 AAAAC3 u@h'": lambda vast: vast.attach_ssh_key(
        101, "ssh-ed25519 AAAAC3 u@h"
    ),
    "vastai show ssh-keys --raw": lambda vast: vast.ssh_keys(),
}
ANSWERS: dict[str, Any] = {
    "/api/v0/users/current": data("user_current.json"),
    "/api/v0/ssh/": data("ssh_keys_account.json"),
    "/api/v0/instances/request_logs/101/": data("request_logs.json"),
}


@pytest.mark.parametrize("run", data("cli_requests.json")[:-1], ids=lambda run: run["command"])
def test_sends_what_the_official_command_line_sends(web: Web, run: dict[str, Any]) -> None:
    """Method, path, query and body are those recorded from it, and the key is in the header only."""
    web.assert_all_requests_are_fired = False
    pages = iter([page(1, token="tok==", total=2), page(2, total=2)])

    def reply(request: requests.PreparedRequest) -> tuple[int, dict[str, str], str]:
        path = urlsplit(request.url or "").path
        if path == "/api/v1/instances/":
            return 200, {}, json.dumps(next(pages))
        if path == "/api/v0/instances/101/" and request.method == "GET":
            return 200, {}, json.dumps({"instances": {"id": 101}})
        return 200, {}, json.dumps(ANSWERS.get(path, {"success": True}))

    for method in (web.GET, web.PUT, web.POST, web.DELETE):
        web.add_callback(method, url=re.compile(f"{URL}/.*"), callback=reply)
    web.add(web.GET, data("request_logs.json")["result_url"], body="log")
    VERBS[run["command"]](client())
    ours = [one for one in sent(web) if (one.url or "").startswith(URL)]
    assert [
        {
            "method": one.method,
            "path": urlsplit(one.url or "").path,
            "query": dict(parse_qsl(urlsplit(one.url or "").query)),
            "body": json.loads(one.body) if one.body else None,
        }
        for one in ours
    ] == run["requests"]
    for one in ours:
        assert one.headers["Authorization"] == f"Bearer {KEY}"
        assert one.headers["User-Agent"] == f"vastproxy/{__version__}"
        assert KEY not in (one.url or "")


def test_the_offer_search_is_the_command_line_s(web: Web) -> None:
    recorded = data("cli_requests.json")[-1]["requests"][0]["body"]
    web.post(
        f"{URL}/api/v0/bundles/",
        json=data("search_offers.json"),
        match=[matchers.json_params_matcher(recorded)],
    )
    filters = {
        name: value
        for name, value in recorded.items()
        if name not in ("order", "type", "limit", "allocated_storage")
    }
    offers = client().search_offers(filters, limit=5)
    assert [offer.id for offer in offers] == [5551, 5552]


def test_no_offers_is_an_answer_and_no_list_is_not(web: Web) -> None:
    web.post(f"{URL}/api/v0/bundles/", json=data("search_offers_empty.json"))
    assert client().search_offers() == ()
    web.replace(web.POST, f"{URL}/api/v0/bundles/", json={"offers": None})
    with pytest.raises(VastProtocolError):
        client().search_offers()


def test_a_used_up_search_quota_is_not_retried(web: Web) -> None:
    web.post(f"{URL}/api/v0/bundles/", body=text("error_429_search_quota.json"), status=429)
    with pytest.raises(VastRateLimited) as caught:
        client().search_offers()
    assert not caught.value.retryable
    assert len(web.calls) == 1


# --- the list --------------------------------------------------------------------------------------------


def two_pages(web: Web) -> None:
    first = data("instances_v1_page1.json")
    web.get(
        V1,
        json=data("instances_v1_page2.json"),
        match=[matchers.query_param_matcher({"after_token": first["next_token"]}, strict_match=False)],
    )
    web.get(V1, json=first)


def test_the_list_is_all_pages_by_id(web: Web) -> None:
    clock = Clock()
    two_pages(web)
    vast = client(clock=clock)
    assert vast.last_list_at is None
    instances = vast.list_instances()
    assert [one.id for one in instances] == list(range(48001001, 48001017))
    assert instances.skipped == 0
    assert vast.last_list_at == clock.now
    assert [one.phase for one in instances].count(Phase.RUNNING) == 5
    assert len(web.calls) == 2


def test_an_empty_account_is_an_empty_list(web: Web) -> None:
    web.get(V1, json=data("instances_v1_empty.json"))
    assert client().list_instances() == ()


def test_rows_that_overlap_are_merged_and_broken_ones_counted(web: Web) -> None:
    web.get(V1, json=page(2, 1, token="t", total=3))
    web.get(
        V1, json={**page(2, 3, total=3), "instances": [{"id": 2, "label": "new"}, {"id": 3}, {"x": 1}, None]}
    )
    instances = client().list_instances()
    assert [(one.id, one.label) for one in instances] == [(1, ""), (2, "new"), (3, "")]
    assert instances.skipped == 2


@pytest.mark.parametrize(
    "bad",
    [
        [page(1, token="t"), page(2, token="t")],
        [page(1, token="t"), page(2, token=5)],  # type: ignore[arg-type]
        [page(1, total=2)],
        [page(total=16)],
    ],
    ids=["same token again", "no token", "one missing", "empty but announced"],
)
def test_a_list_that_is_not_complete_is_walked_again_once_and_then_an_error(web: Web, bad: list[Any]) -> None:
    for answer in bad * 2:
        web.get(V1, json=answer)
    clock = Clock()
    vast = client(clock=clock)
    with pytest.raises(VastProtocolError):
        vast.list_instances()
    assert len(web.calls) == 2 * len(bad)
    assert vast.last_list_at is None
    web.reset()
    for answer in (*bad, page(1, 2, total=2)):
        web.get(V1, json=answer)
    assert len(client().list_instances()) == 2


def test_a_cursor_that_has_expired_starts_the_walk_again(web: Web) -> None:
    web.get(V1, json=page(1, token="t", total=2))
    web.get(V1, body=text("error_400_invalid_token.json"), status=400)
    web.get(V1, json=page(1, 2, total=2))
    assert len(client().list_instances()) == 2


@pytest.mark.parametrize("answer", [{"success": True}, {"instances": None}, {"instances": {}}, [], 5, None])
def test_an_answer_without_a_list_is_no_list(web: Web, answer: Any) -> None:
    web.get(V1, json=answer)
    with pytest.raises(VastProtocolError):
        client().list_instances()


def test_a_page_that_fails_fails_the_list(web: Web) -> None:
    web.get(V1, json=page(1, token="t", total=2))
    for _ in range(3):
        web.get(V1, status=502, body="<html>", content_type="text/html")
    with pytest.raises(VastUnavailable):
        client().list_instances()


@pytest.mark.parametrize(("status", "body"), [(404, ""), (404, "error_404_no_such_instance.json"), (405, "")])
def test_the_old_endpoint_serves_where_the_new_one_is_missing(web: Web, status: int, body: str) -> None:
    """And is remembered for an hour, after which the new one gets another chance."""
    clock = Clock()
    web.get(V1, status=status, body=text(body) if body else "")
    web.get(V0, json=data("instances_v0_list.json"))
    vast = client(clock=clock)
    assert len(vast.list_instances()) == 16
    assert len(vast.list_instances()) == 16
    assert [urlsplit(one.url or "").path for one in sent(web)] == [
        "/api/v1/instances/", "/api/v0/instances/", "/api/v0/instances/"
    ]  # fmt: skip
    clock.now += 3600
    vast.list_instances()
    assert len(web.calls) == 5


def test_a_bad_key_that_comes_as_404_is_not_a_missing_endpoint(web: Web) -> None:
    web.get(V1, status=404, body=text("error_404_invalid_key.json"))
    with pytest.raises(VastUnauthorized) as caught:
        client().list_instances()
    assert caught.value.exit_code == 3
    assert "VAST_API_KEY" in str(caught.value)
    assert len(web.calls) == 1


def test_when_both_endpoints_are_missing_nothing_is_remembered(web: Web) -> None:
    web.get(V1, status=404)
    web.get(V0, status=404)
    vast = client()
    for _ in range(2):
        with pytest.raises(VastNotFound):
            vast.list_instances()
    assert len(web.calls) == 4


def test_an_old_list_shorter_than_announced_is_an_error(web: Web) -> None:
    web.get(V1, status=404)
    web.get(V0, json={"instances_found": 2, "instances": [{"id": 1}]})
    with pytest.raises(VastProtocolError):
        client().list_instances()


# --- one instance ----------------------------------------------------------------------------------------


def test_show_instance(web: Web) -> None:
    web.get(f"{URL}/api/v0/instances/48001001/", json=data("instance_by_id_without_ports.json"))
    assert client().show_instance(48001001).ports == {}


def test_a_list_under_the_plural_key_is_understood(web: Web) -> None:
    web.get(ONE, json={"instances": [{"id": 5}, {"id": 101}]})
    assert client().show_instance(101).id == 101


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, "instance_destroyed.json"), (404, "error_404_no_such_instance.json")],
)
def test_a_destroyed_instance_is_not_found(web: Web, status: int, body: str) -> None:
    """vast.ai says 200 with null, sometimes 404."""
    web.get(ONE, status=status, body=text(body))
    with pytest.raises(VastNotFound) as caught:
        client().show_instance(101)
    assert caught.value.code == "no_such_instance"


@pytest.mark.parametrize("answer", [{}, {"instances": {}}, {"instances": 5}, []])
def test_an_answer_without_an_instance_does_not_mean_it_is_gone(web: Web, answer: Any) -> None:
    web.get(ONE, json=answer)
    with pytest.raises(VastProtocolError):
        client().show_instance(101)


@pytest.mark.parametrize("bad", [0, -1, True, "1/../2"])
def test_no_path_is_made_of_what_is_no_id(bad: Any) -> None:
    with pytest.raises(VastRejected):
        client().show_instance(bad)
    with pytest.raises(VastRejected):
        client().destroy_instance(bad)


# --- writes ----------------------------------------------------------------------------------------------


def test_a_start_that_is_queued_says_so(web: Web) -> None:
    """HTTP 200 with success false is a refusal, and this one has its own code."""
    web.put(ONE, body=text("start_queued_resources_unavailable.json"))
    with pytest.raises(VastRejected) as caught:
        client().start_instance(101)
    assert caught.value.code == "resources_unavailable"
    assert "queued" in str(caught.value)
    assert len(web.calls) == 1


def test_a_label_too_long_is_not_sent() -> None:
    with pytest.raises(VastRejected, match="1024"):
        client().label_instance(101, "x" * 1025)


@pytest.mark.parametrize("key", ["-----BEGIN OPENSSH PRIVATE KEY-----\nabc", "ssh-ed25519", "a b\nc d"])
def test_what_is_no_public_key_is_not_sent(key: str) -> None:
    with pytest.raises(VastRejected) as caught:
        client().attach_ssh_key(101, key)
    assert "BEGIN" not in str(caught.value)


def test_destroyed_by_a_try_whose_answer_was_lost(web: Web) -> None:
    web.delete(ONE, status=504)
    web.delete(ONE, status=404, body=text("error_404_no_such_instance.json"))
    client().destroy_instance(101)


def test_destroying_what_never_was_is_an_error(web: Web) -> None:
    web.delete(ONE, body=text("error_429_destroy.json"), status=429)
    web.delete(ONE, status=404, body=text("error_404_no_such_instance.json"))
    with pytest.raises(VastNotFound):
        client().destroy_instance(101)


def test_a_bad_key_is_never_taken_for_destroyed(web: Web) -> None:
    web.delete(ONE, status=504)
    web.delete(ONE, status=404, body=text("error_404_invalid_key.json"))
    with pytest.raises(VastUnauthorized):
        client().destroy_instance(101)


# --- account, keys, logs ---------------------------------------------------------------------------------


def test_user_and_keys(web: Web) -> None:
    web.get(ME, json=data("user_current.json"))
    web.get(f"{URL}/api/v0/ssh/", json=data("ssh_keys_account.json"))
    web.get(f"{URL}/api/v0/instances/101/ssh/", json=data("instance_ssh_keys.json"))
    vast = client()
    assert vast.current_user().credit == 37.4182
    assert [key.public_key for key in vast.ssh_keys()] == ["ssh-ed25519 AAAAC3NzaFIXTURE user@host"]
    assert [key.id for key in vast.instance_ssh_keys(101)] == [5501]


@pytest.mark.parametrize("answer", [{"ssh_keys": "[[["}, {"ssh_keys": "5"}, {}, None])
def test_keys_that_cannot_be_read(web: Web, answer: Any) -> None:
    web.get(f"{URL}/api/v0/instances/101/ssh/", json=answer)
    with pytest.raises(VastProtocolError):
        client().instance_ssh_keys(101)


def test_of_the_user_no_secret_is_kept(web: Web) -> None:
    """The answer holds the key itself; a cache may be somebody else's Redis."""
    answer = {**data("user_current.json"), "api_key": KEY, "sid": "s-1", "session_key": "s-2"}
    web.get(ME, json=answer)
    cache = MemoryCache(16)
    with VastClient(config(), cache=cache) as vast:
        assert vast.current_user().credit == 37.4182
        kept = cache.last("user", 60.0)
        assert kept is not None
        assert kept.value["email"] == answer["email"]
        assert not {"api_key", "sid", "session_key"} & set(kept.value)


def test_a_user_without_id_cannot_be_read(web: Web) -> None:
    web.get(ME, json={"credit": 1})
    with pytest.raises(VastProtocolError):
        client().current_user()


LOG = "https://s3.amazonaws.com/public.vast.ai/instance_logs/fixture.log"


def test_logs_are_waited_for_and_fetched_without_the_key(web: Web) -> None:
    clock = Clock()
    path = f"{URL}/api/v0/instances/request_logs/101/"
    body = {"tail": "5", "filter": "err", "daemon_logs": "true"}
    web.put(path, json=data("request_logs.json"), match=[matchers.json_params_matcher(body)])
    web.get(LOG, status=404)
    web.get(LOG, status=403)
    web.get(LOG, body="ready\xff".encode("latin-1"))
    assert client(clock=clock).logs(101, tail=5, pattern="err", daemon=True) == "ready�"
    assert clock.slept == [0.3, 0.3]
    for request in sent(web)[1:]:
        assert "Authorization" not in request.headers


@pytest.mark.parametrize(("status", "asked"), [(404, 2), (302, 1)])
def test_logs_that_do_not_come(web: Web, status: int, asked: int) -> None:
    web.put(f"{URL}/api/v0/instances/request_logs/101/", json=data("request_logs.json"))
    web.get(LOG, status=status)
    with pytest.raises(VastUnavailable) as caught:
        client().logs(101, wait_s=0.6)
    assert caught.value.code == "not_ready"
    assert len(web.calls) == 1 + asked


@pytest.mark.parametrize("url", [None, 5, "file:///etc/passwd"])
def test_logs_at_an_address_that_is_none(web: Web, url: Any) -> None:
    web.put(f"{URL}/api/v0/instances/request_logs/101/", json={"success": True, "result_url": url})
    with pytest.raises(VastProtocolError):
        client().logs(101)


# --- retries ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_server_is_asked_again(web: Web, status: int) -> None:
    clock = Clock()
    web.get(ME, status=status, body="<html>bad gateway</html>", content_type="text/html")
    web.get(ME, json=data("user_current.json"))
    assert client(clock=clock).current_user().id == 90210
    assert len(clock.slept) == 1


@pytest.mark.parametrize(
    "fixture", ["error_429_plain.txt", "error_429_detail.json", "error_429_destroy.json"]
)
def test_every_shape_of_429_is_waited_out(web: Web, fixture: str) -> None:
    clock = Clock()
    web.get(ME, status=429, body=text(fixture), headers={"Retry-After": "11"})
    web.get(ME, json=data("user_current.json"))
    client(clock=clock).current_user()
    assert clock.slept == [11.0]


def test_a_wait_longer_than_ours_is_left_to_the_caller(web: Web) -> None:
    web.get(ME, status=429, body="too frequent", headers={"Retry-After": "3600"})
    with pytest.raises(VastRateLimited) as caught:
        client().current_user()
    assert caught.value.retry_after_s == 3600
    assert len(web.calls) == 1


@pytest.mark.parametrize("failure", [requests.ConnectTimeout("slow"), requests.ConnectionError("refused")])
def test_timeouts_and_lost_connections_are_tried_again(web: Web, failure: Exception) -> None:
    web.get(ME, body=failure)
    web.get(ME, json=data("user_current.json"))
    client().current_user()


def test_tries_are_bounded_and_the_cause_is_chained(web: Web) -> None:
    failure = requests.ConnectionError("refused")
    web.get(ME, body=failure)
    clock = Clock()
    with pytest.raises(VastUnavailable) as caught:
        client(clock=clock, attempts=3).current_user()
    assert len(web.calls) == 3
    assert len(clock.slept) == 2
    assert caught.value.__cause__ is caught.value.original is failure


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(web: Web, status: int) -> None:
    web.get(ME, status=status, json={"msg": "no"})
    with pytest.raises((VastRejected, VastUnauthorized, VastNotFound)):
        client().current_user()
    assert len(web.calls) == 1


@pytest.mark.parametrize("body", ['{"id": 90', "<html>hello</html>", "", "[" * 100_000])
def test_a_200_that_cannot_be_read_is_asked_for_once_more(web: Web, body: str) -> None:
    web.get(ME, body=body)
    with pytest.raises(VastProtocolError) as caught:
        client(attempts=5).current_user()
    assert len(web.calls) == 2
    assert len(caught.value.excerpt) <= 200


def test_a_redirect_is_not_followed_with_the_key(web: Web) -> None:
    web.get(ME, status=302, headers={"Location": "https://evil.test/"})
    with pytest.raises(VastProtocolError, match="redirect"):
        client().current_user()
    assert len(web.calls) == 1


def test_the_key_is_in_no_error(web: Web) -> None:
    web.get(ME, status=400, json={"msg": f"bad key {KEY}"})
    with pytest.raises(VastRejected) as caught:
        client().current_user()
    assert KEY not in f"{caught.value!r} {caught.value} {caught.value.excerpt}"
    assert KEY not in repr(client())


# --- limits, cache, monitor, end -------------------------------------------------------------------------


def test_calls_to_one_endpoint_keep_their_distance(web: Web) -> None:
    clock = Clock()
    web.put(ONE, json={"success": True})
    web.delete(ONE, json={"success": True})
    vast = client(clock=clock, min_interval_scale=1.0)
    vast.label_instance(101, "a")
    vast.start_instance(101)
    vast.destroy_instance(101)
    assert clock.slept == [pytest.approx(1.1)]


def test_reads_are_answered_from_the_cache_until_a_write(web: Web) -> None:
    clock = Clock()
    web.get(V1, json=page(1, total=1))
    web.put(ONE, json={"success": True})
    vast = client(clock=clock, cached=True)
    vast.list_instances()
    vast.list_instances()
    assert len(web.calls) == 1
    vast.label_instance(101, "x")
    vast.list_instances()
    assert len(web.calls) == 3
    clock.now += 6
    vast.list_instances()
    assert len(web.calls) == 4


def test_a_write_that_failed_empties_the_cache_too(web: Web) -> None:
    web.get(V1, json=page(1, total=1))
    web.put(ONE, status=504)
    vast = client(cached=True, attempts=1)
    vast.list_instances()
    with pytest.raises(VastUnavailable):
        vast.stop_instance(101)
    vast.list_instances()
    assert len(web.calls) == 3


def test_fresh_goes_past_the_cache_and_fills_it(web: Web) -> None:
    web.get(V1, json=page(1, total=1))
    web.get(V1, json=page(1, 2, total=2))
    vast = client(cached=True)
    assert len(vast.list_instances()) == 1
    assert len(vast.list_instances(fresh=True)) == 2
    assert len(vast.list_instances()) == 2


def test_cache_keys_and_values_hold_no_api_key(web: Web) -> None:
    class Watching(MemoryCache):
        keys: tuple[str, ...] = ()

        def get_or_fetch(self, key: str, fetch: Callable[[], Any], ttl_s: float) -> Any:
            self.keys += (key,)
            value = super().get_or_fetch(key, fetch, ttl_s)
            assert KEY not in json.dumps(value)
            return value

    cache = Watching()
    web.get(V1, json=page(1, total=1))
    web.get(ME, json=data("user_current.json"))
    vast = VastClient(config(), cache=cache)
    vast.list_instances()
    vast.current_user()
    assert cache.keys == ("instances/list", "user")


def test_every_exchange_is_tracked(web: Web) -> None:
    clock = Clock()
    monitor = RecordingMonitor(clock=clock)
    web.get(V1, status=503)
    two_pages(web)
    vast = client(clock=clock, monitor=monitor)
    vast.list_instances()
    stats = monitor.snapshot()["list_instances"]
    assert (stats.count, stats.errors) == (3, {"server_error": 1})


def test_a_closed_client_refuses(web: Web) -> None:
    vast = client()
    with vast:
        pass
    with pytest.raises(VastUnavailable, match="closed"):
        vast.current_user()
    with pytest.raises(VastUnavailable, match="closed"):
        vast.list_instances()


def test_closing_wakes_who_waits_for_a_retry(web: Web) -> None:
    """Nobody who leaves has to sit out a backoff of minutes."""
    web.get(ME, status=429, headers={"Retry-After": "50"}, body="slow down")
    refused = threading.Event()

    class Telling:
        @contextmanager
        def track(self, name: str) -> Iterator[None]:
            try:
                yield
            finally:
                refused.set()

    vast = VastClient(config(), monitor=Telling())
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(vast.current_user)
        assert refused.wait(20)
        vast.close()
        with pytest.raises((VastUnavailable, VastRateLimited)):
            asking.result(timeout=20)


def test_threads_that_ask_for_the_list_together_send_one_request(web: Web) -> None:
    entered, release = threading.Event(), threading.Event()

    def reply(_: object) -> tuple[int, dict[str, str], str]:
        entered.set()
        assert release.wait(20)
        return 200, {}, json.dumps(page(1, total=1))

    web.add_callback(web.GET, V1, callback=reply)
    vast = client(cached=True)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(vast.list_instances) for _ in range(6)]
        assert entered.wait(20)
        release.set()
        assert {one.result(20) for one in asked} == {(Instance(id=1),)}
    assert len(web.calls) == 1


# --- the process's client --------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[None]:
    reset_client()
    yield
    reset_client()


@pytest.mark.usefixtures("nobody")
def test_the_process_has_one_client_that_can_be_replaced() -> None:
    mine = client()
    set_client(mine)
    assert get_client() is mine
    reset_client()
    with pytest.raises(VastUnavailable, match="closed"):
        mine.current_user()


@pytest.mark.usefixtures("nobody")
def test_threads_get_the_same_client_made_from_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAST_API_KEY", "from-environment")
    monkeypatch.setenv("VAST_URL", "http://127.0.0.1:9")
    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(get_client) for _ in range(4)]
        assert {one.result(20) for one in clients} == {get_client()}
    assert get_client().config.api_key == "from-environment"
    assert repr(get_client()) == "<VastClient http://127.0.0.1:9>"


def test_pages_without_end_are_given_up(web: Web) -> None:
    count = 0

    def reply(_: object) -> tuple[int, dict[str, str], str]:
        nonlocal count
        count += 1
        return 200, {}, json.dumps(page(token=str(count)))

    web.add_callback(web.GET, V1, callback=reply)
    with pytest.raises(VastProtocolError, match="over and over"):
        client().list_instances()
    assert count == 2 * MAX_PAGES


@pytest.mark.usefixtures("nobody")
def test_whoever_asks_for_the_same_account_gets_the_same_client() -> None:
    config = VastConfig(api_key="k", url="http://127.0.0.1:9")
    client = get_client(config)
    assert get_client() is client
    assert get_client(VastConfig(api_key="k", url="http://127.0.0.1:9")) is client


@pytest.mark.usefixtures("nobody")
def test_another_account_ends_the_client_of_the_one_before() -> None:
    first = get_client(VastConfig(api_key="one", url="http://127.0.0.1:9"))
    second = get_client(VastConfig(api_key="two", url="http://127.0.0.1:9"))
    assert first.closed
    assert get_client() is second


@pytest.mark.usefixtures("nobody")
def test_a_closed_client_is_replaced() -> None:
    config = VastConfig(api_key="k", url="http://127.0.0.1:9")
    first = get_client(config)
    first.close()
    assert get_client(config) is not first


# --- old lists -------------------------------------------------------------------------------------------


def cached_client(clock: Clock) -> VastClient:
    cache = MemoryCache(stale_s=600.0, timer=clock)
    return VastClient(config(retries=RetrySettings(attempts=1)), cache=cache, clock=clock, sleep=clock.sleep)


def test_an_old_list_comes_instead_of_an_error_that_may_pass_and_says_so(web: Web) -> None:
    clock = Clock()
    web.get(V1, json=page(1, 2))
    web.get(V1, status=502)
    with cached_client(clock) as vast:
        listed = vast.list_instances()
        assert (listed.age_s, listed.instead_of) == (0.0, None)
        clock.now += 100.0
        old = vast.list_instances(stale_s=100.0)
        assert [one.id for one in old] == [1, 2]
        assert old.age_s == 100.0
        assert isinstance(old.instead_of, VastUnavailable)
        with pytest.raises(VastUnavailable):
            vast.list_instances(stale_s=99.0)
        with pytest.raises(VastUnavailable):
            vast.list_instances()


def test_no_old_list_comes_instead_of_an_error_that_will_not_pass(web: Web) -> None:
    clock = Clock()
    web.get(V1, json=page(1))
    web.get(V1, status=401, json=data("error_401.json"))
    with cached_client(clock) as vast:
        vast.list_instances()
        clock.now += 100.0
        with pytest.raises(VastUnauthorized):
            vast.list_instances(stale_s=600.0)
