"""`trio-pb sim explain`: what happened in a simulated run, in words and as a picture."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sim.choices import Choices
from sim.exhaust.trace import is_trace
from sim.experiment import Experiment, Swarm, replay_command
from sim.explain.model import Story
from sim.explain.outline import Selection, everything, select, stretch
from sim.explain.page import fields_of, page
from sim.explain.perfetto import trace_file
from sim.explain.teller import StoryTeller
from sim.explain.text import tell
from sim.profiles import DEFAULT_PROFILE
from sim.recording import read
from sim.telling import telling
from trio_pb.cli.exhaust import story_of
from trio_pb.cli.output import ExitCode, Flag, print_json
from trio_pb.cli.scenarios import PROTOCOLS, play_silently
from trio_pb.errors import ConfigError

__all__ = ["explain"]

PIPED_WIDTH = 120  # Columns where there is no terminal.
NARROWEST = 80


def explain(
    file: Path | None = None,
    /,
    *,
    seed: int | None = None,
    profile: str = DEFAULT_PROFILE,
    scenario: str | None = None,
    protocol: str = PROTOCOLS[0],
    html: Path | None = None,
    perfetto: Path | None = None,
    all: Flag = False,  # noqa: A002 -- it names the flag
    from_ms: float | None = None,
    to_ms: float | None = None,
    json: Flag = False,
) -> int:
    """Tell what happened in a simulated run, and draw it.

    Of a run that fails it tells what led to the failure; of one that does not, an outline. A recording that
    was made small by `trio-pb sim shrink` makes the shortest story.

    Args:
        file: A recording, as `trio-pb sim run` and `trio-pb sim shrink` write it, or a way through a small world, as
            `trio-pb sim exhaust` does.
        seed: Tell this seed instead of a file.
        profile: What may happen in the run of that seed: all, network, storage, crash, clock, ambush, beyond, or calm.
        scenario: Tell this play from `trio-pb sim scenarios` instead.
        protocol: Who plays it: vsr, which is trio-pb's own, or naive.
        html: Write a page that draws the run, to be opened in a browser; it needs no network.
        perfetto: Write a trace for ui.perfetto.dev or chrome://tracing.
        all: Tell everything, also heartbeats and pings.
        from_ms: Tell only what happened from this virtual time on.
        to_ms: Tell only what happened up to this virtual time.
        json: Print the whole story as one JSON object: lanes, events, messages, states, and what is told of it.
    """
    if [file, seed, scenario].count(None) != 2:
        raise ConfigError("name a recording, or --seed N, or --scenario NAME")
    if scenario is None and protocol != PROTOCOLS[0]:
        raise ConfigError(f"--protocol {protocol}: it goes with --scenario NAME")
    if seed is None and profile != DEFAULT_PROFILE:
        raise ConfigError(f"--profile {profile}: it goes with --seed N")
    story = _story(file, seed, profile) if scenario is None else _play(scenario, protocol)
    selection = _selection(story, from_ms, to_ms, all=all)
    if html is not None:
        _write(html, page(story, selection))
    if perfetto is not None:
        _write(perfetto, trace_file(story))
    if json:
        print_json(fields_of(story, selection))
    elif html is None and perfetto is None:
        print("\n".join(tell(story, selection, _width())))
    else:
        print(story.title if story.verdict is None else f"{story.title}: {story.verdict.rule}: {story.verdict.text}")
        if html is not None:
            print(f"wrote {html}: open it in a browser")
        if perfetto is not None:
            print(f"wrote {perfetto}: open it in ui.perfetto.dev")
    return ExitCode.OK


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _story(file: Path | None, seed: int | None, profile: str) -> Story:
    """Run it again, and listen."""
    if file is not None and is_trace(file):
        return story_of(file)
    if file is not None:
        recording = read(file)
        choices = Choices(recording.seed, recording.choices)
        return _told(recording.experiment, choices, file.name, f"trio-pb sim replay {file}")
    assert seed is not None
    if seed < 0:
        raise ConfigError(f"--seed {seed}: must not be negative")
    experiment = Swarm(profile)
    return _told(experiment, Choices(seed), "", replay_command(experiment, seed))


def _play(scenario: str, protocol: str) -> Story:
    """Play a scenario, and listen."""
    arguments = () if protocol == PROTOCOLS[0] else ("--protocol", protocol)
    command = " ".join(["trio-pb sim run --scenario", scenario, *arguments])
    teller = StoryTeller(f"{scenario}, {protocol}", command)
    with telling(teller):
        failure = play_silently(scenario, protocol)
    return teller.finish(failure)


def _told(experiment: Experiment, choices: Choices, name: str, command: str) -> Story:
    title = f"{experiment.name}, seed {choices.seed}"
    teller = StoryTeller(f"{name}: {title}" if name else title, command)
    with telling(teller):
        report = experiment.run(choices)
    if not teller.builder.events:
        raise ConfigError(f"{experiment.name}: runs of this kind cannot be told")
    return teller.finish(report.failure)


def _selection(story: Story, from_ms: float | None, to_ms: float | None, *, all: bool) -> Selection:  # noqa: A002
    if from_ms is None and to_ms is None:
        return everything(story) if all else select(story)
    begin = 0 if from_ms is None else round(from_ms * 1000)
    end = story.end_time if to_ms is None else round(to_ms * 1000)
    if begin > end:
        raise ConfigError(f"nothing lies between {begin / 1000:g} ms and {end / 1000:g} ms")
    return stretch(story, begin, end, idle=all)


def _width() -> int:
    """Of the lines: the terminal's, if it is one."""
    return max(shutil.get_terminal_size().columns, NARROWEST) if sys.stdout.isatty() else PIPED_WIDTH
