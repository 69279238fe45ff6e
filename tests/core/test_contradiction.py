"""Beyond the fault model: whoever has the proof that an acknowledged op was lost stops, and says so (PROTOCOL G6)."""

from __future__ import annotations

import attrs
import pytest

from tests.core.bench import Bench, chain, disk_of
from tests.core.between_views import in_view_change
from trio_pb.core.messages import Ids, Ping, Pong
from trio_pb.core.ports import Fatal, FromPeer, Send

OURS, OTHER = chain(5), [*chain(2), *chain(5, tag=b"other")[2:]]


def stopped(bench: Bench) -> str:
    """The words with which it stopped; nothing else left with them."""
    (fatal,) = bench.given(Fatal)
    assert fatal.code == "contradiction"
    assert "keep this directory" in fatal.text
    return fatal.text


def test_a_new_view_without_what_is_committed_here() -> None:
    """6.6: the primary that committed op 3 hears of a view whose log ends below."""
    b = in_view_change(1, view=1026, log=OURS[:3], commit=3)
    b.clear()
    b.hear_start_view(OURS[:2], view=1026)
    assert "op 3 is committed here, and view 1026 begins without it" in stopped(b)
    assert not b.given(Send)


def test_a_new_view_with_another_op_in_its_place() -> None:
    """INV-12: the same where others ordered something else meanwhile."""
    b = in_view_change(1, view=1026, log=OURS[:3], commit=3)
    b.hear_start_view(OTHER, view=1026)
    assert "op 3" in stopped(b)


@pytest.mark.parametrize("length", [3, 5])
def test_a_new_view_that_has_it_is_none(length: int) -> None:
    """The log may end there, or go on."""
    b = in_view_change(1, view=1026, log=OURS[:3], commit=3)
    b.hear_start_view(OURS[:length], view=1026)
    assert not b.given(Fatal)
    assert b.head == length


def test_a_view_that_began_beyond_all_that_we_know() -> None:
    """The log of the new view begins above our head: that its past is another shows in the body above ours."""
    b = in_view_change(1, view=1026, log=OURS[:3], commit=3)
    b.hear_start_view(OTHER, view=1026, base=5)
    assert not b.given(Fatal)
    b.hear(0, Ids(3, tuple(prepare.checksum for prepare in OTHER[2:5])), view=1026)
    assert "another entry than ours is committed elsewhere at op 3" in stopped(b)


def test_a_body_that_continues_another_log() -> None:
    """The same when identities end just above ours."""
    b = in_view_change(1, view=1026, log=OURS[:3], commit=3)
    b.hear_start_view(OTHER, view=1026, base=5)
    b.hear(0, Ids(4, tuple(prepare.checksum for prepare in OTHER[3:5])), view=1026)
    b.hear_copy(0, OTHER[3], view=1026)
    assert "op 4 continues another entry than the one at op 3 here" in stopped(b)


def test_a_primary_that_tells_two_logs_of_its_view() -> None:
    """INV-7: it forgot that it led this view before, and led it again; whoever holds the first log says so."""
    b = Bench(disk_of(1, log=OURS[:3], commit=2))
    b.hear_start_view(OURS[:2], view=1024)
    b.hear_start_view(OURS, view=1024)
    assert not b.given(Fatal)
    assert b.head == 5
    b.hear_start_view(OTHER[:4], view=1024)
    assert "op 4 of view 1024 is another one here than its primary has" in stopped(b)


def test_a_superblock_of_an_earlier_boot() -> None:
    """7.4: a proof of boot 2 needs a superblock of boot 2: this one went back in time."""
    disk = disk_of(1, log=OURS[:2], boot=1)
    later = Bench(disk_of(1, log=OURS[:2], boot=2))
    assert later.disk.proof is not None
    disk.proof = later.disk.proof
    (fatal,) = Bench(disk).given(Fatal)
    assert fatal.code == "unrecoverable"
    assert "the superblock went back in time" in fatal.text


def test_hearsay_of_a_view_that_is_not_durable() -> None:
    """A commit point goes by its view: told on in the name of an older one it would contradict views in between.

    Of seven, R1 begins a view without op 3, which dies with it. The next view commits op 3. R6 hears so, its disk is
    slow, and what it says it says in the name of the view before both. R5, which heard it, hears R1 last.
    """
    r6 = Bench(disk_of(6, voters=7, log=OURS[:3], commit=2))
    r5 = Bench(disk_of(5, voters=7, view=1025, log_view=1024, log=OURS[:3], commit=2))
    r6.auto_disk = False
    told = attrs.evolve(r6.position(log_view=1026), commit_checksum=OURS[2].checksum)
    r6.hear(2, Ping(told), view=1026, commit=3)
    r6.run(50)
    said = [sent for sent in r6.given(Send) if isinstance(sent.message, Ping | Pong) and 5 in sent.replicas]
    assert said
    assert {sent.envelope.view for sent in said} == {1024}
    r5.step(*(FromPeer(sent.envelope, sent.message) for sent in said))
    r5.clear()
    r5.hear_start_view(OURS[:2], view=1025)
    assert not r5.given(Fatal)
    r6.complete()
    r6.hear(2, Ping(told), view=1026, commit=3)
    assert r6.commit == 3
