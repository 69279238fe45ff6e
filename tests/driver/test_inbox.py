"""What is ready is taken at once; clients wait for room, peers' messages drop."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.driver.fakes import make_envelope, make_message
from trio_pb.core.messages import Request
from trio_pb.core.ports import FromClient, FromPeer, Input, WalDone
from trio_pb.driver import inbox as inbox_module
from trio_pb.driver.inbox import Inbox


def make_request(number: int) -> FromClient:
    """A request over connection 2."""
    return FromClient(2, Request(b"x" * 16, 1, number, 2, b""))


async def test_everything_that_is_ready_comes_in_order_of_arrival() -> None:
    """One take is one batch."""
    inbox = Inbox()
    request, peer = make_request(1), FromPeer(make_envelope(1), make_message(1))
    inbox.put_clients([request])
    inbox.put([WalDone(1), WalDone(2)])
    inbox.put_peer([peer], 100)
    assert await inbox.take_all() == [request, WalDone(1), WalDone(2), peer]


async def test_the_taker_sleeps_until_something_comes() -> None:
    """A put or a ring wakes it, once."""
    inbox = Inbox()
    taken: list[list[Input]] = []

    async def take_twice() -> None:
        taken.append(await inbox.take_all())
        taken.append(await inbox.take_all())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take_twice)
        await wait_all_tasks_blocked()
        assert taken == []
        inbox.ring()
        await wait_all_tasks_blocked()
        assert taken == [[]]
        inbox.put([WalDone(1)])
    assert taken == [[], [WalDone(1)]]


async def test_a_failure_reaches_the_taker_before_anything_else() -> None:
    """After a failed flush no input may be handled as if nothing were."""
    inbox = Inbox()
    inbox.put([WalDone(1)])
    inbox.fail(ValueError("disk"))
    with pytest.raises(ValueError, match="disk"):
        await inbox.take_all()


async def test_readers_of_clients_wait_while_too_much_is_unprocessed() -> None:
    """They go on as soon as the replica took what was there."""
    inbox = Inbox()
    inbox.put_clients([make_request(n) for n in range(inbox_module.CLIENT_REQUESTS_MAX - 1)])
    assert not inbox.is_crowded()
    inbox.put_clients([make_request(0)])
    assert inbox.is_crowded()
    went_on = trio.Event()

    async def read_on() -> None:
        await inbox.wait_for_room()
        went_on.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_on)
        await wait_all_tasks_blocked()
        assert not went_on.is_set()
        await inbox.take_all()
    assert went_on.is_set()


async def test_messages_of_peers_drop_when_there_are_too_many_or_too_large() -> None:
    """Both bounds hold, what was dropped is counted, and a take makes room."""
    inbox = Inbox()
    message = FromPeer(make_envelope(1), make_message(1))
    inbox.put_peer([message] * inbox_module.PEER_MESSAGES_MAX, 10)
    inbox.put_peer([message] * 2, 10)
    assert inbox.peer_messages_dropped == 2
    assert len(await inbox.take_all()) == inbox_module.PEER_MESSAGES_MAX
    inbox.put_peer([message], inbox_module.PEER_BYTES_MAX)
    inbox.put_peer([message], 1)
    assert inbox.peer_messages_dropped == 3
    assert len(await inbox.take_all()) == 1


async def test_a_turn_now_takes_all_that_is_ready_and_wakes_nobody() -> None:
    """What came before it comes first."""
    inbox = Inbox()
    turns: list[list[Input]] = []
    taken: list[list[Input]] = []

    async def take() -> None:
        taken.append(await inbox.take_all())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        inbox.offer_turns(turns.append)
        request, peer = make_request(1), FromPeer(make_envelope(1), make_message(1))
        inbox.put_clients([request], now=True)
        await wait_all_tasks_blocked()
        assert (turns, taken) == ([[request]], [])
        inbox.put([WalDone(1)])
        inbox.put_peer([peer], 100, now=True)
        assert turns[1:] == [[WalDone(1), peer]]
        await wait_all_tasks_blocked()
        assert taken == []
        inbox.put([WalDone(2)])
    assert taken == [[WalDone(2)]]


async def test_without_an_offer_the_taker_is_woken() -> None:
    """As before the host runs, and after it ended."""
    inbox = Inbox()
    inbox.offer_turns(lambda _: pytest.fail("taken back"))
    inbox.offer_turns(None)
    inbox.put_clients([make_request(1)], now=True)
    assert await inbox.take_all() == [make_request(1)]


async def test_no_turn_is_taken_after_a_failure() -> None:
    """The replica must not go on (R-IOERR)."""
    inbox = Inbox()
    turns: list[list[Input]] = []
    inbox.offer_turns(turns.append)
    inbox.fail(OSError("disk"))
    inbox.put_clients([make_request(1)], now=True)
    assert turns == []
    with pytest.raises(OSError, match="disk"):
        await inbox.take_all()


async def test_a_turn_now_makes_room() -> None:
    """Readers that waited go on."""
    inbox = Inbox()
    inbox.put_clients([make_request(n) for n in range(inbox_module.CLIENT_REQUESTS_MAX)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.wait_for_room)
        await wait_all_tasks_blocked()
        inbox.offer_turns(lambda _: None)
        inbox.put_clients([make_request(0)], now=True)
    assert not inbox.is_crowded()
