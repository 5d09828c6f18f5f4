"""How the next token is chosen from the logits: the two repetition rules, temperature, top-k, top-p, and the draw.

It is the plain reference of the faster forms: `theta.kernels.sampling` in Triton and `cpu_sampling` in NumPy. On other
devices than the CPU, the engine in plain torch uses it itself.
"""

import torch
from torch import Tensor

from theta.generate.engine import Row, Written
from theta.generate.settings import GenerationSettings


def choose(logits: Tensor, row: Row) -> Written:
    """Return the next token of a row, whose logits are [1, V] in float32 with -inf for ids that never come."""
    reply = torch.tensor([row.reply], dtype=torch.long, device=logits.device)
    noise = torch.tensor([row.noise[len(row.reply)]], device=logits.device)
    probabilities, ids = nucleus(penalised(logits, reply, row.settings), row.settings)
    return reported(int(draw(probabilities, ids, noise)), logits[0], row.alternatives)


def reported(id_: int, logits: Tensor, alternatives: int | None) -> Written:
    """Return a token that was chosen, with log-probabilities by the model alone if they were asked for.

    Args:
        logits: [V], before the rules.
    """
    if alternatives is None:
        return Written(id_)
    scores = logits.log_softmax(-1)
    values, ids = scores.topk(alternatives)
    return Written(id_, float(scores[id_]), tuple(zip(ids.tolist(), values.tolist(), strict=True)))


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
