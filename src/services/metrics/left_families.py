"""The metrics of the account and its contracts: what they cost, and how long they last (see `services.timeleft`). Part
of the catalogue in `families`. Pure."""

from typing import Final

from vastproxy.services.metrics.exposition import Family

_ONE: Final = ("instance_id",)

CREDIT: Final = Family(
    "vastproxy_account_credit_dollars", "gauge", "Credit left on the account, where the key may read it."
)
CREDIT_LEFT: Final = Family(
    "vastproxy_account_credit_left_seconds",
    "gauge",
    "How long the credit lasts at what all instances of the account cost now. Without credit vast.ai stops them all.",
)
INSTANCES: Final = Family(
    "vastproxy_account_instances", "gauge", "Instances on the account, the running and others."
)
COST: Final = Family(
    "vastproxy_backend_cost_dollars_per_hour", "gauge", "What it costs while it runs, as vast.ai says.", _ONE
)
CONTRACT_LEFT: Final = Family(
    "vastproxy_backend_contract_left_seconds",
    "gauge",
    "Until its contract ends; no sample where vast.ai tells no end, or one that is over.",
    _ONE,
)
OUTBID_RISK: Final = Family(
    "vastproxy_backend_outbid_risk",
    "gauge",
    "1 while others bid more for an interruptible instance than it pays; no sample otherwise.",
    _ONE,
)
PRICE_RISE: Final = Family(
    "vastproxy_backend_price_rise_dollars_per_hour",
    "gauge",
    "What its host asks for its GPUs, all of them, after the contract, while nobody has answered; no sample otherwise.",
    _ONE,
)

ACCOUNT_FAMILIES: Final = (CREDIT, CREDIT_LEFT, INSTANCES)
LEFT_FAMILIES: Final = (CONTRACT_LEFT, OUTBID_RISK, PRICE_RISE)
