"""Has a run taken down while it happens, and makes a story of it when it is over."""

from __future__ import annotations

import re

from sim.cluster import SimCluster
from sim.explain.builder import StoryBuilder
from sim.explain.model import Story, Verdict
from sim.explain.recorded import listening_parts
from sim.explain.recorder import Recorder
from sim.run import Failure
from sim.shape import Shape
from sim.telling import Parts

__all__ = ["StoryTeller"]


class StoryTeller:
    """The teller of one run (`sim.telling`)."""

    def __init__(self, title: str, command: str = "") -> None:
        self.builder = StoryBuilder(title, command)
        self._recorder: Recorder | None = None  # Of a cluster of ours.

    def parts(self, cluster: SimCluster) -> Parts:
        """What to make a cluster of ours of, so that it is told of."""
        self._recorder = Recorder(self.builder, cluster)
        self.builder.notes.extend(_circumstances(cluster.shape))
        return listening_parts(self._recorder)

    def finish(self, failure: Failure | None) -> Story:
        """The run is over."""
        if self._recorder is not None:
            self._recorder.look_around()
        if failure is None:
            return self.builder.finish()
        text = failure.text.removeprefix(f"{failure.rule}: ")
        # Oracles name replicas, clients and ops in their texts: the one way that all of them share.
        lanes = [index for index, lane in enumerate(self.builder.lanes) if _names(text, lane.name)]
        about = tuple(name for name in self.builder.names if _names(text, name))
        return self.builder.finish(Verdict(failure.rule, text), lanes=lanes, about=about)


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def _circumstances(shape: Shape) -> list[str]:
    """What the run is like, for the head of its story."""
    network, plan = shape.network, shape.faults
    rates = (
        (network.loss, "are lost"),
        (network.duplication, "come twice"),
        (network.spike, "are late"),
        (network.corruption, "are damaged"),
    )
    counts = (
        (plan.crashes, "crash", "crashes"),
        (plan.power_cuts, "power cut", "power cuts"),
        (plan.pauses, "pause", "pauses"),
        (plan.partitions, "partition", "partitions"),
        (plan.ambushes, "ambush", "ambushes"),
        (plan.clogs + plan.swizzles, "clog of links", "clogs of links"),
        (plan.resets, "reset of connections", "resets of connections"),
        (plan.restart_loops, "restart loop", "restart loops"),
        (plan.hand_overs, "hand-over", "hand-overs"),
        (plan.slow_nodes, "slow replica", "slow replicas"),
        (plan.wipes, "wiped disk", "wiped disks"),
        (plan.clock_jumps + plan.clock_drifts + plan.clock_freezes, "wrong clock", "wrong clocks"),
        (plan.minimal_quorums, "bare quorum", "bare quorums"),
        (plan.ancient_messages, "network that repeats what is old", "networks that repeat what is old"),
        (plan.rotten_witnesses, "rotten witness", "rotten witnesses"),
        (plan.client_crashes + plan.client_returns, "client that dies or returns", "clients that die or return"),
        (plan.odd_requests, "client that talks nonsense", "clients that talk nonsense"),
        (plan.flips, "flip of memory", "flips of memory"),
        (plan.disks.io_errors, "input/output error", "input/output errors"),
        (plan.disks.full_disks, "full disk", "full disks"),
        (plan.disks.stalls, "stalled disk", "stalled disks"),
        (plan.disks.decaying, "decaying disk", "decaying disks"),
        (plan.disks.ruins, "ruin of all copies", "ruins of all copies"),
        (plan.disks.forgotten_flushes, "disk that forgets flushes", "disks that forget flushes"),
        (plan.disks.betrayals, "betrayal of a primary", "betrayals of primaries"),
    )
    faults = [f"{count} {one if count == 1 else many}" for count, one, many in counts if count]
    faults += [f"{rate:.0%} of the messages {what}" for rate, what in rates if rate]
    clients = {0: "", 1: ", 1 client"}.get(shape.clients, f", {shape.clients} clients")
    replicas = "1 replica" if shape.replicas == 1 else f"{shape.replicas} replicas"
    work = f" with {shape.workload.operations} operations each" if shape.workload.operations else ""
    return [
        f"{replicas}{clients}{work}",
        f"faults planned: {', '.join(faults) or 'none'}",
    ]
