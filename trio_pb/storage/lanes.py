"""Long work in slices: lanes of tasks that give way to one another, and to everything urgent.

A *task* is a job that also yields `Pause`: there its slice ends, and it goes on in a later job. Between
two pauses nobody else touches the disk, so what a task finds out holds until its next pause. Tasks of
one lane run strictly one after the other, lanes take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from trio_pb.errors import DiskFullError
from trio_pb.storage.disk import Job, Step

__all__ = ["SLICE_BYTES", "Lanes", "Pause", "Task"]

T = TypeVar("T")

# Reading or writing and flushing this much takes about as long as a group commit: an append that has to
# wait for one slice waits for twice its usual time, not more.
SLICE_BYTES = 512 << 10


class Pause(Enum):
    """What a task waits for."""

    TURN = "turn"  # Others first.
    SPACE = "space"  # Not before `Lanes.wake`: the disk is full.


# As with a job, what a step results in depends on its class: hence Any.
Task: TypeAlias = Generator[Step | Pause, Any, T]


class Lanes:
    """Queues of tasks by name; a turn is one slice of the next lane that has something to do."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Task[None]]] = {}  # In the order of their turns; the next one first.
        self._starved: set[str] = set()  # Lanes that wait for space.

    def put(self, lane: str, task: Task[None]) -> None:
        """Queue `task` behind the others of its lane."""
        self._lanes.setdefault(lane, deque()).append(task)

    def wake(self) -> None:
        """There may be space now."""
        self._starved.clear()

    def take(self) -> Job[None] | None:
        """Return a slice of the lane whose turn it is, None when nobody has anything to do."""
        for lane, tasks in self._lanes.items():
            if tasks and lane not in self._starved:
                self._lanes[lane] = self._lanes.pop(lane)  # Its next turn comes last.
                return self._slice(lane, tasks)
        return None

    def _slice(self, lane: str, tasks: deque[Task[None]]) -> Job[None]:
        task = tasks[0]
        result: object = None
        full: DiskFullError | None = None
        while True:
            try:
                step = task.send(result) if full is None else task.throw(full)
            except StopIteration:
                tasks.popleft()
                return
            full = None
            if isinstance(step, Pause):
                if step is Pause.SPACE:
                    self._starved.add(lane)
                return
            try:
                result = yield step
            except DiskFullError as error:
                full = error
