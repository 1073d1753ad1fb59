"""One rented instance, as the API tells it. The only reader of its raw JSON.

Facts: vast.ai API documentation (`show instances`, `show instance`) and its command line, 2026-08.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Self

from vastproxy.vastai.environment import parse_env
from vastproxy.vastai.masking import MASK, masked_args, masked_env
from vastproxy.vastai.parsing import as_int
from vastproxy.vastai.phase import Phase, phase_of
from vastproxy.vastai.ports import engine_ports
from vastproxy.vastai.rows import RENAMED, read_row

#: Beginnings and parts of `status_msg` that mean trouble: vast.ai's own template tests, 2026-07.
_TROUBLE = (
    "error response from daemon",
    "failed to pull image",
    "manifest unknown",
    "unauthorized",
    "no space left on device",
    "unexpected eof",
)


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Instance:
    """An instance. Everything but the id may be unknown: None, or empty for texts, tuples and mappings.

    Sizes are in the unit of their name (MB as vast.ai counts them), prices in dollars per hour, dates in
    seconds since 1970. `env`, `jupyter_token`, `onstart`, `image_args` and `extra` may hold secrets; they
    are not in the `repr`, and `masked` and `to_json` hide them.
    """

    id: int
    machine_id: int | None = None
    host_id: int | None = None
    actual_status: str | None = None
    """What the host last said of the container; None while it has said nothing."""
    intended_status: str | None = None
    cur_state: str | None = None
    next_state: str | None = None
    status_msg: str = ""
    label: str = ""
    template_id: int | None = None
    template_hash_id: str | None = None
    template_name: str | None = None
    image: str = ""
    image_runtype: str = ""
    image_args: tuple[str, ...] = ()
    env: Mapping[str, str | None] = field(default_factory=_nothing, hash=False)
    """Variables without the pseudo-variables for ports."""
    port_flags: tuple[str, ...] = ()
    """Values of docker's -p, such as `8000:8000`."""
    onstart: str = ""
    jupyter_token: str | None = None
    """The instance's own secret; its portal accepts it as bearer."""
    public_ipaddr: str | None = None
    static_ip: bool | None = None
    """False: the address may change without notice."""
    ssh_host: str | None = None
    ssh_port: int | None = None
    ports: Mapping[str, int] = field(default_factory=_nothing, hash=False)
    """Port inside (`22/tcp`) -> port of the public address."""
    direct_port_count: int | None = None
    gpu_name: str = ""
    gpu_arch: str = ""
    num_gpus: int | None = None
    gpu_ram_mb: int | None = None
    """Of one GPU."""
    gpu_util: float | None = None
    """Percent. None while unknown and while not running, when vast.ai repeats an old value."""
    gpu_temp_c: float | None = None
    cpu_cores: float | None = None
    cpu_ram_mb: int | None = None
    disk_space_gb: float | None = None
    disk_usage_gb: float | None = None
    inet_up_mbps: float | None = None
    inet_down_mbps: float | None = None
    start_date: float | None = None
    end_date: float | None = None
    dph_total: float | None = None
    hourly_cost: float | None = None
    """What is billed now: less than `dph_total` while stopped."""
    dph_base: float | None = None
    is_bid: bool = False
    min_bid: float | None = None
    geolocation: str = ""
    verification: str = ""
    reliability: float | None = None
    """0 to 1."""
    extra: Mapping[str, Any] = field(default_factory=_nothing, hash=False)
    """What the API said beyond the above."""

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self | None:
        """The instance in a row of the API, None if the row has no id. Never raises for any JSON."""
        number = as_int(row.get("id"))
        if number is None or number <= 0:
            return None
        env, port_flags = parse_env(row.get("extra_env"))
        return cls(
            id=number,
            env=env,
            port_flags=port_flags,
            **read_row(row),
            extra=MappingProxyType({key: value for key, value in row.items() if key not in _KNOWN}),
        )

    def __repr__(self) -> str:
        gpus = f"{self.num_gpus if self.num_gpus is not None else '?'}x {self.gpu_name or 'GPU'}"
        label = f" {self.label!r}" if self.label else ""
        return f"<Instance {self.id} {self.phase} {gpus}{label}>"

    @property
    def phase(self) -> Phase:
        """What it is doing, judged from all of its states."""
        return phase_of(
            actual=self.actual_status,
            intended=self.intended_status,
            current=self.cur_state,
            following=self.next_state,
            outbid=self.is_bid and (self.min_bid or 0.0) > (self.dph_base or 0.0),
        )

    @property
    def is_running(self) -> bool:
        """Is the container up and wanted? sshd and engine may still be starting."""
        return self.phase is Phase.RUNNING

    @property
    def trouble(self) -> str | None:
        """`status_msg` in one line if it tells of a failure, such as an image that cannot be pulled."""
        text = " ".join(self.status_msg.split())
        return text if any(sign in text.lower() for sign in _TROUBLE) else None

    @property
    def has_sshd(self) -> bool:
        """False when the image runs its own entrypoint only (runtype `args`): there is no sshd then."""
        return self.image_runtype.split() != ["args"]

    @property
    def direct_ssh(self) -> tuple[str, int] | None:
        """Address of its own sshd, if it is mapped: faster than the relay by far."""
        port = self.ports.get("22/tcp")
        if not self.has_sshd or self.public_ipaddr is None or port is None:
            return None
        return self.public_ipaddr, port

    @property
    def relay_ssh(self) -> tuple[tuple[str, int], ...]:
        """Addresses at vast.ai's relay, the likely one first.

        The port is one higher when jupyter is in the runtype. Whether that holds for every instance is
        disputed (vast-ai/vast-cli#79), so the other of the two ports follows.
        """
        if not self.has_sshd or self.ssh_host is None or self.ssh_port is None:
            return ()
        ports = (self.ssh_port, self.ssh_port + 1)
        if "jupyter" in self.image_runtype:
            ports = ports[::-1]
        return tuple((self.ssh_host, port) for port in ports if port <= 65_535)

    @property
    def engine_ports(self) -> tuple[int, ...]:
        """Ports inside on which its engine should listen, the most certain first; empty if unknown."""
        return engine_ports(env=self.env, image=self.image, image_args=self.image_args, onstart=self.onstart)

    @property
    def identity(self) -> str:
        """Names this instance and no other, also after vast.ai has used the number or address again."""
        return f"{self.id}@{int(self.start_date or 0)}"

    def masked(self) -> "Instance":
        """A copy to show: secrets hidden, unknown fields left out."""
        return replace(
            self,
            env=MappingProxyType(masked_env(self.env)),
            image_args=masked_args(self.image_args),
            onstart=MASK if self.onstart else "",
            jupyter_token=None if self.jupyter_token is None else MASK,
            extra=_nothing(),
        )

    def to_json(self) -> dict[str, Any]:
        """What may be shown of it, as JSON values, with what follows from it."""
        shown = self.masked()
        plain = {name: getattr(shown, name) for name in self.__slots__ if name != "extra"}
        return {
            **{name: dict(value) if isinstance(value, Mapping) else value for name, value in plain.items()},
            "image_args": list(shown.image_args),
            "port_flags": list(shown.port_flags),
            "phase": str(self.phase),
            "is_running": self.is_running,
            "identity": self.identity,
            "has_sshd": self.has_sshd,
            "direct_ssh": list(self.direct_ssh) if self.direct_ssh else None,
            "relay_ssh": [list(address) for address in self.relay_ssh],
            "engine_ports": list(self.engine_ports),
            "trouble": self.trouble,
        }


class InstanceList(tuple[Instance, ...]):
    """All instances of the account, by id. `skipped` counts rows that could not be read.

    Only when `skipped` is 0 does an instance that is not in the list no longer exist, and only in a list that vast.ai
    has just sent: `instead_of` is the error because of which it is an old one, of `age_s` seconds ago.
    """

    skipped: int
    age_s: float
    instead_of: Exception | None

    def __new__(
        cls,
        instances: "tuple[Instance, ...] | list[Instance]" = (),
        *,
        skipped: int = 0,
        age_s: float = 0.0,
        instead_of: Exception | None = None,
    ) -> Self:
        self = super().__new__(cls, instances)
        self.skipped = skipped
        self.age_s = age_s
        self.instead_of = instead_of
        return self


_KNOWN = frozenset(RENAMED | set(Instance.__slots__))
