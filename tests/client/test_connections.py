"""Connections of the client against a scripted machine: what it may hear of one that it gave up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair, wait_all_tasks_blocked

from trio_pb.core.client_ports import ClientInput, ClientOutput, Connect, Connected, Disconnect
from trio_pb.core.cluster_client import ClusterClient
from trio_pb.driver.client import Client

Stream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


class ScriptedMachine:
    """Gives what is next, and notes what it is told."""

    cluster = None
    next_deadline_ms = None

    def __init__(self) -> None:
        self.next: list[ClientOutput] = [Connect("r0")]
        self.told: list[ClientInput] = []

    def step(self, now_ms: int, inputs: Sequence[ClientInput]) -> list[ClientOutput]:
        """One step of the script."""
        del now_ms
        self.told += inputs
        outputs, self.next = self.next, []
        return outputs


async def test_a_connection_that_was_given_up_while_it_was_made_is_never_heard_of() -> None:
    """Made and given up in one moment, and asked for anew: the machine must not take the old one for the new."""
    machine = ScriptedMachine()
    dials: list[trio.Event] = []
    ends: list[Stream] = []

    async def dial(_: str) -> trio.abc.Stream:
        dials.append(trio.Event())
        await dials[-1].wait()
        ours, theirs = memory_stream_pair()
        ends.append(theirs)
        return ours

    async with trio.open_nursery() as nursery:
        client = Client(cast("ClusterClient", machine), nursery, dial, timeout_s=1, in_flight_max=1)
        nursery.start_soon(client.run)
        await wait_all_tasks_blocked()
        dials[0].set()  # Made; its task runs next.
        machine.next = [Disconnect("r0"), Connect("r0")]
        vars(Client)["_step"](client)  # As a caller or a reader does in the same moment.
        await wait_all_tasks_blocked()
        assert machine.told == []
        assert await ends[0].receive_some() == b"", "the connection given up is closed"
        dials[1].set()
        await wait_all_tasks_blocked()
        assert machine.told == [Connected("r0")]
        nursery.cancel_scope.cancel()
