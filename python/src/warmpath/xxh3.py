"""XXH3-64 in plain Python.

Block hashes have to equal those of the indexer bit for bit, and the package
carries no compiled code, so that it installs beside any training stack. Where
the ``xxhash`` package is there it computes the same some 50 times as fast and
is used instead; `digest` is the one entry.

The formulas are those of the XXH3 specification (xxHash 0.8), the default
secret with a 64-bit seed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

_MASK = (1 << 64) - 1
_PRIME32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_PRIME64 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
_PRIME_MX1 = 0x165667919E3779F9
_PRIME_MX2 = 0x9FB21C651E98DF25
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_STRIPE = 64
_STRIPES_PER_BLOCK = (len(_SECRET) - _STRIPE) // 8
_MID_SIZE = 240


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _swap32(value: int) -> int:
    return int.from_bytes(value.to_bytes(4, "little"), "big")


def _swap64(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def _rotate(value: int, bits: int) -> int:
    return ((value << bits) | (value >> (64 - bits))) & _MASK


def _fold(left: int, right: int) -> int:
    product = left * right
    return (product & _MASK) ^ (product >> 64)


def _avalanche(value: int) -> int:
    value ^= value >> 37
    value = value * _PRIME_MX1 & _MASK
    return value ^ (value >> 32)


def _avalanche64(value: int) -> int:
    value ^= value >> 33
    value = value * _PRIME64[1] & _MASK
    value ^= value >> 29
    value = value * _PRIME64[2] & _MASK
    return value ^ (value >> 32)


def _mix16(data: bytes, at: int, secret_at: int, seed: int) -> int:
    low = (_u64(_SECRET, secret_at) + seed) & _MASK
    high = (_u64(_SECRET, secret_at + 8) - seed) & _MASK
    return _fold(_u64(data, at) ^ low, _u64(data, at + 8) ^ high)


def _up_to_16(data: bytes, seed: int) -> int:
    size = len(data)
    if size > 8:
        low_flip = ((_u64(_SECRET, 24) ^ _u64(_SECRET, 32)) + seed) & _MASK
        high_flip = ((_u64(_SECRET, 40) ^ _u64(_SECRET, 48)) - seed) & _MASK
        low = _u64(data, 0) ^ low_flip
        high = _u64(data, size - 8) ^ high_flip
        return _avalanche((size + _swap64(low) + high + _fold(low, high)) & _MASK)
    if size > 3:
        seed ^= _swap32(seed & 0xFFFFFFFF) << 32
        flip = ((_u64(_SECRET, 8) ^ _u64(_SECRET, 16)) - seed) & _MASK
        value = (_u32(data, size - 4) + (_u32(data, 0) << 32)) ^ flip
        value ^= _rotate(value, 49) ^ _rotate(value, 24)
        value = value * _PRIME_MX2 & _MASK
        value ^= (value >> 35) + size
        value = value * _PRIME_MX2 & _MASK
        return value ^ (value >> 28)
    if size > 0:
        combined = (data[0] << 16) | (data[size >> 1] << 24) | data[-1] | (size << 8)
        flip = ((_u32(_SECRET, 0) ^ _u32(_SECRET, 4)) + seed) & _MASK
        return _avalanche64(combined ^ flip)
    return _avalanche64(seed ^ _u64(_SECRET, 56) ^ _u64(_SECRET, 64))


def _up_to_128(data: bytes, seed: int) -> int:
    size = len(data)
    total = size * _PRIME64[0]
    for pair in range((size - 1) // 32, -1, -1):
        total += _mix16(data, 16 * pair, 32 * pair, seed)
        total += _mix16(data, size - 16 * (pair + 1), 32 * pair + 16, seed)
    return _avalanche(total & _MASK)


def _up_to_240(data: bytes, seed: int) -> int:
    size = len(data)
    total = size * _PRIME64[0]
    for part in range(8):
        total += _mix16(data, 16 * part, 16 * part, seed)
    total = _avalanche(total & _MASK)
    for part in range(8, size // 16):
        total += _mix16(data, 16 * part, 16 * (part - 8) + 3, seed)
    total += _mix16(data, size - 16, 136 - 17, seed)
    return _avalanche(total & _MASK)


def _seeded_secret(seed: int) -> bytes:
    words = struct.unpack("<24Q", _SECRET)
    signs = (seed, -seed)
    return struct.pack("<24Q", *((word + signs[i & 1]) & _MASK for i, word in enumerate(words)))


def _long(data: bytes, seed: int) -> int:
    secret = _seeded_secret(seed)
    keys = [struct.unpack_from("<8Q", secret, 8 * i) for i in range(_STRIPES_PER_BLOCK)]
    scramble = struct.unpack_from("<8Q", secret, len(secret) - _STRIPE)
    accumulators = [
        _PRIME32[2], _PRIME64[0], _PRIME64[1], _PRIME64[2],
        _PRIME64[3], _PRIME32[1], _PRIME64[4], _PRIME32[0],
    ]  # fmt: skip

    def accumulate(at: int, key: tuple[int, ...]) -> None:
        lanes = struct.unpack_from("<8Q", data, at)
        for i, lane in enumerate(lanes):
            mixed = lane ^ key[i]
            accumulators[i ^ 1] = (accumulators[i ^ 1] + lane) & _MASK
            product = (mixed & 0xFFFFFFFF) * (mixed >> 32)
            accumulators[i] = (accumulators[i] + product) & _MASK

    size = len(data)
    stripes = (size - 1) // _STRIPE
    for stripe in range(stripes):
        place = stripe % _STRIPES_PER_BLOCK
        accumulate(_STRIPE * stripe, keys[place])
        if place == _STRIPES_PER_BLOCK - 1:
            for i, value in enumerate(accumulators):
                value ^= (value >> 47) ^ scramble[i]
                accumulators[i] = value * _PRIME32[0] & _MASK
    accumulate(size - _STRIPE, struct.unpack_from("<8Q", secret, len(secret) - _STRIPE - 7))

    total = size * _PRIME64[0]
    merge = struct.unpack_from("<8Q", secret, 11)
    for i in range(0, 8, 2):
        total += _fold(accumulators[i] ^ merge[i], accumulators[i + 1] ^ merge[i + 1])
    return _avalanche(total & _MASK)


def pure(data: bytes, seed: int = 0) -> int:
    """XXH3-64 of `data`, without the ``xxhash`` package."""
    seed &= _MASK
    for limit, short in ((16, _up_to_16), (128, _up_to_128), (_MID_SIZE, _up_to_240)):
        if len(data) <= limit:
            return short(data, seed)
    return _long(data, seed)


def _choose() -> Callable[[bytes, int], int]:
    try:
        from xxhash import xxh3_64_intdigest
    except ImportError:
        return pure
    return xxh3_64_intdigest


digest: Callable[[bytes, int], int] = _choose()
"""XXH3-64 of bytes with a seed, by the fastest way there is."""
