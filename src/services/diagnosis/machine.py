"""What an instance is doing, in plain words. Decides; pure."""

from collections.abc import Mapping

from vastproxy.services.diagnosis.check import Check, Verdict
from vastproxy.services.ledger.machines import Machine
from vastproxy.vastai import Instance, Phase

#: A machine with less is worth a warning: at one failure in ten, or four lost connections a day.
LOW_SCORE = 0.5
_TITLE = "state"

#: What each phase means, and what to do about it. `{id}` is the instance's.
_PHASES: Mapping[Phase, tuple[Verdict, str, str]] = {
    Phase.RUNNING: (Verdict.OK, "running", ""),
    Phase.PROVISIONING: (
        Verdict.WARN,
        "being set up; its machine has not reported yet",
        "wait some minutes; after a quarter of an hour destroy it and take another offer",
    ),
    Phase.LOADING: (
        Verdict.WARN,
        "loading: the image is being pulled, or the container starts",
        "wait; a large image takes ten minutes and more. `vastproxy logs {id} --daemon` shows how far it is",
    ),
    Phase.STOPPING: (Verdict.WARN, "stopping", "`vastai start instance {id}` if that was not meant"),
    Phase.STOPPED: (
        Verdict.WARN,
        "stopped; its disk still costs money",
        "`vastai start instance {id}`, or `vastai destroy instance {id}` if it is not needed any more",
    ),
    Phase.OUTBID: (
        Verdict.WARN,
        "outbid: somebody pays more for its GPUs",
        "it comes back by itself when they are free; `vastai change bid {id} --price DOLLARS` offers more",
    ),
    Phase.QUEUED: (
        Verdict.WARN,
        "waits for a free GPU on its machine",
        "wait, or destroy it and take another offer",
    ),
    Phase.RESTARTING: (Verdict.WARN, "restarting", "wait a minute"),
    Phase.CRASHED: (
        Verdict.FAIL,
        "its container has ended although it should run",
        "`vastproxy logs {id}` says why; then `vastai reboot instance {id}`",
    ),
    Phase.FROZEN: (
        Verdict.FAIL,
        "frozen: paused with its memory kept, and billed",
        "`vastai start instance {id}`",
    ),
    Phase.OFFLINE: (
        Verdict.FAIL,
        "its machine is not connected to vast.ai",
        "nothing can be done from here: wait, or destroy it and take another offer",
    ),
    Phase.DESTROYED: (Verdict.FAIL, "destroyed", "rent another one"),
    Phase.UNKNOWN: (
        Verdict.WARN,
        "vast.ai has not heard of it lately",
        "wait a minute; if it stays so, destroy it and take another offer",
    ),
}


def state_check(instance: Instance, *, now: float) -> Check:
    """How it is. `now` in Unix seconds."""
    verdict, detail, fix = _PHASES[instance.phase]
    if (trouble := instance.trouble) is not None and not instance.is_running:
        verdict, detail = Verdict.FAIL, f"{detail}; its machine says: {trouble}"
        fix = "an image that cannot be pulled or started stays so: destroy it, and rent with another image or offer"
    elif instance.is_running and not instance.has_sshd:
        verdict, detail = Verdict.FAIL, "running, but without sshd (launch mode args), so there is no way in"
        fix = "rent with launch mode ssh or jupyter: `vastai create instance OFFER --ssh --direct …`"
    else:
        detail += _since(instance, now)
    return Check(
        "state", _TITLE, verdict, f"{_what(instance)}{detail}", fix.format(id=instance.id), instance.id
    )


def machine_checks(instance: Instance, known: Machine | None) -> tuple[Check, ...]:
    """What the ledger remembers of its machine, if that was rented before this instance."""
    if known is None or not known.rented_before(instance.identity):
        return ()
    score = known.score
    detail = f"rented before: {known.hours:.3g} h in all, {known.tunnel_drops} lost connections"
    if score is not None:
        detail += f", score {score:.2f}"
    if score is None or score >= LOW_SCORE:
        return (Check("machine", "machine", Verdict.OK, detail, instance=instance.id),)
    fix = "`vastproxy machines` has the figures; rent on another machine, or set routing.machine_scores"
    return (Check("machine", "machine", Verdict.WARN, detail, fix, instance.id),)


def not_served(instance: Instance, why: str) -> Check:
    """The settings keep it out, so nothing is expected of it."""
    return Check("state", _TITLE, Verdict.SKIP, f"not served: {why}", instance=instance.id)


def _what(instance: Instance) -> str:
    """What it is, in front of how it is."""
    gpus = f"{instance.num_gpus or '?'}x {instance.gpu_name}" if instance.gpu_name else ""
    words = [gpus, f"label {instance.label}" if instance.label else ""]
    return "".join(f"{word}, " for word in words if word)


def _since(instance: Instance, now: float) -> str:
    if not instance.is_running or instance.start_date is None or now < instance.start_date:
        return ""
    age_s = now - instance.start_date
    if age_s < 3600:
        return f" for {age_s / 60:.0f} min"
    return f" for {age_s / 3600:.0f} h" if age_s < 72 * 3600 else f" for {age_s / 86_400:.0f} days"
