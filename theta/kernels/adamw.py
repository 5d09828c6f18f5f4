"""AdamW for weights in bfloat16, as one Triton kernel: one pass over a matrix, its gradient and its moments.

Weights are rounded stochastically to one of the two neighbours, the nearer one with the greater probability. With
rounding to the nearest, an update smaller than half a step of bfloat16 (1/512 of the weight) would never have an
effect. (Zamirai et al. 2020, Revisiting BFloat16 Training.) Moments in 8 or 4 bits are codes in blocks of 128, times
the largest moment of the block (Dettmers et al. 2022; Li et al. 2023). They are rounded stochastically, too, so that
small changes are not lost.

`place` holds the indices of a program's weights, [BLOCK] or [ROWS, WIDTH] (half of WIDTH in 4 bits). Weights,
gradients, moments m and v, codes and noise have the same shape; `m_scale` and `v_scale` have [ROWS].
"""

import torch
import triton
import triton.language as tl

ROWS, WIDTH, WARPS = 8, 128, 4
"""The rows of a program, their weights (which share a scale), and its warps."""

TYPES = {torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
"""Triton's types for those of weights."""


@triton.jit
def _noise(place, seed):
    """32 random bits for each place: a multiplicative hash of it and the seed."""
    bits = (place.to(tl.uint32) * 0x9E3779B1) ^ seed.to(tl.uint32)
    bits = (bits ^ (bits >> 16)) * 0x7FEB352D
    bits = (bits ^ (bits >> 15)) * 0x846CA68B
    return bits ^ (bits >> 16)


@triton.jit
def _decode(code, highest: tl.constexpr, steps: tl.constexpr):
    """Decode 0 to `highest` to a fraction of the scale: `steps` codes per power of two, and 0 for 0."""
    return tl.where(code > 0, tl.exp2((code - highest) * (1.0 / steps)), 0.0)


@triton.jit
def _encode(fraction, odds, highest: tl.constexpr, steps: tl.constexpr):
    """Choose one of the two codes around a fraction of the scale; the mean over `odds` is the fraction."""
    below = tl.floor(tl.log2(tl.maximum(fraction, 1e-30)) * steps) + highest
    below = tl.minimum(tl.maximum(below, 0.0), highest - 1)
    low, high = _decode(below, highest, steps), _decode(below + 1, highest, steps)
    return tl.where(odds * (high - low) < fraction - low, below + 1, below)


@triton.jit
def _moments(gradient, m, v, beta1, beta2):
    return beta1 * m + (1 - beta1) * gradient, beta2 * v + (1 - beta2) * gradient * gradient


@triton.jit
def _update(weights, place, mask, weight, m, v, seed, step_size, decay, correction, eps, ROUND: tl.constexpr):
    """Write the new weights; `correction` is the bias correction of moments that began at zero."""
    weight = weight * decay - step_size * m / (tl.sqrt(v) * correction + eps)
    if ROUND:
        bits = weight.to(tl.uint32, bitcast=True) + (_noise(place, seed) >> 16)
        weight = (bits & 0xFFFF0000).to(tl.float32, bitcast=True)
    tl.store(weights + place, weight.to(weights.dtype.element_ty), mask=mask)


@triton.jit
def _fetch(weights, gradients, place, mask, factor):
    weight = tl.load(weights + place, mask=mask, other=0.0).to(tl.float32)
    return weight, tl.load(gradients + place, mask=mask, other=0.0).to(tl.float32) * factor


@triton.jit
def _numbers(numbers, step_seed, salt):
    """Load what changes from step to step; it is on the device, so that a recorded launch stays correct."""
    return tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2), tl.load(step_seed) ^ salt


@triton.jit
def _plain(weights, gradients, first, second, place, count, scale, changing, eps, beta1, beta2, ROUND: tl.constexpr):
    """Update weights whose moments have 32 bits, float32 [count]."""
    step_size, decay, correction, seed = changing
    mask = place < count
    weight, gradient = _fetch(weights, gradients, place, mask, scale)
    m, v = tl.load(first + place, mask=mask, other=0.0), tl.load(second + place, mask=mask, other=0.0)
    m, v = _moments(gradient, m, v, beta1, beta2)
    tl.store(first + place, m, mask=mask)
    tl.store(second + place, v, mask=mask)
    _update(weights, place, mask, weight, m, v, seed, step_size, decay, correction, eps, ROUND)


@triton.jit(do_not_specialize=["salt"])
def step_plain(
    weights, gradients, first, second, factor, numbers, step_seed, salt, count, eps, beta1, beta2,
    BLOCK: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Update weights whose moments have 32 bits, float32 [count]."""
    scale = tl.load(factor)
    if scale == scale:  # NaN changes nothing
        changing = _numbers(numbers, step_seed, salt)
        place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        _plain(weights, gradients, first, second, place, count, scale, changing, eps, beta1, beta2, ROUND)


@triton.jit
def step_small(
    table, factor, step_seed, eps, beta1, beta2, BLOCK: tl.constexpr, TYPE: tl.constexpr, ROUND: tl.constexpr
):  # fmt: skip
    """The same for many small tensors at once; each has addresses and numbers in an int64 table, [tensors, 7]."""
    scale = tl.load(factor)
    row = table + 7 * tl.program_id(0)
    place, count = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK), tl.load(row + 6)
    if scale == scale:
        weights, gradients = _address(row, TYPE), _address(row + 1, TYPE)
        first, second = _address(row + 2, tl.float32), _address(row + 3, tl.float32)
        changing = _numbers(_address(row + 4, tl.float32), step_seed, tl.load(row + 5).to(tl.int32))
        _plain(weights, gradients, first, second, place, count, scale, changing, eps, beta1, beta2, ROUND)


@triton.jit
def _address(entry, TYPE: tl.constexpr):
    return tl.load(entry).to(tl.pointer_type(TYPE))


@triton.jit(do_not_specialize=["salt"])
def step_8bit(
    weights, gradients, first, second, first_scale, second_scale, factor, numbers, step_seed, salt, count, eps,
    beta1, beta2,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Update weights whose moments have 8 bits, int8 and uint8 [count], scales float32 [count / WIDTH]."""
    scale = tl.load(factor)
    if scale == scale:
        step_size, decay, correction, seed = _numbers(numbers, step_seed, salt)
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        place = row[:, None] * WIDTH + tl.arange(0, WIDTH)[None, :]
        mask = place < count
        weight, gradient = _fetch(weights, gradients, place, mask, scale)
        there = row * WIDTH < count
        m_scale = tl.load(first_scale + row, mask=there, other=0.0)
        v_scale = tl.load(second_scale + row, mask=there, other=0.0)
        code = tl.load(first + place, mask=mask, other=0).to(tl.float32)
        m = tl.where(code < 0, -1.0, 1.0) * _decode(tl.abs(code), 127, 8) * m_scale[:, None]
        v = _decode(tl.load(second + place, mask=mask, other=0).to(tl.float32), 255, 10) * v_scale[:, None]
        m, v = _moments(gradient, m, v, beta1, beta2)
        _update(weights, place, mask, weight, m, v, seed, step_size, decay, correction, eps, ROUND)
        noise = _noise(place, seed + 1)
        m_scale, v_scale = tl.max(tl.abs(m), 1), tl.max(v, 1)
        fraction = tl.abs(m) / tl.maximum(m_scale, 1e-30)[:, None]
        code = _encode(fraction, (noise & 0xFFFF).to(tl.float32) * (1 / 65536), 127, 8)
        tl.store(first + place, tl.where(m < 0, -code, code).to(tl.int8), mask=mask)
        fraction = v / tl.maximum(v_scale, 1e-30)[:, None]
        code = _encode(fraction, (noise >> 16).to(tl.float32) * (1 / 65536), 255, 10)
        code = tl.where(v > 0, tl.maximum(code, 1.0), code)  # a second moment of 0 would divide by zero
        tl.store(second + place, code.to(tl.uint8), mask=mask)
        tl.store(first_scale + row, m_scale, mask=there)
        tl.store(second_scale + row, v_scale, mask=there)


@triton.jit
def _load_4bit(first, second, byte, mask, m_scale, v_scale, shift: tl.constexpr):
    """Load the moments whose codes are in the lower (shift 0) or upper (shift 4) half of the bytes."""
    code = ((tl.load(first + byte, mask=mask, other=0).to(tl.int32) >> shift) & 15).to(tl.float32)
    m = tl.where(code > 7, -1.0, 1.0) * _decode(tl.where(code > 7, code - 8, code), 7, 1) * m_scale
    code = ((tl.load(second + byte, mask=mask, other=0).to(tl.int32) >> shift) & 15).to(tl.float32)
    return m, _decode(code, 15, 1.3333) * v_scale


@triton.jit
def _codes_4bit(m, v, m_scale, v_scale, noise):
    code = _encode(tl.abs(m) / tl.maximum(m_scale, 1e-30), (noise & 0xFFFF).to(tl.float32) * (1 / 65536), 7, 1)
    m_code = tl.where(m < 0, code + 8, code).to(tl.int32)
    code = _encode(v / tl.maximum(v_scale, 1e-30), (noise >> 16).to(tl.float32) * (1 / 65536), 15, 1.3333)
    return m_code, tl.where(v > 0, tl.maximum(code, 1.0), code).to(tl.int32)


@triton.jit(do_not_specialize=["salt"])
def step_4bit(
    weights, gradients, first, second, first_scale, second_scale, factor, numbers, step_seed, salt, count, eps,
    beta1, beta2,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, ROUND: tl.constexpr,
):  # fmt: skip
    """Update weights whose moments have 4 bits, uint8 [count / 2]: a byte holds those of two, half a block apart."""
    scale = tl.load(factor)
    if scale == scale:
        step_size, decay, correction, seed = _numbers(numbers, step_seed, salt)
        half: tl.constexpr = WIDTH // 2
        row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        there = row * WIDTH < count
        column = tl.arange(0, half)[None, :]
        byte = row[:, None] * half + column
        stored = there[:, None] & (column < half)
        low_place = row[:, None] * WIDTH + column
        high_place = low_place + half
        low_mask, high_mask = low_place < count, high_place < count
        m_scale = tl.load(first_scale + row, mask=there, other=0.0)[:, None]
        v_scale = tl.load(second_scale + row, mask=there, other=0.0)[:, None]
        low_weight, low_gradient = _fetch(weights, gradients, low_place, low_mask, scale)
        high_weight, high_gradient = _fetch(weights, gradients, high_place, high_mask, scale)
        low_m, low_v = _load_4bit(first, second, byte, stored, m_scale, v_scale, 0)
        high_m, high_v = _load_4bit(first, second, byte, stored, m_scale, v_scale, 4)
        low_m, low_v = _moments(low_gradient, low_m, low_v, beta1, beta2)
        high_m, high_v = _moments(high_gradient, high_m, high_v, beta1, beta2)
        _update(weights, low_place, low_mask, low_weight, low_m, low_v, seed, step_size, decay, correction, eps, ROUND)
        _update(
            weights, high_place, high_mask, high_weight, high_m, high_v, seed, step_size, decay, correction, eps, ROUND
        )
        m_scale = tl.maximum(tl.max(tl.abs(low_m), 1), tl.max(tl.abs(high_m), 1))
        v_scale = tl.maximum(tl.max(low_v, 1), tl.max(high_v, 1))
        low = _codes_4bit(low_m, low_v, m_scale[:, None], v_scale[:, None], _noise(low_place, seed + 1))
        high = _codes_4bit(high_m, high_v, m_scale[:, None], v_scale[:, None], _noise(high_place, seed + 1))
        tl.store(first + byte, (low[0] | (high[0] << 4)).to(tl.uint8), mask=stored)
        tl.store(second + byte, (low[1] | (high[1] << 4)).to(tl.uint8), mask=stored)
        tl.store(first_scale + row, m_scale, mask=there)
        tl.store(second_scale + row, v_scale, mask=there)
