"""Token ids to block hashes, equal to those that the indexer makes of engines' events.

The *local hash* of a block is XXH3-64 over its token ids as little-endian
32-bit integers. Its seed is 1337, moved by the names of a LoRA adapter and of
a cache salt. A partial last block has no hash.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from .xxh3 import digest

SEED = 1337
_MASK = (1 << 64) - 1


def seed(adapter: str | None = None, cache_salt: str | None = None) -> int:
    """The seed of the blocks of one adapter and one cache salt; empty means none."""
    total = SEED
    for own_seed, name in enumerate((adapter, cache_salt)):
        if name:
            total += digest(name.encode(), own_seed)
    return total & _MASK


def block_hashes(
    token_ids: Sequence[int],
    block_size: int,
    *,
    adapter: str | None = None,
    cache_salt: str | None = None,
) -> list[int]:
    """Local hashes of the full blocks of a prompt, as unsigned 64-bit integers.

    Raises `ValueError` for a block size below 1 and for ids that no tokenizer has
    (negative, or of more than 32 bits).
    """
    if block_size < 1:
        raise ValueError(
            f"block_size is {block_size}; it has to be what the engine uses, 1 or more"
        )
    blocks = len(token_ids) // block_size
    try:
        packed = struct.pack(f"<{blocks * block_size}I", *token_ids[: blocks * block_size])
    except struct.error as error:
        raise ValueError(f"token ids have to be integers from 0 to 2**32 - 1: {error}") from None
    moved, size = seed(adapter, cache_salt), 4 * block_size
    return [digest(packed[at : at + size], moved) for at in range(0, len(packed), size)]
