"""Denied paths are denied however they are written, and nothing that clients need is."""

import random
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.routing.paths import DENIED, DENIED_UNLESS_READ, is_denied, readings

CONCRETE = [rule.replace("*", "_x") if rule.endswith("*") else rule for rule in DENIED]
NEEDED = [
    "/",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/responses/resp_1/cancel",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/v1/models/meta-llama/Llama-3.1-8B-Instruct",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/transcriptions",
    "/v1/tokenize",
    "/tokenize",
    "/detokenize",
    "/generate",
    "/generate_stream",
    "/completion",
    "/infill",
    "/apply-template",
    "/health",
    "/get_model_info",
    "/model_info",
    "/version",
    "/info",
    "/api/chat",
    "/api/generate",
    "/api/tags",
    "/api/show",
    "/api/ps",
    "/api/version",
    "/api/embed",
    "/open_session",
    "/close_session",
    "/invocations",
    "/openapi.json",
    "/docs",
    "/sleeper",
    "/resumes",
    "/toolshed",
]


@pytest.mark.parametrize("path", CONCRETE)
def test_denied(path: str) -> None:
    assert is_denied(path.encode())
    assert is_denied(path.encode(), method="GET")


@pytest.mark.parametrize("path", NEEDED)
@pytest.mark.parametrize("method", [None, "GET", "POST"])
def test_needed(path: str, method: str | None) -> None:
    assert not is_denied(path.encode(), method=method)


@pytest.mark.parametrize(
    "path",
    [
        b"//flush_cache",
        b"/flush_cache/",
        b"/flush_cache//",
        b"/./flush_cache",
        b"/flush_cache/.",
        b"/v1/../flush_cache",
        b"/../../flush_cache",
        b"/v1/..//flush_cache",
        b"/%66lush_cache",
        b"/flush%5Fcache",
        b"/%2566lush_cache",
        b"/%252566lush_cache",
        b"%2fflush_cache",
        b"/%2fflush_cache",
        b"/v1%2f..%2fflush_cache",
        b"/v1/%2e%2e/flush_cache",
        b"/v1/%2e./flush_cache",
        b"/v1/..;/flush_cache",
        b"/v1\\..\\flush_cache",
        b"/%5cflush_cache",
        b"/FLUSH_CACHE",
        b"/Flush_Cache",
        b"/flush_cache;a=b",
        b"/flush_cache;",
        b"/;a/flush_cache",
        b"/flush_cache?x=1",
        b"/flush_cache#x",
        b"/flush_cache%3fx",
        b"/flush_cache%23x",
        b"/flush_cache%00",
        b"/flush_cache%20",
        b"/flush_cache%0d%0a",
        b"/flush_cache\t",
        b"flush_cache",
        b"http://engine:8000/flush_cache",
        b"HTTP://engine/%66lush_cache",
        b"/slots/0",
        b"/slots/..",
        b"/update_weights_from_disk",
        b"/update_weights_from_disk/../x",
        b"/v1/load_lora_adapter",
        b"/api//delete",
        b"/api/blobs/sha256:00",
        b"/%25252525252566lush_cache",
    ],
)
def test_ways_of_writing_it(path: bytes) -> None:
    assert is_denied(path)
    assert is_denied(path, method="GET")


@pytest.mark.parametrize("path", [b"/models", b"//models", b"/%6dodels"])
def test_what_is_harmless_to_read_may_be_read(path: bytes) -> None:
    assert not is_denied(path, method="GET")
    assert not is_denied(path, method="head")
    assert is_denied(path, method="DELETE")
    assert is_denied(path, method="POST")
    assert is_denied(path)


def test_what_is_allowed_is_allowed_in_every_writing_and_nothing_else_is() -> None:
    allow = ("/Flush_Cache/", "/update_weights*")
    for path in (b"/flush_cache", b"//flush_cache/", b"/%66lush_cache", b"/update_weights_from_disk"):
        assert not is_denied(path, allow)
    for path in (b"/server_info", b"/flush_cache_x/../server_info", b"/update_weight_version", b"/slots"):
        assert is_denied(path, allow)
    assert not is_denied(b"/models", ("/models",), method="DELETE")


def test_a_path_that_only_one_reading_allows_stays_denied() -> None:
    assert is_denied(b"/slots/../flush_cache", ("/flush_cache",))


def test_nothing_allows_what_cannot_be_read() -> None:
    hidden = b"/%" + b"25" * 8 + b"41"
    assert is_denied(hidden)
    assert is_denied(hidden, ("*", "/*", "/%"))


def test_a_long_path_is_judged_like_a_short_one() -> None:
    assert is_denied(b"/x/.." * 5_000 + b"/flush_cache")
    assert not is_denied(b"/v1/models/" + b"x" * 60_000)


def test_rules_are_written_in_the_form_that_paths_are_reduced_to() -> None:
    for rule in (*DENIED, *DENIED_UNLESS_READ):
        assert rule.startswith("/")
        assert rule == rule.lower()
        assert "*" not in rule[:-1]


def _disguise(path: str, rng: random.Random) -> bytes:
    """The path in a way that servers read as the same."""
    text = "".join(
        rng.choice(("/", "//", "/./", "/x/../")) if letter == "/" else rng.choice((letter, letter.upper()))
        for letter in path
    )
    for _ in range(rng.randint(0, 3)):
        text = "".join(
            f"%{ord(letter):02{rng.choice('xX')}}" if rng.random() < 0.3 else quote(letter, safe="/%:.;=_-")
            for letter in text
        )
    return (text + rng.choice(("", "/", ";a=1", "?q=1"))).encode()


@given(st.sampled_from(CONCRETE), st.randoms(use_true_random=False))
def test_no_disguise_helps(path: str, rng: random.Random) -> None:
    assert is_denied(_disguise(path, rng))


@pytest.mark.parametrize("method", ["TRACE", "trace", "TRACK"])
def test_nothing_that_repeats_a_request_is_for_any_path(method: str) -> None:
    """With it would come the token that an engine is sent."""
    for path in (b"/v1/chat/completions", b"/", b"/x"):
        assert is_denied(path, {"/*"}, method=method)
        assert not is_denied(path, method="POST")


@given(st.binary(max_size=300))
def test_any_bytes_get_a_verdict_that_does_not_change(path: bytes) -> None:
    assert is_denied(path) is is_denied(path)
    assert all(reading.startswith("/") and reading == reading.lower() for reading in readings(path))
