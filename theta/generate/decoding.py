"""The decoding loop: one forward pass per token over a cache of keys and values, several prompts side by side.

    ids  [. . a b|x y e    ]     B prompts, V ids in the vocabulary
         [c d e f|z e      ]     left-padded ('.'), so that all replies begin in one column

A prompt whose reply has ended leaves the batch, which speeds up the others. Each prompt has its own row of random
numbers, drawn before the first token, so its reply depends neither on its neighbours nor on the size of the batch.

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
    """Write a reply to every prompt, one token per step.

    Args:
        model: in eval mode.
        prompts: B lists of ids, none empty, each shorter than the model's positions.
        settings: replies stop at `max_length` tokens, or where the model's positions end.
        end_id: the id that ends a reply; it is yielded too.
        pad_id: never produced.
        suppressed_ids: never produced either.
        generator: on the CPU, also for a model on a GPU; None selects torch's global one.

    Yields:
        The next id of each prompt, B in all; None for replies that have ended. It stops when all have ended.
    """
    positions = model.config.n_positions
    assert all(0 < len(prompt) < positions for prompt in prompts), "prompts must be fitted to the model's positions"
    batch = _Batch.of(prompts, settings.max_length, pad_id, generator, model)
    never = torch.tensor(sorted({pad_id, *suppressed_ids}), device=model.device)
    for step in range(settings.max_length):
        logits = _next_logits(model, batch).index_fill_(1, never, -torch.inf)
        logits = penalised(logits, batch.reply, settings)
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
        prompts: the index of each row's prompt.
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
        """Return the batch of all prompts, left-padded, on the device of the model."""
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
    def reply(self) -> Tensor:
        """Reply so far [R, length - begin]; it has no end token, since rows that have ended leave."""
        return self.ids[:, self.begin : self.length]

    def append(self, chosen: Tensor) -> None:
        """Append the next id of every row [R]."""
        self.ids[:, self.length] = chosen
        self.length += 1

    def keep(self, prompts: Sequence[int]) -> None:
        """Drop the rows of all other prompts."""
        if 0 < len(prompts) < len(self.prompts):
            rows = torch.tensor([self.prompts.index(prompt) for prompt in prompts], device=self.ids.device)
            self.ids, self.padding, self.noise = self.ids[rows], self.padding[rows], self.noise[rows]
            self.cache.batch_select_indices(rows)
        self.prompts = list(prompts)


def _next_logits(model: GPT2LMHeadModel, batch: _Batch) -> Tensor:
    """Return the logits [R, V] of the next tokens in float32; the cache takes in the new columns."""
    columns = torch.arange(batch.length, device=batch.ids.device)
    new = slice(batch.cache.get_seq_length(), None)
    output = model(
        batch.seen[:, new],
        batch.cache,  # by position: versions of transformers name it past_key_values, or cache
        attention_mask=columns >= batch.padding[:, None],
        position_ids=(columns[new] - batch.padding[:, None]).clamp(min=0),
        use_cache=True,
        logits_to_keep=1,
    )
    logits: Tensor = output.logits[:, -1].float()
    return logits


def penalised(logits: Tensor, reply: Tensor, settings: GenerationSettings) -> Tensor:
    """Apply the two repetition rules to logits [B, V], for the ids of the reply so far, `reply` [B, length].

    transformers applies them to the prompt as well. Theta does not: an answer needs the words of its question, and the
    prompt has an end token for every earlier message, so that replies would run on, all the more in long conversations.
    A small model trained on this project's conversations, whose replies have 62 tokens, wrote 66 tokens to a first
    question and 108 to a fifth when the end token was penalised, 57 and 69 when it was not.
    """
    if settings.repetition_penalty > 1:
        logits = repetition_penalty(logits.log_softmax(-1), reply, settings.repetition_penalty)
    if settings.no_repeat_ngram_size:
        logits = no_repeat_ngram(logits, reply, settings.no_repeat_ngram_size)
    return logits


def repetition_penalty(log_probabilities: Tensor, ids: Tensor, penalty: float) -> Tensor:
    """Multiply the log-probabilities [B, V] of `ids` [B, length] by the penalty: p becomes p ** penalty.

    The idea is that of CTRL (Keskar et al. 2019), which divides logits; transformers divides the positive ones and
    multiplies the negative ones. Both depend on the zero of the logits, which the model's probabilities do not. With
    p ** penalty a token that is nearly certain stays so, even if it was used before.
    """
    return log_probabilities.scatter(1, ids, log_probabilities.gather(1, ids) * penalty)


def no_repeat_ngram(logits: Tensor, ids: Tensor, size: int) -> Tensor:
    """Rule out every id that would end a sequence of `size` ids which `ids` [B, length] holds already.

    All places are compared with the last size - 1 ids at once. (The rule is that of Paulus et al. 2018.)
    """
    places = ids.shape[1] - size + 1
    if places <= 0:
        return logits
    repeats = torch.ones(ids.shape[0], places, dtype=torch.bool, device=ids.device)
    for offset in range(size - 1):
        repeats &= ids[:, offset : offset + places] == ids[:, places + offset, None]
    following = ids[:, size - 1 :]
    # A sum rather than a scatter: the same id may also follow where the last ids do not recur.
    return logits.scatter_add(1, following, torch.zeros_like(logits[:, :1]).masked_fill(repeats, -torch.inf))


def nucleus(logits: Tensor, settings: GenerationSettings) -> tuple[Tensor, Tensor]:
    """Apply temperature, top-k, then top-p (nucleus sampling, Holtzman et al. 2020) to logits [B, V].

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
    """Draw one id per row, [B]: where the running sum of the probabilities [B, k] exceeds uniform `noise` [B]."""
    reached = probabilities.cumsum(-1)
    index = (reached <= noise[:, None] * reached[:, -1:]).sum(-1, keepdim=True)
    return ids.gather(1, index).squeeze(1)
