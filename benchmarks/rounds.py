"""Rounds and figures: contenders run in turns, and the median counts, with its spread."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Round = Callable[[], Mapping[str, Any]]


@dataclass
class Figures:
    """The measurements of one contender's counted rounds."""

    name: str
    rounds: list[Mapping[str, Any]] = field(default_factory=list)

    def values(self, key: str) -> list[float]:
        return [float(one[key]) for one in self.rounds]

    def median(self, key: str) -> float:
        return median(self.values(key))

    def spread(self, key: str, form: str = ".2f") -> str:
        values = self.values(key)
        return f"{median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def run_in_turns(contenders: Mapping[str, Round], rounds: int, warm_up: int = 1) -> dict[str, Figures]:
    """Run each contender once per turn, turn after turn; the first `warm_up` turns are not counted."""
    figures = {name: Figures(name) for name in contenders}
    for turn in range(warm_up + rounds):
        for name, run in contenders.items():
            gc.collect()
            measured = run()
            if turn >= warm_up:
                figures[name].rounds.append(measured)
    return figures


def ratio(of: Figures, to: Figures, key: str) -> float:
    return of.median(key) / to.median(key)


def ratios_by_turn(of: Figures, to: Figures, key: str) -> str:
    """Return the spread of the ratio turn by turn: noise on the machine hits neighbours in time alike."""
    values = [a / b for a, b in zip(of.values(key), to.values(key), strict=True)]
    return f"{min(values):.2f}–{max(values):.2f}"
