"""What instances have cost, as lines of a scrape. Pure."""

from collections.abc import Iterator

from vastproxy.services.ledger.totals import Totals
from vastproxy.services.metrics.cost_families import BANDWIDTH, ESTIMATED, RENT, TOKENS
from vastproxy.services.metrics.exposition import Form, block, labelled, sample


def cost_text(totals: Totals, form: Form) -> Iterator[str]:
    """All of it."""
    rent = (("busy", totals.busy_dollars), ("idle", totals.idle_dollars))
    yield from block(RENT, form, [sample(RENT.name, labelled(use=use), dollars) for use, dollars in rent])
    yield from block(BANDWIDTH, form, [sample(BANDWIDTH.name, "", totals.bandwidth_dollars)])
    models = sorted(totals.models.items())
    tokens = [
        sample(TOKENS.name, labelled(model=model, direction=direction), count)
        for model, told in models
        for direction, count in (("prompt", told.prompt), ("answer", told.answer))
    ]
    yield from block(TOKENS, form, tokens)
    estimated = [sample(ESTIMATED.name, labelled(model=model), told.estimated) for model, told in models]
    yield from block(ESTIMATED, form, estimated)
