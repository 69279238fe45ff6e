"""What a load consists of: how many customers, over how many connections, asking for what, how fast, how long."""

from __future__ import annotations

import attrs

from trio_pb.errors import ConfigError

__all__ = ["KINDS", "LoadPlan", "Mix"]

KINDS = ("place", "read", "scan")
CUSTOMERS_MAX = 1_000_000
CONNECTIONS_MAX = 10_000
PROCESSES_MAX = 64
SECONDS_MAX = 3600.0
RATE_MAX = 10_000_000.0


@attrs.frozen
class Mix:
    """Of a hundred requests so many are of each kind."""

    place: int = 100
    read: int = 0
    scan: int = 0

    @classmethod
    def parse(cls, words: str) -> Mix:
        """Read "place=90,read=10".

        Raises:
            ConfigError: it names no kind, or they do not make a hundred.
        """
        shares = dict.fromkeys(KINDS, 0)
        for part in words.split(","):
            kind, _, share = part.strip().partition("=")
            if kind not in shares or not share.isdecimal() or len(share) > 3:
                raise ConfigError(f"--mix {words}: expected shares of a hundred, as in place=80,read=15,scan=5")
            shares[kind] = int(share)
        if sum(shares.values()) != 100:
            raise ConfigError(f"--mix {words}: the shares are {sum(shares.values())} together; they must make 100")
        return cls(**shares)

    @property
    def kinds(self) -> tuple[str, ...]:
        """A hundred kinds, in these shares."""
        return tuple(kind for kind in KINDS for _ in range(getattr(self, kind)))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return ",".join(f"{kind}={share}" for kind in KINDS if (share := getattr(self, kind)))


@attrs.frozen(kw_only=True)
class LoadPlan:
    """One point of a measurement."""

    customers: int
    connections: int  # Between which the customers are divided.
    processes: int = 1  # That make the load.
    mix: Mix = Mix()
    rate: float | None = None  # Requests a second, whatever the answers do; None: each customer waits for his answer.
    is_lean: bool = False  # Customers who leave the processors to the replicas; see `lean`.
    warm_up_seconds: float = 1.0
    seconds: float = 5.0

    def __attrs_post_init__(self) -> None:
        for name, value, most in (
            ("customers", self.customers, CUSTOMERS_MAX),
            ("connections", self.connections, CONNECTIONS_MAX),
            ("processes", self.processes, PROCESSES_MAX),
        ):
            if not 1 <= value <= most:
                raise ConfigError(f"--{name} {value}: must be 1 to {most}")
        if self.connections > self.customers:
            raise ConfigError(f"--connections {self.connections}: there are only {self.customers} customers")
        if self.processes > self.connections:
            raise ConfigError(f"--processes {self.processes}: there are only {self.connections} connections")
        if not 0 < self.seconds <= SECONDS_MAX:
            raise ConfigError(f"--seconds {self.seconds:g}: must be above 0 and at most {SECONDS_MAX:g}")
        if self.is_lean and self.rate is not None:
            raise ConfigError("--lean and --rate: lean customers wait for their answers; leave one of the two away")
        if self.rate is not None and not 0 < self.rate <= RATE_MAX:
            raise ConfigError(f"--rate {self.rate:g}: must be above 0 and at most {RATE_MAX:g} requests a second")

    def split(self) -> list[tuple[int, LoadPlan]]:
        """The first customer, and the plan, of each process.

        Connections are shared out, and each brings its customers: so none is without one.
        """
        parts: list[tuple[int, LoadPlan]] = []
        for process in range(self.processes):
            begin = process * self.connections // self.processes
            end = (process + 1) * self.connections // self.processes
            first = begin * self.customers // self.connections
            customers = end * self.customers // self.connections - first
            rate = None if self.rate is None else self.rate * customers / self.customers
            parts.append(
                (first, attrs.evolve(self, processes=1, connections=end - begin, customers=customers, rate=rate))
            )
        return parts
