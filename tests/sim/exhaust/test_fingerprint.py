"""What a fingerprint leaves out makes no difference: equal ones are moved alike, and must stay equal."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs

from sim.exhaust.machine import Machine, Outcome, Standing
from sim.exhaust.moves import Deliver, Move
from sim.exhaust.step import Acting
from sim.exhaust.world import Size, State, World
from sim.oracles.facts import Violation

WALKS, LENGTH = 6, 20
TWINS_MAX = 15  # Per replica.


def walks(world: World, seed: int) -> Iterator[tuple[State, ...]]:
    """Go through a world at random, always from its beginning."""
    chance = random.Random(seed)
    for _ in range(WALKS):
        way = [world.initial]
        for _ in range(LENGTH):
            following = [step.state for step in world.steps(way[-1]) if step.state is not None]
            if not following:
                break
            way.append(chance.choice(following))
        yield tuple(way)


def test_equal_prints_move_alike() -> None:
    """A state that was reached in two ways, and so differs in what is left out, answers every move alike."""
    compared = 0
    kept = KeepingWorld(Size(requests=2, views=2, crashes=1))
    for way in walks(kept, 1):
        del way
    for machine in kept.keeping:
        for standing, twin in machine.twins:
            for move in (*standing.moves, *[Deliver(it) for it in range(len(kept.post.messages))]):
                if isinstance(move, Deliver) and kept.post.messages[move.message].destination != machine.replica:
                    continue
                assert machine.answer(standing, move) == machine.answer(twin, move), move
                compared += 1
    assert compared > 100


class KeepingMachine(Machine):
    """Keeps what another state with an equal fingerprint remembered, to compare the two."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        self.twins: list[tuple[Standing, Standing]] = []

    def _standing(self, acting: Acting) -> Standing:
        before = self.count
        standing = super()._standing(acting)
        if self.count == before and len(self.twins) < TWINS_MAX:
            stage = vars(self)["_stage"]
            twin = attrs.evolve(standing, snapshot=stage.take(), disk=acting.disk, outcomes={})
            self.twins.append((standing, twin))
        return standing

    def answer(self, standing: Standing, move: Move) -> object:
        """What comes of a move, computed anew."""
        outcome: Outcome | None = self._compute(standing, move)
        if outcome is None or (outcome.target.prints == standing.prints and not outcome.sent and not outcome.violation):
            return None  # Nothing comes of it.
        broken = str(outcome.violation) if isinstance(outcome.violation, Violation) else ""
        return broken or (outcome.target.prints, outcome.sent, outcome.news)


class KeepingWorld(World):
    """A world of such machines."""

    machine_type = KeepingMachine

    @property
    def keeping(self) -> list[KeepingMachine]:
        """Its machines."""
        return [machine for machine in self.machines if isinstance(machine, KeepingMachine)]
