"""Random and mutated bytes against a listening port: nothing breaks and customers are served meanwhile.

`TRIO_PB_GARBAGE_SECONDS=600` makes it the long rehearsal.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import trio

from trio_pb.app.orders import PLACE, PlaceOrder, encode_place
from trio_pb.codec.wire import encode_client, encode_peer
from trio_pb.core.messages import Envelope, Greet, Hello, Request, StatusGet
from trio_pb.driver.client import connect
from trio_pb.driver.order_client import OrderClient
from trio_pb.testbed.cluster import LocalCluster, local_cluster

pytestmark = pytest.mark.process

SECONDS = float(os.environ.get("TRIO_PB_GARBAGE_SECONDS", "4"))
ATTACKERS = 8
GROWTH_KIB_MAX = 64 * 1024  # Caches fill and the log grows by what the good customers order; no more than that.


def memory_kib(pid: int) -> int:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise AssertionError(f"no memory figure for process {pid}")


def specimens(cluster: bytes) -> list[bytes]:
    """Good frames, to be spoiled."""
    envelope = Envelope(
        cluster=cluster, replica=1, incarnation=bytes(8), boot=1, epoch=0, view=1 << 40, op=9, commit=9, release=1
    )
    body = encode_place(PlaceOrder(1, 1, "thinkpad"))
    return [
        encode_client(None, Greet((1,), None)),
        encode_client(cluster, Greet((1,), cluster)),
        encode_client(cluster, StatusGet()),
        encode_client(cluster, Request(bytes(16), 1, 1, PLACE, body)),
        encode_peer(envelope, Hello(incarnation=bytes(16), members_digest=bytes(16), fresh=True)),
    ]


def spoil(rng: random.Random, good: list[bytes]) -> bytes:
    """One attack: noise, or a stream of frames with some of it changed, cut or repeated."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(1, 4096))
    stream = bytearray(b"".join(rng.choices(good, k=rng.randrange(1, 6))))
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        at = rng.randrange(len(stream))
        change = rng.randrange(4)
        if change == 0:
            stream[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            del stream[at : at + rng.randrange(1, 64)]
        elif change == 2:
            stream[at:at] = rng.randbytes(rng.randrange(1, 64))
        else:
            stream[at : at + 4] = b"\xff\xff\xff\xff"
        if not stream:
            break
    return bytes(stream)


async def attack(address: str, rng: random.Random, good: list[bytes], counts: dict[str, int]) -> None:
    """Connect, send rubbish, hang up or linger; until cancelled."""
    host, port = address.rsplit(":", 1)
    while True:
        try:
            async with await trio.open_tcp_stream(host, int(port)) as stream:
                for _ in range(rng.randrange(1, 4)):
                    await stream.send_all(spoil(rng, good))
                    counts["attacks"] += 1
                if rng.random() < 0.5:
                    with trio.move_on_after(0.05):
                        await stream.receive_some(65536)
        except (trio.BrokenResourceError, OSError):
            counts["hung up on"] += 1  # The replica closed first: that is its right.


async def order_on(cluster: LocalCluster, customer: int, counts: dict[str, int]) -> None:
    """A well-behaved customer; until cancelled."""
    async with connect(cluster.addresses) as client:
        orders = OrderClient(client)
        for number in range(1 << 30):
            placed = await orders.place(customer, number, "thinkpad", timeout_s=10)
            assert not placed.duplicate
            counts["orders"] += 1
            if number % 20 == 0:
                assert (await orders.read(customer)).last_order == number
            await trio.sleep(0.02)


async def test_garbage_harms_nobody() -> None:
    """Attackers on every replica; memory stays, processes stay, the good customer's orders go through."""
    counts = {"attacks": 0, "hung up on": 0, "orders": 0}
    with trio.fail_after(SECONDS + 60):
        async with local_cluster(3) as cluster:
            await cluster.wait_primary()
            good = specimens(b"?" * 16)
            pids = [cluster.process(replica).pid for replica in cluster.replicas]
            with trio.move_on_after(SECONDS / 4):
                await run_everybody(cluster, 1, good, counts)
            before = [memory_kib(pid) for pid in pids]
            with trio.move_on_after(SECONDS * 3 / 4):
                await run_everybody(cluster, 2, good, counts)
            after = [memory_kib(pid) for pid in pids]
            statuses = await cluster.wait_agreed()
    assert len({status.state_digest for status in statuses.values()}) == 1
    assert counts["orders"] > SECONDS
    assert counts["attacks"] > 20 * SECONDS
    growth = [late - early for early, late in zip(before, after, strict=True)]
    assert max(growth) < GROWTH_KIB_MAX, growth
    print(f"{counts} in {SECONDS:.0f} s; memory before {before} KiB, after {after} KiB")


async def run_everybody(cluster: LocalCluster, customer: int, good: list[bytes], counts: dict[str, int]) -> None:
    """Attackers and a customer, until cancelled."""
    async with trio.open_nursery() as nursery:
        for index in range(ATTACKERS):
            rng = random.Random(f"{index}/{counts['attacks']}")
            nursery.start_soon(attack, cluster.addresses[index % 3], rng, good, counts)
        nursery.start_soon(order_on, cluster, customer, counts)
