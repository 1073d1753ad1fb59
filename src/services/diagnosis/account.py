"""The account: is the key accepted, what may it do, how long does the credit last, are there instances. Decides; pure.

What vast.ai said comes in as `AccountFacts`, an error where it said no. Rights: vast.ai API docs, 2026-08.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from vastproxy.services.account import snapshot_of
from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.vastai import Instance, InstanceList, Phase, SshKey, User, VastError, VastUnauthorized

#: Less than this many hours of credit is worth a warning.
SHORT_CREDIT_H = 24.0
KEYS_PAGE = "https://cloud.vast.ai/manage-keys/"
BILLING_PAGE = "https://cloud.vast.ai/billing/"
#: Codes of a refusal that has nothing to do with single rights.
_NOT_RIGHTS = frozenset({"auth_error", "unauthorized", "session_expired", "edge_blocked"})
_AT_REST = frozenset({Phase.STOPPED, Phase.DESTROYED})


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What vast.ai answered to three questions."""

    instances: InstanceList | VastError
    user: User | VastError
    ssh_keys: tuple[SshKey, ...] | VastError

    @property
    def errors(self) -> tuple[VastError, ...]:
        """What went wrong, the most telling question first."""
        answers = (self.instances, self.user, self.ssh_keys)
        return tuple(one for one in answers if isinstance(one, VastError))


def key_found(source: str, url: str) -> Check:
    """The key is there; `source` says where."""
    return Check("api_key", "vast.ai key", Verdict.OK, f"found in {source}, for {url}")


def key_missing(message: str) -> Check:
    """There is no key, or a reference to one leads nowhere."""
    fix = f"make a key at {KEYS_PAGE}, then `vastai set api-key YOUR_KEY` or `export VAST_API_KEY=YOUR_KEY`"
    return Check("api_key", "vast.ai key", Verdict.FAIL, message, fix, exits=2)


def key_check(facts: AccountFacts) -> Check:
    """Is the key accepted? Does vast.ai answer at all?"""
    title, errors = "key accepted", facts.errors
    if len(errors) < 3 or any(map(lacks_right, errors)):
        return Check("key_valid", title, Verdict.OK, _whose(facts.user))
    error = next((one for one in errors if isinstance(one, VastUnauthorized)), errors[0])
    return Check("key_valid", title, Verdict.FAIL, str(error), _fix_of(error), exits=error.exit_code)


def lacks_right(error: object) -> bool:
    """Is the key good, and only not for this?"""
    return isinstance(error, VastUnauthorized) and error.http_status == 403 and error.code not in _NOT_RIGHTS


def rights_check(facts: AccountFacts) -> Check:
    """What the key may do, as far as reading shows it. Writing is not tried: it would change something."""
    title = "its rights"
    if lacks_right(facts.instances):
        fix = f"give the key the right instance_read at {KEYS_PAGE}, or make another one"
        detail = "it may not read instances, so nothing can be found"
        return Check("rights", title, Verdict.FAIL, detail, fix, exits=3)
    failed = [one for one in facts.errors if not lacks_right(one)]
    if failed:
        fix = "ask again: vastproxy doctor"
        # Without the list no instance is looked at, and nothing was found to be well.
        verdict = Verdict.FAIL if facts.instances in failed else Verdict.WARN
        detail = f"not all could be asked: {failed[0]}"
        return Check("rights", title, verdict, detail, fix, exits=failed[0].exit_code)
    if facts.errors:
        fix = f"nothing, if you can do without the credit in /healthz; else add user_read at {KEYS_PAGE}"
        detail = "instance_read yes, user_read no: the credit and the account's SSH keys are not known"
        return Check("rights", title, Verdict.WARN, detail, fix)
    detail = (
        "instance_read and user_read; instance_write (labels) is not tried, as that would change something"
    )
    return Check("rights", title, Verdict.OK, detail)


def credit_check(facts: AccountFacts) -> Check:
    """What is left, and for how long that lasts at what the instances cost now."""
    title, user = "credit", facts.user
    if isinstance(user, VastError):
        return Check("credit", title, Verdict.SKIP, "not known: the account could not be read")
    listed: Sequence[Instance] = () if isinstance(facts.instances, VastError) else facts.instances
    money = snapshot_of(user.credit, sum(one.hourly_cost or 0.0 for one in listed))
    if money.credit_dollars is None:
        return Check("credit", title, Verdict.SKIP, "vast.ai does not say")
    detail = f"${money.credit_dollars:.2f} left"
    if money.dollars_per_hour:
        detail += f", ${money.dollars_per_hour:.3f} per hour"
    if money.hours_left is not None:
        detail += f", lasts {hours(money.hours_left)}"
    fix = f"add credit at {BILLING_PAGE}: without any, all instances stop"
    if money.credit_dollars <= 0:
        return Check("credit", title, Verdict.FAIL, detail, fix)
    if money.hours_left is not None and money.hours_left < SHORT_CREDIT_H:
        return Check("credit", title, Verdict.WARN, detail, fix)
    return Check("credit", title, Verdict.OK, detail)


def hours(count: float) -> str:
    """A length of time for people."""
    if count < 1:
        return f"{count * 60:.0f} min"
    return f"{count:.0f} h" if count < 72 else f"{count / 24:.0f} days"


def instances_check(listed: Sequence[Instance], wanted: Sequence[int]) -> Check:
    """How many there are, and whether those that were asked for are among them."""
    title = "instances"
    missing = [id for id in wanted if id not in {one.id for one in listed}]
    if missing:
        names = ", ".join(map(str, missing))
        fix = "`vastproxy instances --all` lists those of this account; is the key that of another one?"
        return Check("instances", title, Verdict.FAIL, f"there is no instance {names} on this account", fix)
    if not listed:
        fix = "rent one, after your SSH key is in the account: docs/SETUP.md, step 4"
        return Check("instances", title, Verdict.WARN, "none on this account", fix)
    running = sum(one.is_running for one in listed)
    resting = sum(one.phase in _AT_REST for one in listed)
    detail = f"{running} of {len(listed)} running" + (f", {resting} stopped" if resting else "")
    if running or wanted:
        return Check("instances", title, Verdict.OK, detail)
    fix = "`vastai start instance ID` starts a stopped one; one that is loading needs some minutes"
    return Check("instances", title, Verdict.WARN, detail, fix)


def at_rest(instance: Instance) -> bool:
    """Does it do nothing until somebody starts it?"""
    return instance.phase in _AT_REST


def _whose(user: User | VastError) -> str:
    if isinstance(user, VastError):
        return "yes; whose it is it may not tell"
    name = user.email or user.username
    return f"account {user.id}" + (f" ({name})" if name else "")


def _fix_of(error: VastError) -> str:
    match error.code:
        case "session_expired":
            return f"`vastai tfa login`, or a key of its own from {KEYS_PAGE}"
        case "edge_blocked":
            return (
                "try from another network: the address of this machine is blocked before vast.ai sees the key"
            )
    if isinstance(error, VastUnauthorized):
        return f"copy the key again, or make a new one at {KEYS_PAGE}; `vastai show user` tries the same key"
    return (
        "look whether https://console.vast.ai opens from here, and unset VAST_URL if it is set; "
        "a proxy that runs goes on with what it knows"
    )
