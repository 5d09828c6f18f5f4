"""`ThetaModel`: replies from the model of a folder.

model = ThetaModel.load("models/theta_final")
model.generate("What is machine learning?", max_length=200, temperature=0.8)
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Unpack, overload

from theta.conversation.messages import Message
from theta.conversation.template import END
from theta.errors import DataError, GenerationError, SettingsError
from theta.generate import writers
from theta.generate.engine import Engine, Request, SharedEngine, Token, Writer
from theta.generate.folder import CONVERSATION_TOKENS, check
from theta.generate.folder import verify as verify_sums
from theta.generate.prompt import Fitted, Prompt, fit, to_messages
from theta.generate.reply_text import ReplyText
from theta.generate.settings import GenerationSettings, Parameters, read_generation_config
from theta.generate.worker import WorkerWriter
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to one prompt."""

    text: str
    tokens: int
    """Number of tokens of the text, without the end token."""
    ended: bool
    """Whether the model ended the reply, rather than a limit."""


class ThetaModel:
    """A model with its vocabulary and the parameters it recommends.

    Every method takes the parameters of `GenerationSettings` by name; absent or None selects the value that the model
    recommends. With a `seed`, the same call gives the same reply. A value out of its range raises a SettingsError, a
    conversation that cannot be answered a GenerationError.

    Threads may call it at the same time, and their replies are then written side by side; from asyncio, use
    `await asyncio.to_thread(model.generate, ...)`.

    Attributes:
        settings: the parameters that the model recommends.
        engine: what writes the replies, for a caller that runs it itself (such as a server) and nothing else.
        positions: the most tokens that the model reads, prompt and reply together.
        conversation_tokens: how many tokens of a conversation, prompt and reply together, it has learned to deal
            with, or `positions`. Of a longer one, the oldest exchanges are left out.
    """

    def __init__(
        self,
        writer: Writer,
        vocabulary: Vocabulary,
        settings: GenerationSettings | None = None,
        conversation_tokens: int | None = None,
    ) -> None:
        self.vocabulary = vocabulary
        self.settings = settings or GenerationSettings()
        self.engine = Engine(writer, vocabulary.end_id)
        self.positions = writer.positions
        self.conversation_tokens = min(conversation_tokens or self.positions, self.positions)
        self.device, self.dtype = writer.device, writer.dtype
        self._shared = SharedEngine(self.engine)

    @classmethod
    def load(
        cls, path: str | Path, device: str = "auto", dtype: str = "auto", *, soon: bool = False, verify: bool = False
    ) -> "ThetaModel":
        """Load a folder that Theta exported, such as models/theta_final, without a network.

        Args:
            path: the folder.
            device: "auto" (a CUDA device if there is one), "cpu", "cuda", "cuda:1", ...
            dtype: "auto" (bfloat16 on a GPU that computes in it, otherwise float32), "bfloat16", "float32", or on a CPU
                "int8". On a CPU both smaller formats round the weights alone. int8 is refused if the model then
                predicts something else (`int8_gate`), which is checked when the model is first loaded.
            soon: for a process that asks one question: choose what starts soonest rather than what writes the fastest.
                Without a GPU and a C compiler, a small model is then computed by NumPy, and torch is not imported.
            verify: first compare every file with the SHA-256 in its SHA256SUMS.

        Raises:
            GenerationError: the folder, a file or the device is missing, a file is damaged, or int8 is refused.
            SettingsError: a value of its generation_config.json is out of range.
        """
        folder = _folder(path)
        if verify:
            check(folder)
            verify_sums(folder)
        return cls._of_folder(folder, lambda never: writers.of_folder(folder, never, device, dtype, soon=soon))

    @classmethod
    def load_in_worker(cls, path: str | Path, device: str = "auto", dtype: str = "auto") -> "ThetaModel":
        """Load a folder into a process of its own, so that neither it nor this one holds the other up: for servers.

        The arguments and errors are those of `load`. A reply raises a GenerationError once that process has ended. It
        must not be interrupted by an exception from outside, such as that of Ctrl-C; see `WorkerWriter`.
        """
        folder = _folder(path)
        return cls._of_folder(folder, lambda never: WorkerWriter(folder, never, device, dtype))

    @classmethod
    def _of_folder(cls, folder: Path, writer_of: Callable[[writers.Never], Writer]) -> "ThetaModel":
        learned = check(folder).get(CONVERSATION_TOKENS)
        settings, vocabulary = read_generation_config(folder), _load_vocabulary(folder)
        return cls(writer_of(partial(_never, vocabulary)), vocabulary, settings, learned)

    @classmethod
    def of(
        cls, model: "GPT2LMHeadModel", vocabulary: Vocabulary, settings: GenerationSettings | None = None
    ) -> "ThetaModel":
        """Use a model in memory, on its device and in its number format.

        Raises:
            GenerationError: the model has fewer embeddings than the vocabulary has tokens.
        """
        writer = writers.of_model(model, partial(_never, vocabulary))
        return cls(writer, vocabulary, settings, getattr(model.config, CONVERSATION_TOKENS, None))

    @overload
    def generate(self, prompt: str, *parameters: Any, **named: Any) -> str: ...

    @overload
    def generate(self, prompt: Sequence[Any], *parameters: Any, **named: Any) -> Any: ...

    def generate(
        self,
        prompt: Prompt | Sequence[Prompt],
        max_length: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        *,
        seed: int | None = None,
    ) -> str | list[str]:
        """Return the reply to a question or to the messages of a conversation, without the question.

        To a list of these it returns a list of replies, which are written side by side; they have the seeds seed,
        seed + 1, ...
        """
        parameters = Parameters(
            max_length=max_length,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            no_repeat_ngram_size=no_repeat_ngram_size,
        )
        if _are_several(prompt):
            return [reply.text for reply in self.generate_batch(prompt, seed=seed, **parameters)]
        one: Prompt = prompt  # type: ignore[assignment]
        return self.chat(one, seed=seed, **parameters)

    def chat(self, messages: Prompt, *, seed: int | None = None, **parameters: Unpack[Parameters]) -> str:
        """Return the reply to a conversation: `Message`s or {"role", "content"} mappings, ending with the user's."""
        return "".join(self.stream(messages, seed=seed, **parameters))

    def stream(
        self, messages: Prompt, *, seed: int | None = None, **parameters: Unpack[Parameters]
    ) -> Generator[str, None, None]:
        """Yield the reply of `chat` in pieces as it is written; a piece never splits a character."""
        settings = self.settings.replaced(**parameters)
        tokens = self._shared.write([self._request(messages, settings, _checked_seed(seed))], rows=1)
        return text_pieces((token.id for _, token in tokens), self.vocabulary)

    def session(self, system: str | None = None, **parameters: Unpack[Parameters]) -> "Session":
        """Begin a conversation that remembers what was said."""
        return Session(self, system, parameters)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        batch_size: int | None = None,
        seed: int | None = None,
        **parameters: Unpack[Parameters],
    ) -> list[Reply]:
        """Return the replies to many conversations, in their order.

        Up to `batch_size` of them (None for as many as the engine takes) are written side by side. Each has its own
        random numbers, the first those of `seed`, the next those of seed + 1 and so on; so `batch_size` changes
        replies by rounding only.
        """
        if batch_size is not None and (not _is_number(batch_size) or batch_size < 1):
            raise SettingsError(f"batch_size is {batch_size!r} but must be a whole number of at least 1.")
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise GenerationError(f"The prompts are {prompts!r}, expected a list; `generate` takes a single one.")
        settings, seed = self.settings.replaced(**parameters), _checked_seed(seed)
        requests = [
            self._request(prompt, settings, None if seed is None else (seed + place) % SEEDS)
            for place, prompt in enumerate(prompts)
        ]
        written: list[list[Token]] = [[] for _ in prompts]
        for place, token in self._shared.write(requests, rows=batch_size or self.engine.most_rows):
            written[place].append(token)
        return [self._reply([token.id for token in tokens]) for tokens in written]

    def fitted(self, prompt: Prompt, **parameters: Unpack[Parameters]) -> Fitted:
        """Return a prompt as the model reads it, and how many of its oldest messages are left out."""
        return self._fitted(prompt, self.settings.replaced(**parameters))

    def _fitted(self, prompt: Prompt, settings: GenerationSettings) -> Fitted:
        return fit(
            to_messages(prompt),
            self.vocabulary,
            positions=self.positions,
            max_length=settings.max_length,
            conversation_tokens=self.conversation_tokens,
        )

    def _request(self, prompt: Prompt, settings: GenerationSettings, seed: int | None) -> Request:
        return Request(self._fitted(prompt, settings).ids, settings, seed)

    def _reply(self, ids: Sequence[int]) -> Reply:
        ended = ids[-1] == self.vocabulary.end_id
        return Reply(self.vocabulary.decode(ids), len(ids) - ended, ended)


class Session:
    """A conversation with a model.

    Attributes:
        messages: what was said so far; they may be changed.
    """

    def __init__(self, model: ThetaModel, system: str | None, parameters: Parameters) -> None:
        self._model, self._parameters = model, parameters
        self.messages = [Message("system", system)] if system else []

    def ask(self, question: str, *, seed: int | None = None) -> str:
        """Return the reply to the next question."""
        return "".join(self.stream(question, seed=seed))

    def stream(self, question: str, *, seed: int | None = None) -> Iterator[str]:
        """Yield the reply to the next question in pieces; the conversation has both once the reply is complete."""
        asked = [*self.messages, Message("user", question)]
        said = []
        for piece in self._model.stream(asked, seed=seed, **self._parameters):
            said.append(piece)
            yield piece
        if reply := "".join(said).strip():
            self.messages = [*asked, Message("assistant", reply)]

    def undo(self) -> None:
        """Forget the last question and its reply."""
        if self.messages and self.messages[-1].role == "assistant":
            self.messages = self.messages[:-2]


def text_pieces(ids: Iterable[int], vocabulary: Vocabulary) -> Generator[str, None, None]:
    """Yield the text of `ids` as soon as it is certain.

    A byte-level token may end within a character, which decodes to U+FFFD until its last byte arrives; so text that
    ends in U+FFFD is held back.
    """
    text = ReplyText(vocabulary)
    for id_ in ids:
        if piece := text.add(id_):
            yield piece
    if rest := text.end():
        yield rest


SEEDS = 2**63
"""Seeds are whole numbers below this."""


def _checked_seed(seed: int | None) -> int | None:
    if seed is not None and (not _is_number(seed) or not 0 <= seed < SEEDS):
        raise SettingsError(f"seed is {seed!r} but must be a whole number from 0 to {SEEDS - 1}.")
    return seed


def _is_number(value: object) -> bool:
    """Whether a caller's value is a whole number; for Python, True is one."""
    return isinstance(value, int) and not isinstance(value, bool)


def _are_several(prompt: Any) -> TypeGuard[Sequence[Prompt]]:
    """Whether these are prompts rather than one: its items are texts or lists, not messages."""
    return isinstance(prompt, list | tuple) and bool(prompt) and isinstance(prompt[0], str | list | tuple)


def _folder(path: Any) -> Path:
    if not isinstance(path, str | PathLike):
        raise GenerationError(f"The folder of the model is {path!r}, expected text or a path.")
    return Path(path).expanduser()


def _never(vocabulary: Vocabulary, rows: int) -> list[int]:
    """Return the ids that are never written: special tokens but the end, and rows beyond the vocabulary.

    Args:
        rows: of the model's embedding; those beyond the vocabulary are the padding of a model in training.

    Raises:
        GenerationError: the model has fewer embeddings than the vocabulary has tokens.
    """
    if rows < vocabulary.size:
        raise GenerationError(
            f"The model has {rows} embeddings and the tokenizer {vocabulary.size} tokens, so "
            "they do not belong together; export the model again."
        )
    end_of_text = vocabulary.tokenizer.token_to_id(END_OF_TEXT)
    special = {id_ for token, id_ in vocabulary.special_ids.items() if token != END} | {end_of_text} - {None}
    return sorted({*special, *range(vocabulary.size, rows)})


def _load_vocabulary(folder: Path) -> Vocabulary:
    try:
        return Vocabulary.load(folder)
    except DataError as fault:
        raise GenerationError(str(fault)) from None
