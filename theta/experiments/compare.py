"""Two runs side by side: what differs in their settings, base and data, their figures, and their replies."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from theta.project.results import Results


@dataclass(frozen=True, slots=True)
class Line:
    """A value of both runs; None where a run has no such value."""

    name: str
    one: Any
    other: Any

    @property
    def change(self) -> float | None:
        """By how much the second differs from the first, if both are numbers."""
        numbers = [
            each for each in (self.one, self.other) if isinstance(each, int | float) and not isinstance(each, bool)
        ]
        return numbers[1] - numbers[0] if len(numbers) == 2 else None


def settings(one: Results, other: Results) -> list[Line]:
    """Return the settings that differ."""
    return [line for line in _lines(one.settings, other.settings) if line.one != line.other]


def inputs(one: Results, other: Results) -> dict[str, bool | None]:
    """Return whether base and data are the same; None where a run does not say so."""
    lines = _lines(one.inputs, other.inputs)
    names = {"weights": "base", "data": "data"}
    return {names[line.name]: None if None in (line.one, line.other) else line.one == line.other for line in lines}


def metrics(one: Results, other: Results) -> list[Line]:
    """Return the figures that differ; texts and lists are not figures."""
    lines = _lines(one.metrics, other.metrics)
    return [line for line in lines if line.one != line.other and _is_figure(line.one) and _is_figure(line.other)]


def replies(one: Results, other: Results) -> list[Line]:
    """Return the replies of both to the questions that both were asked, those that differ first."""
    asked = [
        Line(question, reply, other.replies[question])
        for question, reply in one.replies.items()
        if question in other.replies
    ]
    return sorted(asked, key=lambda line: line.one == line.other)


def _lines(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Line]:
    for name in [*one, *(name for name in other if name not in one)]:
        yield Line(name, one.get(name), other.get(name))


def _is_figure(value: Any) -> bool:
    return value is None or isinstance(value, int | float)
