"""Any interleaving of three replicas and two clients keeps the invariants.

Hypothesis writes the script: it lets events happen, loses, repeats and delays messages, cuts links, kills
and starts replicas, and lets clients ask, in any order. All oracles look on, and at the end, with
everything mended, everybody is answered.
"""

from __future__ import annotations

import attrs
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sim.choices import Choices
from sim.cluster import SimCluster
from sim.mutants.catalogue import CATALOGUE
from sim.mutants.mutant import planted
from sim.oracles.facts import Violation
from sim.oracles.liveness import CONVERGENCE_TICKS, demand_completion, demand_convergence, has_converged
from sim.oracles.op_order import check_history
from sim.scheduler import TICK_US
from sim.shape import Shape
from sim.workload import Operation
from trio_pb.app.orders import PLACE, READ, PlaceOrder, ReadCustomer, encode_place, encode_read
from trio_pb.core.config import Timeouts

REPLICAS, CLIENTS = 3, 2
# Views change within a few ticks of silence, so that short scripts meet many of them.
HASTY = Timeouts(heartbeat_ticks=1, suspect_ticks=8, suspect_jitter_ticks=4, check_quorum_ticks=6, ping_ticks=4)


class Interleaving:
    """The world of one script."""

    def __init__(self, seed: int) -> None:
        self.cluster = SimCluster(Choices(seed), Shape(clients=CLIENTS, timeouts=HASTY))
        self.cluster.start()
        self._asked = 0

    def events(self, count: int) -> None:
        """Let the next events happen, one at a time."""
        for _ in range(count):
            self.cluster.scheduler.step()

    def ticks(self, count: int) -> None:
        """Let time pass."""
        scheduler = self.cluster.scheduler
        scheduler.run_until(scheduler.now + count * TICK_US)

    def order(self, client: int, customer: int) -> None:
        """A client places an order."""
        self._asked += 1
        body = encode_place(PlaceOrder(customer, self._asked, f"laptop {self._asked}", False, None))
        machine = self.cluster.clients[client]
        machine.submit(Operation(self._asked, machine.name, PLACE, body, is_read=False, customer=customer))

    def read(self, client: int, customer: int, here: bool) -> None:
        """A client reads a customer's record."""
        self._asked += 1
        body = encode_read(ReadCustomer(customer))
        machine = self.cluster.clients[client]
        machine.submit(Operation(self._asked, machine.name, READ, body, is_read=True, customer=customer, here=here))

    def crash(self, replica: int, power: bool) -> None:
        """A replica or its machine dies."""
        self.cluster.replicas[replica].crash(power=power)

    def start(self, replica: int) -> None:
        """A dead replica starts again."""
        if not self.cluster.replicas[replica].is_up:
            self.cluster.replicas[replica].start()

    def pause(self, replica: int, resume: bool) -> None:
        """A process stops, or goes on."""
        machine = self.cluster.replicas[replica]
        machine.resume() if resume else machine.pause()

    def link(self, source: int, destination: int, up: bool) -> None:
        """A link, one way, is cut or mended."""
        link = (source, destination)
        self.cluster.network.blocked.discard(link) if up else self.cluster.network.blocked.add(link)

    def weather(self, loss: int, repeats: int, late: int) -> None:
        """From now on so many percent of the messages are lost, repeated, late."""
        network = self.cluster.network
        network.faults = attrs.evolve(
            network.faults, loss=loss / 100, duplication=repeats / 100, spike=late / 100, spike_max=300_000
        )

    def finish(self) -> None:
        """Mend everything; everybody must be answered and agree."""
        cluster = self.cluster
        cluster.network.heal()
        for replica in range(REPLICAS):
            self.pause(replica, resume=True)
            self.start(replica)
        limit = cluster.scheduler.now + CONVERGENCE_TICKS * TICK_US
        if not cluster.run_until(lambda: not any(client.pending for client in cluster.clients), limit):
            demand_completion(cluster.clients, cluster.replicas)
        cluster.run_until(lambda: has_converged(cluster.replicas), limit)
        demand_convergence(cluster.clients, cluster.replicas)
        cluster.watch.end()
        check_history(cluster.facts, cluster.history, cluster.executed.model)


_replica = st.integers(0, REPLICAS - 1)
_client = st.integers(0, CLIENTS - 1)
_customer = st.integers(1, 2)
_percent = st.sampled_from((0, 0, 10, 40))
_DRAWN: dict[str, tuple[st.SearchStrategy[object], ...]] = {
    "events": (st.integers(1, 40),),
    "ticks": (st.integers(1, 12),),
    "order": (_client, _customer),
    "read": (_client, _customer, st.booleans()),
    "crash": (_replica, st.booleans()),
    "start": (_replica,),
    "pause": (_replica, st.booleans()),
    "link": (_replica, _replica, st.booleans()),
    "weather": (_percent, _percent, _percent),
}
_action = st.one_of(*(st.tuples(st.just(name), *drawn) for name, drawn in _DRAWN.items()))


def _play(seed: int, actions: list[tuple[object, ...]]) -> None:
    """Carry out a script from beginning to end."""
    world = Interleaving(seed)
    world.ticks(30)
    for name, *arguments in actions:
        getattr(world, str(name))(*arguments)
    world.finish()


_any_script = given(seed=st.integers(0, 1 << 16), actions=st.lists(_action, min_size=5, max_size=60))


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@_any_script
def test_any_interleaving_keeps_the_invariants(seed: int, actions: list[tuple[object, ...]]) -> None:
    """Whatever the order of deliveries, losses, crashes and requests, no oracle objects."""
    _play(seed, actions)


# Rules that, taken out of the shipped code, some script must show, and the oracles that may object.
FOUND = {
    "acknowledge-before-durable": {"INV-8", "INV-11", "INV-31"},
    "view-not-durable": {"INV-4"},
    "restarted-primary-resumes": {"INV-5"},
    "small-replication-quorum": {"INV-11"},
}


@pytest.mark.parametrize("name", sorted(FOUND))
def test_a_rule_taken_out_is_found(name: str) -> None:
    """The same scripts, over code that lacks one rule: one of them makes an oracle object."""

    # Nothing is shrunk or remembered: that there is such a script is all that is asked for.
    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @_any_script
    def search(seed: int, actions: list[tuple[object, ...]]) -> None:
        _play(seed, actions)

    with planted(CATALOGUE[name]), pytest.raises(Violation) as caught:
        search()
    assert caught.value.rule in FOUND[name]
