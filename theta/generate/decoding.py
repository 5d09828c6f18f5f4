"""The decoding loop: one forward pass a token over a cache of keys and values, several prompts side by side.

    ids  [. . a b|x y e    ]     B prompts, V ids in the vocabulary
         [c d e f|z e      ]     left-padded ('.'), so that all replies begin in one column

A prompt that has ended leaves the batch, so the others go faster. Each prompt has its own row of random numbers, drawn
before the first token: what it is answered depends neither on its neighbours nor on the size of the batch.

transformers' DynamicCache is used because rows can leave it; on a CPU its StaticCache, where they cannot, was between
13 % slower and 8 % faster.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache, GPT2LMHeadModel

from theta.generate.settings import GenerationSettings


@torch.inference_mode()
def decode(
    model: GPT2LMHeadModel,
    prompts: Sequence[Sequence[int]],
    settings: GenerationSettings,
    *,
    end_id: int,
    pad_id: int,
    suppressed_ids: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Iterator[list[int | None]]:
    """Write a reply to every prompt, a token a step.

    Args:
        model: in eval mode.
        prompts: B lists of ids, none empty, each shorter than the model's positions.
        settings: replies stop at `max_length` tokens, or where the model's positions end.
        end_id: the id that ends a reply; it is yielded too.
        pad_id: never produced.
        suppressed_ids: never produced either.
        generator: on the CPU, whatever the device of the model; None takes torch's global one.

    Yields:
        The next id of each prompt, B long; None for those that have ended. It stops when all have.
    """
    positions = model.config.n_positions
    assert all(0 < len(prompt) < positions for prompt in prompts), "prompts must be fitted to the model's positions"
    batch = _Batch.of(prompts, settings.max_length, pad_id, generator, model)
    never = torch.tensor(sorted({pad_id, *suppressed_ids}), device=model.device)
    for step in range(settings.max_length):
        logits = _next_logits(model, batch).index_fill_(1, never, -torch.inf)
        logits = penalised(logits, batch.said, settings)
        chosen = draw(*nucleus(logits, settings), batch.noise[:, step])
        batch.append(chosen)
        latest = dict(zip(batch.prompts, chosen.tolist(), strict=True))
        yield [latest.get(prompt) for prompt in range(len(prompts))]
        batch.keep(
            [prompt for prompt, id_ in latest.items() if id_ != end_id and len(prompts[prompt]) + step + 1 < positions]
        )
        if not batch.prompts:
            return


@dataclass
class _Batch:
    """The R prompts that are still being answered.

    Attributes:
        prompts: the place of each row among the prompts asked for.
        ids: [R, width]; the first `length` columns are padding, prompt and reply.
        begin: the column where replies begin.
        padding: [R], columns of padding.
        noise: [R, steps], uniform in [0, 1).
    """

    prompts: list[int]
    ids: Tensor
    begin: int
    length: int
    padding: Tensor
    noise: Tensor
    cache: DynamicCache

    @classmethod
    def of(
        cls,
        prompts: Sequence[Sequence[int]],
        steps: int,
        pad_id: int,
        generator: torch.Generator | None,
        model: GPT2LMHeadModel,
    ) -> "_Batch":
        """All prompts, left-padded, on the device of the model."""
        length = max(map(len, prompts))
        ids = torch.full((len(prompts), length + steps), pad_id)
        for row, prompt in enumerate(prompts):
            ids[row, length - len(prompt) : length] = torch.tensor(prompt)
        padding = torch.tensor([length - len(prompt) for prompt in prompts])
        noise = torch.rand(len(prompts), steps, generator=generator)
        ids, padding, noise = ids.to(model.device), padding.to(model.device), noise.to(model.device)
        return cls(list(range(len(prompts))), ids, length, length, padding, noise, DynamicCache(config=model.config))

    @property
    def seen(self) -> Tensor:
        """Padding, prompt and reply so far [R, length]."""
        return self.ids[:, : self.length]

    @property
    def said(self) -> Tensor:
        """Reply so far [R, length - begin]; it holds no end token, since a row that has ended leaves."""
        return self.ids[:, self.begin : self.length]

    def append(self, chosen: Tensor) -> None:
        """Put the next id of every row [R] behind the others."""
        self.ids[:, self.length] = chosen
        self.length += 1

    def keep(self, prompts: Sequence[int]) -> None:
        """Let the rows of all other prompts go."""
        if 0 < len(prompts) < len(self.prompts):
            rows = torch.tensor([self.prompts.index(prompt) for prompt in prompts], device=self.ids.device)
            self.ids, self.padding, self.noise = self.ids[rows], self.padding[rows], self.noise[rows]
            self.cache.batch_select_indices(rows)
        self.prompts = list(prompts)


def _next_logits(model: GPT2LMHeadModel, batch: _Batch) -> Tensor:
    """Logits [R, V] in float32 of what follows; the cache takes in what is new to it."""
    columns = torch.arange(batch.length, device=batch.ids.device)
    new = slice(batch.cache.get_seq_length(), None)
    output = model(
        batch.seen[:, new],
        batch.cache,  # by place: versions of transformers name it past_key_values, or cache
        attention_mask=columns >= batch.padding[:, None],
        position_ids=(columns[new] - batch.padding[:, None]).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def penalised(logits: Tensor, said: Tensor, settings: GenerationSettings) -> Tensor:
    """Logits [B, V] with the two repetition rules on what `said` [B, length], the reply so far, holds already.

    transformers counts the prompt too. Here it does not count: an answer needs the words of its question, and the
    prompt holds the end token once for every earlier message, so that replies would run on, the longer the
    conversation the worse. A small model trained on this project's conversations, whose replies have 62 tokens, wrote
    66 tokens to a first question and 108 to a fifth when the end token was penalised, 57 and 69 when it was not.
    """
    if settings.repetition_penalty > 1:
        logits = repetition_penalty(logits.log_softmax(-1), said, settings.repetition_penalty)
    if settings.no_repeat_ngram_size:
        logits = no_repeat_ngram(logits, said, settings.no_repeat_ngram_size)
    return logits


def repetition_penalty(log_probabilities: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Multiply the log-probabilities [B, V] of `ids` [B, length] by the penalty: p becomes p ** penalty.

    The idea is that of CTRL (Keskar et al. 2019), which divides logits; transformers divides the positive ones and
    multiplies the negative ones. Both depend on where the zero of the logits lies, of which the model's probabilities
    know nothing. With p ** penalty a token that is nearly certain stays so, although it was used before.
    """
    return log_probabilities.scatter(1, ids, log_probabilities.gather(1, ids) * penalty)


def no_repeat_ngram(logits: Tensor, ids: Tensor, size: int) -> Tensor:
    """Rule out every id that would end a sequence of `size` ids which `ids` [B, length] holds already.

    Every place is compared with the last size - 1 ids at once (Paulus et al. 2018 for the rule).
    """
    places = ids.shape[1] - size + 1
    if places <= 0:
        return logits
    repeats = torch.ones(ids.shape[0], places, dtype=torch.bool, device=ids.device)
    for offset in range(size - 1):
        repeats &= ids[:, offset : offset + places] == ids[:, places + offset, None]
    following = ids[:, size - 1 :]
    # A sum and not a plain scatter: the same id may follow where the last ids recur and also elsewhere.
    return logits.scatter_add(1, following, torch.zeros_like(logits[:, :1]).masked_fill(repeats, -torch.inf))


def nucleus(logits: Tensor, settings: GenerationSettings) -> tuple[Tensor, Tensor]:
    """Temperature, top-k, then top-p (nucleus sampling, Holtzman et al. 2020), over the top_k likeliest ids alone.

    Returns:
        Probabilities [B, k] from high to low, zero where top-p leaves an id out (so they need not sum to 1), and the
        ids [B, k] they belong to.
    """
    values, ids = logits.topk(min(settings.top_k, logits.shape[1]))
    probabilities = (values / settings.temperature).softmax(-1)
    if settings.top_p < 1:
        outside = probabilities.cumsum(-1) - probabilities >= settings.top_p
        outside[:, 0] = False
        probabilities = probabilities.masked_fill(outside, 0)
    return probabilities, ids


def draw(probabilities: Tensor, ids: Tensor, noise: Tensor) -> Tensor:
    """One id a row [B]: where the running sum of the probabilities [B, k] passes `noise` [B], uniform in [0, 1)."""
    reached = probabilities.cumsum(-1)
    index = (reached <= noise[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    return ids.gather(1, index).squeeze(1)
