"""The choice of the next token on the GPU, in three kernels: all six generation parameters, each row with its own.

    logits [rows, V] ─ log_sum_exp ─ candidates: the likeliest of each chunk ─ choose: one id, and the row's state

It equals `theta.generate.sampling`: the repetition penalty on log-probabilities, n-grams of the reply, temperature,
top-k, top-p, and a draw by one uniform number. The rules look at a table with a mark for each row and id:
-1 for an id that the reply does not have, otherwise the last length of the reply at which the id was ruled out, or 0.
"""

import triton
import triton.language as tl

from theta.kernels.decoding import begin

CHUNK = 2048
"""Logits that a program sees at once."""
KEPT = (64, 128)
"""How many candidates of a chunk to keep: the first that is not below `top_k`, since fewer are sorted faster."""
LONGEST = 1024
"""The most tokens of a reply."""

STATE = ("id", "position", "length", "unused")
"""Columns of a row's state: its current id, that id's position, and the length of the reply."""
WHOLE = ("top_k", "no_repeat_ngram_size")
FRACTIONS = ("temperature", "top_p", "repetition_penalty")
"""Columns of a row's parameters, whole numbers and others."""


@triton.jit
def log_sum_exp(logits, never, highest, total, ids, width, CHUNK: tl.constexpr, PDL: tl.constexpr):
    """Compute the maximum of each chunk and the sum of its exponentials, leaving out the ids that never come.

    Args:
        logits: [rows, width], float32.
        never: [width], not 0 for ids that never come.
        highest, total: [rows, chunks].
        ids: how many columns of `width` there are ids for.
    """
    begin(PDL)
    chunk, row = tl.program_id(0), tl.program_id(1)
    id_ = chunk * CHUNK + tl.arange(0, CHUNK)
    allowed = (id_ < ids) & (tl.load(never + id_, mask=id_ < ids, other=1) == 0)
    x = tl.load(logits + row.to(tl.int64) * width + id_, mask=allowed, other=float("-inf"))
    top = tl.maximum(tl.max(x, 0), -1e30)
    place = row * tl.num_programs(0) + chunk
    tl.store(highest + place, top)
    tl.store(total + place, tl.sum(tl.exp(x - top), 0))


@triton.jit
def _key(value, id_):
    """Return integers that sort as the values do, and equal values by their ids, the lowest first."""
    bits = value.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    return (ordered.to(tl.int64) << 32) | (0x7FFFFFFF - id_).to(tl.int64)


@triton.jit
def _value(key):
    ordered = (key >> 32).to(tl.int32)
    return (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def candidates(
    logits, never, highest, total, marks, state, whole, fractions, slots, keys, ids, width, chunks,
    CHUNK: tl.constexpr, KEPT: tl.constexpr, CHUNKS: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Write the keys of the likeliest ids of each chunk after the repetition rules, [rows, chunks, KEPT], int64.

    Args:
        marks: [slots, width], int16; see above.
        state, whole, fractions: the rows' states and parameters, by slots.
        slots: [rows], where the state of each row is.
    """
    begin(PDL)
    chunk, row = tl.program_id(0), tl.program_id(1)
    slot = tl.load(slots + row).to(tl.int64)
    part = tl.arange(0, CHUNKS)
    tops = tl.load(highest + row * chunks + part, mask=part < chunks, other=-1e30)
    sums = tl.load(total + row * chunks + part, mask=part < chunks, other=0.0)
    top = tl.max(tops, 0)
    normaliser = top + tl.log(tl.sum(sums * tl.exp(tops - top), 0))
    id_ = chunk * CHUNK + tl.arange(0, CHUNK)
    allowed = (id_ < ids) & (tl.load(never + id_, mask=id_ < ids, other=1) == 0)
    x = tl.load(logits + row.to(tl.int64) * width + id_, mask=allowed, other=float("-inf")) - normaliser
    mark = tl.load(marks + slot * width + id_, mask=allowed, other=-1).to(tl.int32)
    length = tl.load(state + slot * 4 + 2)
    x = tl.where(mark >= 0, x * tl.load(fractions + slot * 3 + 2), x)
    ruled_out = (tl.load(whole + slot * 2 + 1) > 0) & (mark == length) & (length > 0)
    x = tl.where(ruled_out, float("-inf"), x)
    best = tl.topk(_key(x, id_), KEPT)
    tl.store(keys + (row * chunks + chunk).to(tl.int64) * KEPT + tl.arange(0, KEPT), best)


@triton.jit
def choose(
    keys, state, whole, fractions, slots, noise, replies, written, marks, width, candidates,
    KEPT: tl.constexpr, CANDIDATES: tl.constexpr, LONGEST: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Choose the next id of each row and advance the row's state.

    Args:
        keys: [rows, candidates], as `candidates` writes them.
        noise: [slots, LONGEST], uniform numbers; one for each token of the reply.
        replies: [slots, LONGEST], the reply so far.
        written: the same in the host's memory, which so needs no copy.
    """
    begin(PDL)
    row = tl.program_id(0)
    slot = tl.load(slots + row).to(tl.int64)
    place = tl.arange(0, CANDIDATES)
    lowest = tl.full([CANDIDATES], -(2**63), tl.int64)
    key = tl.load(keys + row.to(tl.int64) * candidates + place, mask=place < candidates, other=0)
    best = tl.topk(tl.where(place < candidates, key, lowest), KEPT)
    value = _value(best)
    rank = tl.arange(0, KEPT)
    inside = rank < tl.load(whole + slot * 2)
    value = tl.where(inside, value, float("-inf"))
    weight = tl.exp((value - tl.max(value, 0)) / tl.load(fractions + slot * 3))
    weight = tl.where(inside, weight, 0.0)
    probability = weight / tl.sum(weight, 0)
    top_p = tl.load(fractions + slot * 3 + 1)
    limit = tl.where(top_p >= 1, 2.0, top_p)
    before = tl.cumsum(probability, 0) - probability
    probability = tl.where((rank == 0) | (before < limit), probability, 0.0)
    reached = tl.cumsum(probability, 0)
    length = tl.load(state + slot * 4 + 2)
    wanted = tl.load(noise + slot * LONGEST + length) * tl.max(reached, 0)
    index = tl.minimum(tl.sum((reached <= wanted).to(tl.int32), 0), KEPT - 1)
    chosen = 0x7FFFFFFF - tl.sum(tl.where(rank == index, best & 0x7FFFFFFF, 0), 0).to(tl.int32)
    tl.store(written + slot * LONGEST + length, chosen)
    _advance(slot, chosen, length, state, whole, replies, marks, width, LONGEST)


@triton.jit
def _advance(slot, chosen, length, state, whole, replies, marks, width, LONGEST: tl.constexpr):
    """Append the id to the reply, and mark it and the ids that the n-grams rule out next."""
    size = tl.load(whole + slot * 2 + 1)
    reply, mark = replies + slot * LONGEST, marks + slot * width
    longer = length + 1
    begin = tl.arange(0, LONGEST)
    recurs = begin <= tl.where(size > 0, longer - size, -1)
    for offset in range(size - 1):
        one = tl.load(reply + begin + offset, mask=begin + offset < length, other=-1)
        one = tl.where(begin + offset == length, chosen, one)
        at = longer - size + 1 + offset
        other = tl.where(at == length, chosen, tl.load(reply + tl.maximum(at, 0), mask=at < length, other=-2))
        recurs = recurs & (one == other)
    last = begin + size - 1
    following = tl.load(reply + last, mask=recurs & (last < length), other=0)
    following = tl.where(last == length, chosen, following)
    tl.store(mark + chosen, tl.zeros([], tl.int16))
    tl.debug_barrier()  # the next line may mark the same id
    tl.store(mark + following, tl.zeros([LONGEST], tl.int16) + longer.to(tl.int16), mask=recurs)
    tl.store(reply + length, chosen)
    tl.store(state + slot * 4, chosen)
    tl.store(state + slot * 4 + 1, tl.load(state + slot * 4 + 1) + 1)
    tl.store(state + slot * 4 + 2, longer)
