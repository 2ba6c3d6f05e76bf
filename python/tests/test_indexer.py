"""Against the real indexer, without engines: every worker is cold and idle."""

import asyncio

import pytest
from warmpath import IndexerUnavailable, KvRouter, RouteError
from warmpath.router import Prompt


def test_it_starts_answers_and_ends(binary):
    async def run():
        router = KvRouter(block_size=16, num_workers=3, binary=binary)
        async with router:
            ids = list(range(64))
            best = await router.get_best_worker(router.hashes(ids), len(ids))
            return best, router._indexer._folder

    best, folder = asyncio.run(run())
    assert best in range(3)
    assert not folder.exists()


def test_a_batch_is_placed_and_a_bad_prompt_fails_alone(binary):
    async def run():
        async with KvRouter(block_size=16, num_workers=2, binary=binary) as router:
            same = [router.prompt(list(range(160)))] * 4
            placed = await router.route_batch([*same, Prompt([2**64], 16)])
            for place in placed[:4]:
                await router.free(place.request_id)
            return placed

    placed = asyncio.run(run())
    assert [place.total_blocks for place in placed[:4]] == [10] * 4
    assert isinstance(placed[4], RouteError)


def test_an_indexer_that_refuses_its_configuration_says_why(binary):
    router = KvRouter(binary=binary, policy="no-such-policy")
    with pytest.raises(IndexerUnavailable, match="no-such-policy"):
        asyncio.run(router.start_background_tasks())
