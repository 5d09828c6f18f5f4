"""One token through GPT-2's blocks on the GPU, while the cache of keys and values stays where it is.

    embed ─ [ norm, QKV ─ attend ─ merge, product, + ─ norm, product, GELU ─ product, + ] x layers ─ norm, product

At batch 1 all time goes into reading the weights. A program of `product` takes a few whole rows of a matrix stored
[out, in], and with dependent launch (Hopper) it loads them before the results of the kernel before are there. The
residual stream is float32. Attention is divided over parts of the cache, which the next product merges
(FlashDecoding, Dao et al. 2023).
"""

import triton
import triton.language as tl


@triton.jit
def launch_next(PDL: tl.constexpr):
    """Let the next kernel begin as far as it can without the results of this one."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()


@triton.jit
def wait(PDL: tl.constexpr):
    """Wait for the results of the kernel before."""
    if PDL:
        tl.extra.cuda.gdc_wait()


@triton.jit
def begin(PDL: tl.constexpr):
    """Let the next kernel begin, and wait for the one before."""
    launch_next(PDL)
    wait(PDL)


@triton.jit
def embed(tokens, positions, state, slots, output, WIDTH: tl.constexpr, PADDED: tl.constexpr, PDL: tl.constexpr):
    """Write the embedding of each row's current id at its position, float32 [rows, WIDTH]."""
    begin(PDL)
    row, column = tl.program_id(0), tl.arange(0, PADDED)
    slot, mask = tl.load(slots + row).to(tl.int64), column < WIDTH
    id_, position = tl.load(state + slot * 4).to(tl.int64), tl.load(state + slot * 4 + 1)
    x = tl.load(tokens + id_ * WIDTH + column, mask=mask, other=0.0).to(tl.float32)
    x += tl.load(positions + position * WIDTH + column, mask=mask, other=0.0).to(tl.float32)
    tl.store(output + row * WIDTH + column, x, mask=mask)


@triton.jit
def normalise(x, gain, shift, mask, epsilon, WIDTH: tl.constexpr):
    """The layer norm of one row; all of them [PADDED]."""
    mean = tl.sum(x, 0) / WIDTH
    x = tl.where(mask, x - mean, 0.0)
    return x * tl.rsqrt(tl.sum(x * x, 0) / WIDTH + epsilon) * gain + shift


@triton.jit
def merged(
    parts, peaks, sums, row, column, mask, last,
    HEADS: tl.constexpr, HEAD: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, PART: tl.constexpr,
):  # fmt: skip
    """Join the parts of a row's attention up to the position `last`, [PADDED]."""
    head = column // HEAD
    first = row * PARTS * HEADS
    peak = tl.full([PADDED], -1e30, tl.float32)
    total = tl.zeros([PADDED], tl.float32)
    x = tl.zeros([PADDED], tl.float32)
    for part in range(last // PART + 1):
        place = first + part * HEADS + head
        one = tl.load(peaks + place, mask=mask, other=-1e30)
        higher = tl.maximum(peak, one)
        shrink, grow = tl.exp(peak - higher), tl.exp(one - higher)
        total = total * shrink + tl.load(sums + place, mask=mask, other=0.0) * grow
        value = tl.load(parts + (first + part * HEADS).to(tl.int64) * HEAD + column, mask=mask, other=0.0)
        x = x * shrink + value * grow
        peak = higher
    return x / tl.where(mask, total, 1.0)


@triton.jit
def merge(
    parts, peaks, sums, state, slots, output,
    HEADS: tl.constexpr, HEAD: tl.constexpr, PARTS: tl.constexpr, PADDED: tl.constexpr, PART: tl.constexpr,
    PDL: tl.constexpr,
):  # fmt: skip
    """Join the parts of each row's attention, [rows, HEADS * HEAD]."""
    begin(PDL)
    row, column = tl.program_id(0), tl.arange(0, PADDED)
    mask = column < HEADS * HEAD
    last = tl.load(state + tl.load(slots + row).to(tl.int64) * 4 + 1)
    x = merged(parts, peaks, sums, row, column, mask, last, HEADS, HEAD, PARTS, PADDED, PART)
    tl.store(output + row * (HEADS * HEAD) + column, x.to(output.dtype.element_ty), mask=mask)


@triton.jit
def add_norm(
    x, added, gain, shift, output, epsilon,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, ADD: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Add to the residual stream x [rows, WIDTH] in place, and write its layer norm."""
    begin(PDL)
    row, column = tl.program_id(0), tl.arange(0, PADDED)
    mask, place = column < WIDTH, row * WIDTH + column
    values = tl.load(x + place, mask=mask, other=0.0)
    if ADD:
        values += tl.load(added + place, mask=mask, other=0.0).to(tl.float32)
        tl.store(x + place, values, mask=mask)
    g = tl.load(gain + column, mask=mask, other=0.0)
    s = tl.load(shift + column, mask=mask, other=0.0)
    values = normalise(values, g, s, mask, epsilon, WIDTH)
    tl.store(output + place, values.to(output.dtype.element_ty), mask=mask)


@triton.jit
def product(
    x, weight, bias, gain, shift, parts, peaks, sums, state, slots, output, rows, epsilon,
    IN: tl.constexpr, PADDED: tl.constexpr, ROWS: tl.constexpr,
    NORM: tl.constexpr, MERGE: tl.constexpr, GELU: tl.constexpr, ADD: tl.constexpr, BIAS: tl.constexpr,
    HEADS: tl.constexpr, HEAD: tl.constexpr, PARTS: tl.constexpr, PART: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Multiply the vector of one reply by a matrix.

    Args:
        x: [IN], float32; not read with MERGE, which takes the parts of the attention.
        weight: [rows, IN].
        output: [rows], float32; with ADD, the product is added to it.
    """
    launch_next(PDL)
    row, column = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, PADDED)
    mask = column < IN
    # Weights do not depend on the kernel before, so they are on their way while it still runs.
    place = row.to(tl.int64)[:, None] * IN + column[None, :]
    w = tl.load(weight + place, mask=(row < rows)[:, None] & mask[None, :], other=0.0)
    if BIAS:
        b = tl.load(bias + row, mask=row < rows, other=0.0).to(tl.float32)
    if NORM:
        g = tl.load(gain + column, mask=mask, other=0.0)
        s = tl.load(shift + column, mask=mask, other=0.0)
    if MERGE:  # no kernel of this step but the last changes the state
        last = tl.load(state + tl.load(slots).to(tl.int64) * 4 + 1)
    wait(PDL)
    if MERGE:
        values = merged(parts, peaks, sums, 0, column, mask, last, HEADS, HEAD, PARTS, PADDED, PART)
    else:
        values = tl.load(x + column, mask=mask, other=0.0)
    if NORM:
        values = normalise(values, g, s, mask, epsilon, IN)
    y = tl.sum(w.to(tl.float32) * values[None, :], 1)
    if BIAS:
        y += b
    if GELU:  # the approximation of GPT-2, its tanh written as a sigmoid
        y = y / (1 + tl.exp((y + y * y * y * 0.044715) * -1.5957691216057308))
    if ADD:
        y += tl.load(output + row, mask=row < rows, other=0.0)
    tl.store(output + row, y, mask=row < rows)


@triton.jit
def cached(keys, values, at, stop, column, HEAD: tl.constexpr):
    """Load the keys and the values of the positions `at` before `stop`, both [BLOCK, PADDED]."""
    place, mask = at[:, None] * HEAD + column[None, :], (at < stop)[:, None] & (column < HEAD)[None, :]
    return tl.load(keys + place, mask=mask, other=0.0), tl.load(values + place, mask=mask, other=0.0)


@triton.jit
def attend(
    qkv, cache, state, slots, parts, peaks, sums, scale, slot_stride,
    HEADS: tl.constexpr, HEAD: tl.constexpr, PADDED: tl.constexpr, POSITIONS: tl.constexpr,
    PARTS: tl.constexpr, PART: tl.constexpr, BLOCK: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """Append each row's key and value to the cache, and attend to a part of it.

    Args:
        qkv: [rows, 3 * HEADS * HEAD].
        cache: of this layer, [slots, 2, HEADS, POSITIONS, HEAD], `slot_stride` apart.
        parts: [rows, PARTS, HEADS, HEAD], weighted sums of values, float32.
        peaks, sums: [rows, PARTS, HEADS], the largest score and the sum of the weights.
    """
    launch_next(PDL)
    head, part, row = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    slot = tl.load(slots + row).to(tl.int64)
    now = tl.load(state + slot * 4 + 1)
    column = tl.arange(0, PADDED)
    wide = column < HEAD
    keys = cache + slot * slot_stride + head * (POSITIONS * HEAD)
    values = keys + HEADS * POSITIONS * HEAD
    # What earlier steps have cached is on its way before the queries are there.
    stop = tl.minimum((part + 1) * PART, now + 1)
    k, v = cached(keys, values, part * PART + tl.arange(0, BLOCK), tl.minimum(stop, now), column, HEAD)
    wait(PDL)
    if part * PART <= now:
        new = qkv + row.to(tl.int64) * (3 * HEADS * HEAD) + head * HEAD + column
        q = tl.load(new, mask=wide, other=0.0).to(tl.float32) * scale
        k_new = tl.load(new + HEADS * HEAD, mask=wide, other=0.0).to(cache.dtype.element_ty)
        v_new = tl.load(new + 2 * HEADS * HEAD, mask=wide, other=0.0).to(cache.dtype.element_ty)
        if part == now // PART:
            tl.store(keys + now * HEAD + column, k_new, mask=wide)
            tl.store(values + now * HEAD + column, v_new, mask=wide)
        peak = tl.full([], -1e30, tl.float32)
        total = tl.zeros([], tl.float32)
        x = tl.zeros([PADDED], tl.float32)
        for first in range(part * PART, stop, BLOCK):
            at = first + tl.arange(0, BLOCK)
            current = (at == now)[:, None]
            k, v = tl.where(current, k_new[None, :], k), tl.where(current, v_new[None, :], v)
            score = tl.sum(q[None, :] * k.to(tl.float32), 1)
            score = tl.where(at <= now, score, -1e30)
            higher = tl.maximum(peak, tl.max(score, 0))
            shrink, weight = tl.exp(peak - higher), tl.exp(score - higher)
            total = total * shrink + tl.sum(weight, 0)
            x = x * shrink + tl.sum(weight[:, None] * v.to(tl.float32), 0)
            peak = higher
            k, v = cached(keys, values, at + BLOCK, tl.minimum(stop, now), column, HEAD)
        target = (row * PARTS + part) * HEADS + head
        tl.store(peaks + target, peak)
        tl.store(sums + target, total)
        tl.store(parts + target.to(tl.int64) * HEAD + column, x, mask=wide)
