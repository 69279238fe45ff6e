"""Machines with one mistake each, which a cluster in one process may well survive."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from trio_pb import canonical
from trio_pb.app.blob import Blob
from trio_pb.app.machine import Page, Question, StateMachine, command, encode_value, query
from trio_pb.app.parts import MalformedStateError, Part
from trio_pb.testing import Command, Query, Request, Turn

PUT = 2
OTHER = 3
LIST = 0
WORDS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")


class Tags(StateMachine):
    """Keeps words, correctly: the others are this one with a mistake in it."""

    def __init__(self) -> None:
        super().__init__()
        self.words: dict[str, int] = {}

    def parts(self) -> Sequence[Part]:
        """The words and how often each was put."""
        return [Blob(encode=self._encode, decode=_decode, adopt=self._adopt)]

    def _encode(self) -> bytes:
        return canonical.encode([[word, count] for word, count in sorted(self.words.items())])

    def _adopt(self, words: dict[str, int]) -> None:
        self.words = words

    @command(PUT)
    def put(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Count a word."""
        word = body.decode()
        self.words[word] = self.words.get(word, 0) + 1
        return encode_value(self.answer(word, timestamp))

    @command(OTHER)
    def ping(self, body: bytes, client: bytes, timestamp: int) -> bytes:
        """Do nothing, rightly."""
        return encode_value("pong")

    @query(LIST)
    def words_known(self, question: Question) -> Page:
        """Answer all words."""
        return Page(encode_value(sorted(self.words)))

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """What put says."""
        return self.words[word]


def _decode(data: bytes) -> dict[str, int]:
    words: dict[str, int] = {}
    match canonical.decode(data):
        case list(entries):
            for entry in entries:
                match entry:
                    case [str(word), int(count)]:
                        words[word] = count
                    case _:
                        raise MalformedStateError("not a word and a count")
        case _:
            raise MalformedStateError("not an array")
    return words


class SetOfText(Tags):
    """Iterates over a set of strings."""

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """Whatever comes first."""
        return list(set(self.words))


class Clock(Tags):
    """Asks the clock, in whole seconds."""

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """What time it is."""
        return int(time.time())


class FloatSum(Tags):
    """Adds floats in the order in which the words came."""

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """A sum that depends on the order of its terms."""
        return repr(sum(0.1 * count * (1 + len(WORDS) ** WORDS.index(known)) for known, count in self.words.items()))


class Identity(Tags):
    """Orders by the addresses of objects."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, object] = {}

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """The words by where their objects lie."""
        self.seen.setdefault(word, object())
        words: list[str] = sorted(self.seen, key=lambda known: id(self.seen[known]))
        return list(words)


class OutsideParts(Tags):
    """Keeps something that no checkpoint has."""

    def __init__(self) -> None:
        super().__init__()
        self.puts = 0

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """How many words came since the process began."""
        self.puts += 1
        return self.puts


class Fragile(Tags):
    """Fails at one of its words."""

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """A mistake that stops every replica."""
        return 1 // (word != "eel")


class Chatty(Tags):
    """Prints."""

    def answer(self, word: str, timestamp: int) -> canonical.Value:
        """What is right."""
        print("put", word)
        os.write(1, b"put\n")
        return super().answer(word, timestamp)


class SetInState(Tags):
    """Its state has the words in the order of a set."""

    def _encode(self) -> bytes:
        words: list[str] = list(set(self.words))
        return canonical.encode([[word, self.words[word]] for word in words])


def workload(turn: Turn) -> Request:
    """Words, with harmless commands and reads between them."""
    kind = turn.random.randrange(4)
    if kind == 0:
        return Command(OTHER, b"")
    if kind == 1:
        return Query(LIST, b"", here=True)
    return Command(PUT, turn.random.choice(WORDS).encode())


def workload_of_a_set(turn: Turn) -> Request:
    """Words in the order of a set."""
    return Command(PUT, turn.random.choice(list(set(WORDS))).encode())
