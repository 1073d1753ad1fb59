"""Price rises that hosts ask for: read as the API tells them, whatever a row holds."""

import pytest
import responses
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vastai.support import URL, client, data
from vastproxy.vastai import PriceRise, VastProtocolError, VastUnavailable
from vastproxy.vastai.prices import rises_of

RISES = f"{URL}/api/v0/instances/pending-price-increases/"


def test_the_rises_of_the_account() -> None:
    with responses.RequestsMock() as web, client() as vast:
        web.get(RISES, json=data("pending_price_increases.json"))
        first, second = vast.price_rises()
    assert first == PriceRise(
        999, 48001001, 0.36, 0.45, contract_end=1789756000.25, new_end=1792348000.25, asked_at=1789000000.5
    )
    assert second == PriceRise(1000, 48001002, 0.36, None, contract_end=1789756000.25)


def test_a_failure_is_not_tried_again() -> None:
    with responses.RequestsMock() as web, client() as vast:
        web.get(RISES, status=502)
        with pytest.raises(VastUnavailable):
            vast.price_rises()
        assert len(web.calls) == 1


@pytest.mark.parametrize("answer", [{}, [], {"pending_price_increases": None}, "no"])
def test_an_answer_without_a_list_is_an_error(answer: object) -> None:
    with pytest.raises(VastProtocolError) as raised:
        rises_of(answer)
    assert raised.value.code == "no_list"


@given(
    st.dictionaries(
        st.sampled_from(["pending_price_increase_id", "contract_id", "new_gpu_costpersec"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    )
)
def test_no_row_does_harm(row: dict[str, object]) -> None:
    for rise in rises_of({"pending_price_increases": [row]}):
        assert isinstance(rise.instance_id, int)
        assert set(rise.to_json()) == {
            "old_dollars_per_hour",
            "new_dollars_per_hour",
            "new_end_unix",
            "asked_unix",
        }
