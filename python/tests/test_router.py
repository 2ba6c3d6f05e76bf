"""What the router asks, and what it makes of answers."""

import asyncio

import httpx
import pytest
from warmpath import IndexerUnavailable, KvRouter, Placement, Prompt, RouteError


def test_the_best_worker_is_the_indexers(stand_in):
    asked = []

    def answer(path, body):
        asked.append((path, body))
        return 200, {"worker_id": 2, "overlap": 0.5, "matched_blocks": 1}

    router = stand_in(answer)
    assert asyncio.run(router.get_best_worker([1, 2**64 - 1], 130)) == 2
    body = {"local_hashes": [1, 2**64 - 1], "num_tokens": 130}
    assert asked == [("/find_best_worker", body)]


def test_round_robin_takes_turns():
    router = KvRouter(num_workers=3)

    async def turns():
        return [await router.get_worker_round_robin([], 1) for _ in range(5)]

    assert asyncio.run(turns()) == [0, 1, 2, 0, 1]


def test_a_bad_prompt_fails_alone(stand_in):
    def answer(path, body):
        assert path == "/v1/route/batch"
        assert [request["tokens"] for request in body["requests"]] == [64, 0]
        good = {"worker": "1", "overlap_blocks": 1, "total_blocks": 1}
        bad = {"error": {"code": "bad_request", "message": "tokens must be positive"}}
        return 200, {"decisions": [good, bad]}

    router = stand_in(answer)
    placed = asyncio.run(router.route_batch([Prompt([5], 64, "a"), Prompt([], 0, "b")]))
    assert placed[0] == Placement(1, 1, 1, "a")
    assert isinstance(placed[1], RouteError)
    assert placed[1].code == "bad_request"


@pytest.mark.parametrize("failures", [1, 2])
def test_a_connection_that_was_closed_is_tried_once_more(failures):
    asked = []

    def handle(request):
        asked.append(request)
        if len(asked) <= failures:
            raise httpx.ReadError("")
        return httpx.Response(200, json={"worker_id": 1, "overlap": 0, "matched_blocks": 0})

    router = KvRouter(url="http://indexer")
    transport = httpx.MockTransport(handle)
    router._client = httpx.AsyncClient(transport=transport, base_url="http://indexer")
    if failures == 1:
        assert asyncio.run(router.get_best_worker([], 1)) == 1
    else:
        with pytest.raises(IndexerUnavailable, match="ReadError"):
            asyncio.run(router.get_best_worker([], 1))
    assert len(asked) == 2


def test_a_refusal_carries_the_code(stand_in):
    error = {"error": {"code": "no_worker", "message": "no worker is up"}}
    router = stand_in(lambda path, body: (503, error))
    with pytest.raises(RouteError, match="no worker is up") as caught:
        asyncio.run(router.get_best_worker([], 1))
    assert caught.value.code == "no_worker"


def test_asking_before_the_start_says_what_to_do():
    with pytest.raises(IndexerUnavailable, match="start_background_tasks"):
        asyncio.run(KvRouter().get_best_worker([], 1))


def test_a_missing_program_says_what_to_do():
    router = KvRouter(binary="/nowhere/warmpath-indexer")
    with pytest.raises(IndexerUnavailable, match="WARMPATH_INDEXER"):
        asyncio.run(router.start_background_tasks())


@pytest.mark.parametrize("wrong", [{"num_workers": 0}, {"block_size": 0}])
def test_impossible_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        KvRouter(**wrong)
