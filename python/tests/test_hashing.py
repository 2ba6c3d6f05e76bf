"""Block hashes equal Dynamo's published vectors, with and without the xxhash package."""

import random

import pytest
import xxhash
from warmpath import block_hashes
from warmpath import hashing, xxh3

VECTORS = [
    (range(4), 4, [9143094415614847814]),
    (range(1, 13), 4, [14643705804678351452, 16777012769546811212, 483935686894639516]),
    (range(35), 16, [15310707395893867146, 15292316782987903195]),
    (range(64), 64, [3480597578098033343]),
    ([100] * 32, 32, [869096747401009017]),
    ([2**32 - 1] * 4, 4, [12410542959481710713]),
    ([], 4, []),
    ([1, 2], 4, []),
]


@pytest.mark.parametrize(("tokens", "block_size", "expected"), VECTORS)
@pytest.mark.parametrize("digest", [xxh3.pure, xxhash.xxh3_64_intdigest])
def test_local_hashes_match_dynamo(monkeypatch, digest, tokens, block_size, expected):
    monkeypatch.setattr(hashing, "digest", digest)
    assert block_hashes(list(tokens), block_size) == expected


def test_adapter_and_salt_move_the_seed():
    tokens = [0, 1, 2, 3]
    assert block_hashes(tokens, 4, adapter="adapter-a") == [6665157333201000639]
    assert block_hashes(tokens, 4, cache_salt="tenant-a") == [17009624042690211646]
    both = block_hashes(tokens, 4, adapter="adapter-a", cache_salt="tenant-a")
    assert both == [8269515957840517240]
    assert hashing.seed("", "") == hashing.SEED


def test_plain_python_equals_the_library_at_every_length_class():
    source = random.Random(7)
    lengths = [*range(0, 300), *range(960, 1100), 2048, 4097]
    for length in lengths:
        data = source.randbytes(length)
        for seed in (0, hashing.SEED, 2**64 - 1):
            assert xxh3.pure(data, seed) == xxhash.xxh3_64_intdigest(data, seed), (length, seed)


@pytest.mark.parametrize("tokens", [[-1, 0], [2**32, 0], ["a", "b"], [0.5, 1]])
def test_ids_that_no_tokenizer_has_are_refused(tokens):
    with pytest.raises(ValueError, match="token ids"):
        block_hashes(tokens, 2)


def test_a_block_size_below_one_is_refused():
    with pytest.raises(ValueError, match="block_size"):
        block_hashes([1], 0)
