"""Reads that must not be stale, whoever answers them (PROTOCOL 10)."""

from __future__ import annotations

from sim.narrated import NarratedCluster
from sim.scenarios.scenario import scenario


@scenario()
def read_your_writes_anywhere(c: NarratedCluster) -> None:
    """Right after its receipt an order is seen at the primary and at both backups (INV-23)."""
    _, b, other = c.names
    for number in range(3):
        c.order(f"laptop-{number}").expect_reply()
        reads = [c.read(), c.read(via=b, here=True), c.read(via=other, here=True)]
        newest = {read.expect_reply().record.laptop_type for read in reads}
        c.expect(newest == {f"laptop-{number}"}, "all three show it")
    c.expect_same_state()


@scenario()
def new_primary_reads_nothing_too_early(c: NarratedCluster) -> None:
    """A new primary inherits an order that it does not know to be acknowledged: reads wait for it (T-10)."""
    a, b, other = c.names
    c.order("laptop old").expect_reply()
    c.run_for(10)
    for kind in ("PrepareMessage", "PrepareCopy"):
        c.lose(kind, dst=other)
    c.lose("Commit", src=a)
    c.order("laptop new").expect_reply()
    op = c.replica(a).commit
    c.crash(a)
    c.await_primary(b)
    c.expect(
        (c.replica(b).commit, c.replica(b).head) == (op - 1, op), f"{b} has op {op}, and knows of {op - 1} commits"
    )
    read = c.read(via=b)
    here = c.read(via=other, here=True)
    read.expect_no_reply(100)
    here.expect_no_reply(0)
    c.heal()
    shown = {answer.expect_reply().record.laptop_type for answer in (read, here)}
    c.expect(shown == {"laptop new"}, "both show the acknowledged order")
    c.restart(a)
    c.expect_same_state()


@scenario()
def cut_off_backup_answers_no_read(c: NarratedCluster) -> None:
    """A backup that cannot ask the primary how far it is answers nobody, however little it lacks (10.2)."""
    a, b, _ = c.names
    c.order("laptop-1").expect_reply()
    c.cut(a, b)
    read = c.read(via=b, here=True).expect_no_reply(200)
    c.mend(a, b)
    read.expect_reply()
    c.expect_same_state()


@scenario()
def scan_shows_one_state(c: NarratedCluster) -> None:
    """A scan of several pages shows one state, while old and new customers order in between (INV-24)."""
    for customer in range(6):
        c.order("laptop before", customer=customer).expect_reply()
    pages = [c.scan(2).expect_reply()]
    while pages[-1].cursor:
        c.order("laptop after", customer=len(pages)).expect_reply()
        c.order("laptop after", customer=100 + len(pages)).expect_reply()
        pages.append(c.scan(2, after=pages[-1]).expect_reply())
    records = [record for page in pages for record in page.page.records]
    c.expect([record.customer_id for record in records] == list(range(6)), "the pages show the six first customers")
    c.expect({record.laptop_type for record in records} == {"laptop before"}, "as they were before the scan began")
    c.expect_same_state()
