"""Three cores in one process, moved by hand: a tiny language whose printed answers are kept as transcripts.

Nothing happens by itself: a message waits until it is delivered or dropped, a disk job until it is done, time
until it is told to pass. Commands, one a line:

    start V [WITHOUT]      the replicas start, in view V with empty logs unless they have a disk; one may stay down
    replica R view=V [log_view=W log=N acked=N commit=N installed=N lose=N]
                           another disk for one replica, before it starts: N ops, one of whose records is bad
    request C K [to R]     client C sends number K (0 registers) to replica R, the present primary unless told
    read C K [to R]        client C reads; at a backup with a read index
    deliver [A>B] [KIND]   everything that waits (between A and B, of that kind), once; not what that causes
    drop [A>B] [KIND]      the same, into nowhere
    disk [R] [KIND]        complete the disk jobs that wait (of R, of that kind: journal, superblock, read)
    settle                 deliver and complete until nothing waits
    tick N [R]             N ticks pass one by one (at replica R only)
    run N                  N ticks pass, and after each everything settles; heartbeats are not printed
    crash R                R loses its memory and every write that is not complete; it stays down
    restart R              it starts again from its disk
    show                   where everybody stands
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from tests.core.bench import Bench, DiskImage, Written, chain, client, disk_of
from trio_pb.core.messages import (
    CODE_REGISTER,
    Commit,
    CommitOk,
    DoViewChange,
    Envelope,
    GetIds,
    GetPrepares,
    Ids,
    PeerMessage,
    Ping,
    Pong,
    PrepareCopy,
    PrepareMessage,
    PrepareOk,
    Read,
    ReadIndex,
    ReadIndexOk,
    ReadMode,
    Reject,
    Request,
    StartView,
    StartViewChange,
)
from trio_pb.core.ports import (
    Apply,
    FromClient,
    FromPeer,
    Output,
    Send,
    SuperblockWrite,
    ToClient,
    WalAppend,
    WalRead,
)

__all__ = ["HandCluster", "run_script"]

NAMES = "ABC"
JOBS: dict[str, type[Written]] = {"journal": WalAppend, "superblock": SuperblockWrite, "read": WalRead}


@attrs.frozen
class Letter:
    """A message on its way."""

    source: int
    target: int
    envelope: Envelope
    message: PeerMessage


class HandCluster:
    """The replicas, their disks, and everything that is under way."""

    def __init__(self) -> None:
        self.disks: dict[int, DiskImage] = {}
        self.benches: dict[int, Bench] = {}
        self.letters: list[Letter] = []
        self.lines: list[str] = []
        self.unspoken: tuple[type[PeerMessage], ...] = (Ping, Pong)  # These travel without a word.
        self.sessions: dict[int, int] = {}  # Client -> its session, as replies told it.

    # --- Saying what happens --------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Add a line to the transcript."""
        self.lines.append(line)

    def after(self, replica: int, given: Sequence[Output]) -> None:
        """Post what a replica sent and print what it gave out."""
        for output in given:
            if isinstance(output, Send):
                for target in output.replicas:
                    self.letters.append(Letter(replica, target, output.envelope, output.message))
                if not isinstance(output.message, self.unspoken):
                    targets = "".join(NAMES[target] for target in output.replicas)
                    self.say(f"  {NAMES[replica]} > {targets}: {describe(output.message, output.envelope)}")
            elif isinstance(output, WalAppend):
                ops = ",".join(str(prepare.op) for prepare in output.prepares) or "-"
                proof = f"proof {output.proof.acked}" if output.proof is not None else "no proof"
                self.say(f"  {NAMES[replica]} journal: append {ops}, {proof}")
            elif isinstance(output, SuperblockWrite):
                image = output.image
                self.say(f"  {NAMES[replica]} superblock: view {image.view}, log_view {image.log_view}")
            elif isinstance(output, Apply):
                self.say(f"  {NAMES[replica]} applies {output.op}")
            elif isinstance(output, ToClient):
                self.told(replica, output)

    def told(self, replica: int, output: ToClient) -> None:
        """A client hears."""
        answer = output.message
        who = f"  {NAMES[replica]} > client {answer.client[0]}:"
        if isinstance(answer, Reject):
            self.say(f"{who} refuses {answer.number} ({answer.code.name.lower()})")
            return
        if answer.number == 0 and answer.session:
            self.sessions[answer.client[0]] = answer.session
        again = ", again" if answer.replayed else ""
        self.say(f"{who} answer to {answer.number} at op {answer.op}{again}")

    # --- Commands -------------------------------------------------------------------------------

    def start(self, view: str, without: str = "") -> None:
        """Everybody starts, except perhaps one."""
        for replica, name in enumerate(NAMES):
            self.disks.setdefault(replica, disk_of(replica, view=int(view)))
            if name != without:
                self.restart(name)

    def replica(self, name: str, *fields: str) -> None:
        """Give one replica its own disk before it starts; `log` counts ops of the common chain."""
        values = {key: int(value) for key, value in (field.split("=") for field in fields)}
        log = chain(values.pop("log", 0), view=values.get("log_view", values.get("view", 0)))
        lost = values.pop("lose", 0)
        disk = self.disks[NAMES.index(name)] = disk_of(
            NAMES.index(name),
            view=values["view"],
            log_view=values.get("log_view"),
            log=log,
            acked=values.get("acked"),
            commit=values.get("commit", 0),
            installed=values.get("installed", 0),
        )
        if lost:
            del disk.records[log[lost - 1].id]

    def request(self, by: str, number: str, *to: str) -> None:
        """A client asks for a write."""
        code = CODE_REGISTER if int(number) == 0 else 2
        session = self.sessions.get(int(by), 0) if int(number) else 0
        message = Request(client(int(by)), session, int(number), code, b"")
        self.from_client(message, to)

    def read(self, by: str, number: str, *to: str) -> None:
        """A client asks for a read, at any replica."""
        message = Read(client(int(by)), int(number), 2, b"", ReadMode.LINEARIZABLE_HERE, 0, b"")
        self.from_client(message, to)

    def from_client(self, message: Request | Read, to: Sequence[str]) -> None:
        """Find the replica that is meant and feed it."""
        leading = [replica for replica, bench in self.benches.items() if bench.replica.state.is_leading]
        target = NAMES.index(to[1]) if to else leading[-1]
        bench = self.benches[target]
        self.after(target, bench.step(FromClient(message.client[0], message)))

    def deliver(self, *which: str) -> None:
        """Deliver what waits now, in order of sending."""
        for letter in self.take(which):
            if not isinstance(letter.message, self.unspoken):
                what = describe(letter.message, letter.envelope)
                self.say(f"{NAMES[letter.source]}>{NAMES[letter.target]} {what}")
            bench = self.benches.get(letter.target)
            if bench is not None:
                self.after(letter.target, bench.step(FromPeer(letter.envelope, letter.message)))

    def drop(self, *which: str) -> None:
        """Lose what waits."""
        for letter in self.take(which):
            if not isinstance(letter.message, self.unspoken):
                what = describe(letter.message, letter.envelope)
                self.say(f"{NAMES[letter.source]}>{NAMES[letter.target]} {what} -- lost")

    def take(self, which: Sequence[str]) -> list[Letter]:
        """Take the letters that are meant out of the post."""
        taken: list[Letter] = []
        for letter in self.letters:
            route = f"{NAMES[letter.source]}>{NAMES[letter.target]}"
            kind = kind_of(letter.message)
            if all(word in (route, kind, f"{NAMES[letter.source]}>", f">{NAMES[letter.target]}") for word in which):
                taken.append(letter)
        self.letters = [letter for letter in self.letters if letter not in taken]
        return taken

    def disk(self, *which: str) -> None:
        """Complete disk jobs that wait now."""
        kind = next((JOBS[word] for word in which if word in JOBS), None)
        for replica, bench in sorted(self.benches.items()):
            if any(word in NAMES for word in which) and NAMES[replica] not in which:
                continue
            self.after(replica, bench.complete(kind))

    def settle(self) -> None:
        """Until nothing waits any more."""
        while self.letters or any(bench.pending for bench in self.benches.values()):
            self.disk()
            self.deliver()

    def tick(self, count: str, *only: str) -> None:
        """Time passes, tick by tick, at all or one."""
        for _ in range(int(count)):
            for replica, bench in sorted(self.benches.items()):
                if not only or NAMES[replica] in only:
                    self.after(replica, bench.tick())

    def run_ticks(self, count: str) -> None:
        """Time passes while everything else works as it should."""
        self.unspoken = (Ping, Pong, Commit, CommitOk)
        for _ in range(int(count)):
            self.tick("1")
            self.settle()
        self.unspoken = (Ping, Pong)

    def crash(self, name: str) -> None:
        """Memory and unfinished writes are gone; what was sent is on its way all the same."""
        del self.benches[NAMES.index(name)]

    def restart(self, name: str) -> None:
        """Start from the disk; its boot number is durable at once, what follows is not."""
        replica = NAMES.index(name)
        bench = self.benches[replica] = Bench(self.disks[replica], auto_disk=False)
        self.after(replica, list(bench.outputs))
        self.after(replica, bench.complete(SuperblockWrite, 1))

    def show(self) -> None:
        """One line for each."""
        for replica, name in enumerate(NAMES):
            bench = self.benches.get(replica)
            if bench is None:
                self.say(f"  {name}: down")
                continue
            report = bench.replica.report()
            role = " leading" if report.is_primary else " abdicated" if bench.replica.state.abdicated else ""
            self.say(
                f"  {name}: {report.status.name.lower()}{role}, view {report.view}, log_view {report.log_view},"
                f" head {report.head}, commit {report.commit}, applied {report.applied}, acked {report.acked}"
            )

    def run(self, line: str) -> None:
        """Carry out one command."""
        command, *words = line.split()
        commands: dict[str, Callable[..., None]] = {
            "start": self.start,
            "replica": self.replica,
            "request": self.request,
            "read": self.read,
            "deliver": self.deliver,
            "drop": self.drop,
            "disk": self.disk,
            "settle": self.settle,
            "tick": self.tick,
            "run": self.run_ticks,
            "crash": self.crash,
            "restart": self.restart,
            "show": self.show,
        }
        commands[command](*words)


def run_script(text: str) -> str:
    """Run the commands of a transcript (its lines that begin with "$ ") and write it anew."""
    cluster = HandCluster()
    written: list[str] = []
    for line in text.splitlines():
        if line.startswith("#") or not line:
            written.append(line)
        elif line.startswith("$ "):
            cluster.lines.clear()
            cluster.run(line[2:])
            written += [line, *cluster.lines]
    return "\n".join(written) + "\n"


def kind_of(message: PeerMessage) -> str:
    """The protocol's name of a message."""
    name = type(message).__name__.removesuffix("Message")
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def describe(message: PeerMessage, envelope: Envelope) -> str:
    """A message in a few words."""
    words = f"{kind_of(message)}[{envelope.view}]"
    match message:
        case PrepareMessage():
            words += f" op {message.prepare.op}, commit {envelope.commit}" + round_of(message.round)
        case PrepareCopy():
            words += f" op {message.prepare.op}"
        case PrepareOk():
            words += f" {message.acked.op}" + round_of(message.round)
        case Commit():
            words += f" commit {envelope.commit}, head {envelope.op}" + round_of(message.round)
        case CommitOk():
            words += f" {message.acked.op if message.acked is not None else None}" + round_of(message.round)
        case StartViewChange():
            words += f" target {message.target}" + (", sanctioned" if message.sanctioned else "")
        case DoViewChange():
            entries = " ".join(f"{entry.op}:{entry.state.name.lower()}" for entry in message.entries)
            words += f" log_view {message.log_view}, head {envelope.op}, commit {message.commit.op} [{entries}]"
        case StartView():
            words += f" base {message.base.op}, head {message.base.op + len(message.checksums)}"
        case GetPrepares():
            asked = " ".join(f"{op}{'' if checksum is not None else '?'}" for op, checksum in message.wanted)
            words += f" {asked}"
        case GetIds():
            words += f" {message.low}..{message.high}"
        case Ids():
            words += f" {message.low}..{message.low + len(message.checksums) - 1}"
        case ReadIndex():
            words += f" {message.counter}"
        case ReadIndexOk():
            words += f" {message.counter}: op {message.op}"
        case _:
            pass
    return words


def round_of(number: int) -> str:
    """A read round, when there is one."""
    return f", round {number}" if number else ""
