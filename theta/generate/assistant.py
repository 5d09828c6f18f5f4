"""`ThetaModel`: replies from the model of a folder.

model = ThetaModel.load("models/theta_final")
model.generate("What is machine learning?", max_length=200, temperature=0.8)
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Unpack

import torch
from safetensors import SafetensorError
from transformers import GPT2LMHeadModel
from transformers.utils import logging

from theta.conversation.template import END
from theta.errors import DataError, GenerationError, SettingsError, reason
from theta.generate.decoding import decode
from theta.generate.folder import check
from theta.generate.prompt import Prompt, fit, to_messages
from theta.generate.settings import GenerationSettings, Parameters, read_generation_config
from theta.machine.cpu_sharing import share_cpus
from theta.machine.devices import choose_device, has_bfloat16, memory_remedy, open_device
from theta.tokens.vocabulary import END_OF_TEXT, Vocabulary

MEMORY_ADVICE = "close other programs that use it, or load the model with device='cpu'"


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
    """

    def __init__(
        self, model: GPT2LMHeadModel, vocabulary: Vocabulary, settings: GenerationSettings | None = None
    ) -> None:
        """Use a model in memory, which is put into eval mode.

        Raises:
            GenerationError: the model has fewer embeddings than the vocabulary has tokens.
        """
        if model.config.vocab_size < vocabulary.size:
            raise GenerationError(
                f"The model has {model.config.vocab_size} embeddings and the tokenizer {vocabulary.size} tokens; "
                "they do not belong together, export the model again."
            )
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.settings = settings or GenerationSettings()
        # Columns beyond the vocabulary are the padding of a model in training.
        beyond = range(vocabulary.size, model.config.vocab_size)
        end_of_text = vocabulary.tokenizer.token_to_id(END_OF_TEXT)
        special = {id_ for token, id_ in vocabulary.special_ids.items() if token != END} | {end_of_text} - {None}
        self.suppressed_ids = sorted({*special, *beyond})

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "ThetaModel":
        """Load a folder that Theta exported, such as models/theta_final, without a network.

        Args:
            path: the folder.
            device: "auto" (a CUDA device if there is one), "cpu", "cuda", "cuda:1", ... The model is in bfloat16 on a
                CUDA device that supports it, otherwise in float32.

        Raises:
            GenerationError: the folder, a file or the device is missing, or a file is damaged.
            SettingsError: a value of its generation_config.json is out of range.
        """
        if not isinstance(path, str | PathLike):
            raise GenerationError(f"The folder of the model is {path!r}, expected a text or a path.")
        folder = Path(path).expanduser()
        check(folder)
        settings, vocabulary = read_generation_config(folder), _load_vocabulary(folder)
        share_cpus()
        return cls(_load_model(folder, _device(device)), vocabulary, settings)

    def generate(
        self,
        prompt: str,
        max_length: int | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repetition_penalty: float | None = None,
        no_repeat_ngram_size: int | None = None,
        *,
        seed: int | None = None,
    ) -> str:
        """Return the reply to one question, without the question."""
        return self.chat(
            prompt,
            seed=seed,
            max_length=max_length,
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            repetition_penalty=repetition_penalty,
            no_repeat_ngram_size=no_repeat_ngram_size,
        )

    def chat(self, messages: Prompt, *, seed: int | None = None, **parameters: Unpack[Parameters]) -> str:
        """Return the reply to a conversation: `Message`s or {"role", "content"} mappings, ending with the user's."""
        return "".join(self.stream(messages, seed=seed, **parameters))

    def stream(self, messages: Prompt, *, seed: int | None = None, **parameters: Unpack[Parameters]) -> Iterator[str]:
        """Yield the reply of `chat` in pieces as it is written; a piece never splits a character."""
        settings = self.settings.replaced(**parameters)
        steps = self._decode([self._prompt_ids(messages, settings)], settings, random_generator(seed))
        return text_pieces((id_ for [id_] in steps if id_ is not None), self.vocabulary)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        *,
        batch_size: int = 16,
        seed: int | None = None,
        **parameters: Unpack[Parameters],
    ) -> list[Reply]:
        """Return the replies to many conversations, in their order.

        Prompts of similar lengths are answered side by side. Each has its own random numbers, so `batch_size` changes
        replies by rounding only.
        """
        if not _is_number(batch_size) or batch_size < 1:
            raise SettingsError(f"batch_size is {batch_size!r}, allowed is a whole number of at least 1.")
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise GenerationError(f"The prompts are {prompts!r}, expected a list of them; `generate` takes one text.")
        settings = self.settings.replaced(**parameters)
        encoded = [self._prompt_ids(prompt, settings) for prompt in prompts]
        longest_first = sorted(range(len(encoded)), key=lambda place: -len(encoded[place]))
        generator = random_generator(seed)
        replies: dict[int, Reply] = {}
        for first in range(0, len(encoded), batch_size):
            places = longest_first[first : first + batch_size]
            steps = self._decode([encoded[place] for place in places], settings, generator)
            replies |= zip(places, map(self._reply, zip(*steps, strict=True)), strict=True)
        return [replies[place] for place in range(len(encoded))]

    def _prompt_ids(self, prompt: Prompt, settings: GenerationSettings) -> list[int]:
        positions = self.model.config.n_positions
        return fit(to_messages(prompt), self.vocabulary, positions=positions, max_length=settings.max_length)

    def _decode(
        self, prompts: Sequence[Sequence[int]], settings: GenerationSettings, generator: torch.Generator | None
    ) -> Iterator[list[int | None]]:
        with memory_remedy(self.model.device, MEMORY_ADVICE):
            yield from decode(
                self.model,
                prompts,
                settings,
                end_id=self.vocabulary.end_id,
                pad_id=self.vocabulary.pad_id,
                suppressed_ids=self.suppressed_ids,
                generator=generator,
            )

    def _reply(self, steps: Iterable[int | None]) -> Reply:
        ids = [id_ for id_ in steps if id_ is not None]
        ended = ids[-1] == self.vocabulary.end_id
        return Reply(self.vocabulary.decode(ids), len(ids) - ended, ended)


def text_pieces(ids: Iterable[int], vocabulary: Vocabulary) -> Iterator[str]:
    """Yield the text of `ids` as soon as it is certain.

    A byte-level token may end within a character, which decodes to U+FFFD until its last byte arrives; so text that
    ends in U+FFFD is held back.
    """
    seen: list[int] = []
    shown = 0
    for id_ in ids:
        seen.append(id_)
        certain = vocabulary.decode(seen).rstrip("\N{REPLACEMENT CHARACTER}")
        if len(certain) > shown:
            yield certain[shown:]
            shown = len(certain)
    if rest := vocabulary.decode(seen)[shown:]:
        yield rest


def random_generator(seed: int | None) -> torch.Generator | None:
    """Return a generator for a seed, or None, which stands for torch's global one.

    Raises:
        SettingsError: the seed is not a whole number from 0 to 2**63 - 1.
    """
    if seed is None:
        return None
    if not _is_number(seed) or not 0 <= seed < 2**63:
        raise SettingsError(f"seed is {seed!r}, allowed is a whole number from 0 to {2**63 - 1}.")
    return torch.Generator().manual_seed(seed)


def _is_number(value: object) -> bool:
    """Whether a caller's value is a whole number; for Python, True is one."""
    return isinstance(value, int) and not isinstance(value, bool)


def _device(name: str) -> torch.device:
    if not isinstance(name, str):
        raise GenerationError(f"The device is {name!r}, expected a text such as 'auto', 'cpu' or 'cuda'.")
    try:
        device = choose_device("auto") if name == "auto" else torch.device(name)
        open_device(device)
        torch.ones(1, device=device).add(1)
    except (RuntimeError, AssertionError, NotImplementedError, SettingsError) as fault:
        raise GenerationError(f"device {name!r} cannot be used ({reason(fault)}); try 'auto' or 'cpu'.") from None
    return device


def _load_vocabulary(folder: Path) -> Vocabulary:
    try:
        return Vocabulary.load(folder)
    except DataError as fault:
        raise GenerationError(str(fault)) from None


def _load_model(folder: Path, device: torch.device) -> GPT2LMHeadModel:
    logging.disable_progress_bar()  # one file, seconds at most
    half = device.type == "cuda" and has_bfloat16(device)
    try:
        model, report = GPT2LMHeadModel.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.bfloat16 if half else torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as fault:
        raise GenerationError(f"{folder} cannot be loaded ({reason(fault)}); export the model again.") from None
    # transformers fills missing weights with random numbers.
    if missing := sorted(report["missing_keys"]):
        raise GenerationError(f"{folder} lacks {len(missing)} weights, such as {missing[0]}; export the model again.")
    with memory_remedy(device, MEMORY_ADVICE):
        return model.to(device)
