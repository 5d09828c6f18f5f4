"""The engine of the batch over ThetaModel."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import count

from theta.generate.assistant import ThetaModel, _generator
from theta.generate.settings import GenerationSettings
from theta.serve.batching import Token


class OneByOne:
    """Rows that advance one after the other."""

    most_rows = 8

    def __init__(self, model: ThetaModel) -> None:
        self._model, self._numbers = model, count()
        self._rows: dict[int, tuple[Iterator[list[int | None]], int, GenerationSettings]] = {}
        self._done: dict[int, int] = {}

    def join(self, ids: Sequence[int], settings: GenerationSettings, seed: int | None, alternatives: int | None) -> int:  # noqa: ARG002
        """Begin a reply to a prompt; return the number of its row."""
        row = next(self._numbers)
        room = min(settings.max_length, self._model.model.config.n_positions - len(ids))
        self._rows[row] = self._model._decode([ids], settings, _generator(seed)), room, settings
        self._done[row] = 0
        return row

    def step(self) -> Mapping[int, Token]:
        """Return the next token of each row."""
        written = {}
        for row, (steps, room, _) in list(self._rows.items()):
            [id_] = next(steps)
            assert id_ is not None
            self._done[row] += 1
            last = id_ == self._model.vocabulary.end_id or self._done[row] == room
            written[row] = Token(id_, last)
            if last:
                self.leave(row)
        return written

    def leave(self, row: int) -> None:
        """End a reply early."""
        self._rows.pop(row, None)
