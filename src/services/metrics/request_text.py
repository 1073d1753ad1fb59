"""What the counters of requests read like in a scrape. Pure."""

from collections.abc import Callable, Collection, Iterator, Sequence

from vastproxy.services.metrics import families
from vastproxy.services.metrics.exposition import Family, Form, block, histogram, labelled, sample
from vastproxy.services.metrics.requests import (
    DURATION_BOUNDS,
    TOKEN_BOUNDS,
    TPOT_BOUNDS,
    TTFT_BOUNDS,
    WAIT_BOUNDS,
    RequestMetrics,
    Series,
)

#: `gen_ai.provider.name`: whoever answers, it is asked for through us.
PROVIDER = "vastproxy"

#: Kinds of requests that are added up before others may have their turn: 0.2 ms.
_AT_ONCE = 64
#: Of one kind of request: the counts of a histogram, and the sum of its values.
_Reading = tuple[Sequence[int], float]


def request_text(metrics: RequestMetrics, form: Form, served: Collection[int]) -> Iterator[str]:
    """The requests, in pieces of little work. `served`: the instances there are; others are not told about."""
    found = metrics.series()
    for family, labels_of in ((families.REQUESTS, _request), (families.ERRORS, _error)):
        yield from block(family, form, _sums(family, found, labels_of))
    for family, number in (
        (families.RETRIES, sum(one.retries for one in found)),
        (families.RECEIVED, sum(one.received_bytes for one in found)),
        (families.SENT, sum(one.sent_bytes for one in found)),
    ):
        yield from block(family, form, [sample(family.name, "", number)])
    yield from _histogram(
        families.QUEUE_WAIT,
        form,
        WAIT_BOUNDS,
        found,
        lambda one: labelled(model=one.model),
        lambda one: (one.wait_counts, one.waited_s),
    )
    yield from _histogram(
        families.DURATION,
        form,
        DURATION_BOUNDS,
        found,
        lambda one: _gen_ai(one, error_type=one.error),
        lambda one: (one.durations, one.seconds),
    )
    yield from _histogram(
        families.TTFT, form, TTFT_BOUNDS, found, _gen_ai, lambda one: (one.ttft_counts, one.ttft_s)
    )
    yield from _histogram(
        families.TPOT, form, TPOT_BOUNDS, found, _gen_ai, lambda one: (one.tpot_counts, one.tpot_s)
    )
    yield from block(families.TOKENS, form, _tokens(found))
    yield from _answers(metrics, form, served)


def _sums(family: Family, found: Sequence[Series], labels_of: Callable[[Series], str]) -> Iterator[str]:
    """How many requests there were with each set of labels; those without any are left out."""
    sums: dict[str, int] = {}
    for number, one in enumerate(found, start=1):
        if not number % _AT_ONCE:
            yield ""
        if labels := labels_of(one):
            sums[labels] = sums.get(labels, 0) + sum(one.durations)
    for labels, count in sums.items():
        yield sample(family.name, labels, count)


def _request(one: Series) -> str:
    return labelled(operation=one.operation, model=one.model, code=one.code)


def _error(one: Series) -> str:
    return labelled(kind=one.error)


def _gen_ai(one: Series, **more: str) -> str:
    return labelled(
        gen_ai_operation_name=one.operation,
        gen_ai_provider_name=PROVIDER,
        gen_ai_request_model=one.model,
        **more,
    )


def _histogram(
    family: Family,
    form: Form,
    bounds: Sequence[float],
    found: Sequence[Series],
    labels_of: Callable[[Series], str],
    reading_of: Callable[[Series], _Reading],
) -> Iterator[str]:
    return block(family, form, _histograms(family, bounds, found, labels_of, reading_of))


def _histograms(
    family: Family,
    bounds: Sequence[float],
    found: Sequence[Series],
    labels_of: Callable[[Series], str],
    reading_of: Callable[[Series], _Reading],
) -> Iterator[str]:
    """One histogram for each set of labels, without those that have counted nothing. Empty lines come between."""
    by_labels: dict[str, tuple[list[int], float]] = {}
    for number, one in enumerate(found, start=1):
        if not number % _AT_ONCE:
            yield ""
        counts, total = reading_of(one)
        if not any(counts):
            continue
        labels = labels_of(one)
        if (before := by_labels.get(labels)) is not None:
            counts = [a + b for a, b in zip(before[0], counts, strict=True)]
            total += before[1]
        by_labels[labels] = (list(counts), total)
    for labels, (counts, total) in by_labels.items():
        yield histogram(family.name, labels, bounds, counts, total)


def _tokens(found: Sequence[Series]) -> Iterator[str]:
    yield from _histograms(
        families.TOKENS,
        TOKEN_BOUNDS,
        found,
        lambda one: _gen_ai(one, gen_ai_token_type="input"),
        lambda one: (one.tokens_in_counts, one.tokens_in),
    )
    yield from _histograms(
        families.TOKENS,
        TOKEN_BOUNDS,
        found,
        lambda one: _gen_ai(one, gen_ai_token_type="output"),
        lambda one: (one.tokens_out_counts, one.tokens_out),
    )


def _answers(metrics: RequestMetrics, form: Form, served: Collection[int]) -> Iterator[str]:
    told = [(id, answers) for id, answers in metrics.answers.items() if id in served]
    name = families.BACKEND_TTFT.name
    yield from block(
        families.BACKEND_TTFT,
        form,
        (
            f'{name}_sum{{instance_id="{id}"}} {answers.ttft_s}\n{name}_count{{instance_id="{id}"}} {answers.streams}\n'
            for id, answers in told
        ),
    )
    name = families.BACKEND_TOKENS.name
    yield from block(
        families.BACKEND_TOKENS,
        form,
        (f'{name}{{instance_id="{id}"}} {answers.tokens_out}\n' for id, answers in told),
    )
