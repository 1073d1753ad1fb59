"""Whatever a machine answers to our questions about its engine is read, and what is kept of it is bounded."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from vastproxy.services.backends.engine_kinds import (
    MAX_MODELS,
    MAX_NAME_CHARS,
    MAX_VERSION_CHARS,
    SIGNS,
    describes_openai_api,
    is_llamacpp_loading,
    is_model_list,
    read_models,
    read_owner,
    read_sign,
)
from vastproxy.services.backends.fetch import ProbeResponse

KEYS = [
    "data",
    "models",
    "object",
    "id",
    "name",
    "model",
    "aliases",
    "owned_by",
    "version",
    "model_path",
    "is_generation",
    "total_slots",
    "model_id",
    "router",
    "error",
    "message",
    "status",
    "paths",
    "default_generation_settings",
    "build_info",
    "tokenizer_path",
    "max_total_tokens",
]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["list", "sglang"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=15,
)
STATUSES = st.sampled_from([200, 204, 301, 401, 403, 404, 500, 503])
BODIES = st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode())


def _read_all(answer: ProbeResponse) -> Any:
    for sign in SIGNS:
        found = read_sign(sign, answer)
        if found is not None and found[1] is not None:
            assert found[1].isprintable()
            assert len(found[1]) <= MAX_VERSION_CHARS
    read_owner(answer)
    is_model_list(answer)
    is_llamacpp_loading(answer)
    describes_openai_api(answer)
    return read_models(answer)


@given(status=STATUSES, body=BODIES)
def test_no_answer_breaks_it(status: int, body: bytes) -> None:
    models = _read_all(ProbeResponse(status, body=body))
    assert models is None or (status == 200 and all(name.isprintable() for name in models))


@given(
    names=st.lists(st.text(max_size=300) | st.just("\ud800") | st.integers(), max_size=30),
    copies=st.integers(1, 60),
)
def test_names_are_names_and_no_more_than_so_many(names: list[Any], copies: int) -> None:
    rows = [{"id": name, "aliases": [f"{name}-{copy}" for copy in range(copies)]} for name in names]
    models = _read_all(ProbeResponse(200, body=json.dumps({"data": rows}).encode()))
    assert len(models) == len(set(models)) <= MAX_MODELS
    for name in models:
        assert 0 < len(name) <= MAX_NAME_CHARS
        assert name.isprintable()
        assert name.strip() == name


def test_a_body_as_deep_as_it_is_long_is_no_answer() -> None:
    for depth in (100_000, 500_000):
        assert _read_all(ProbeResponse(200, body=b"[" * depth)) is None
        assert _read_all(ProbeResponse(200, body=b'{"data":' * depth)) is None
