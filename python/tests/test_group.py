"""Groups of workers, with and without a router."""

import asyncio
import logging

import pytest
from warmpath import KvRouter, RoutedWorkerGroup, RouterConfig


def echo(number):
    async def generate(ids):
        if ids == [0]:
            raise RuntimeError("engine")
        return number, list(ids)

    return generate


def test_without_a_router_workers_take_turns():
    group = RoutedWorkerGroup([echo(0), echo(1)], None)
    answers = asyncio.run(group.generate_batch([[1], [2], [3]]))
    assert answers == [(0, [1]), (1, [2]), (0, [3])]
    assert group.per_worker == [2, 1]


def test_a_section_that_is_off_makes_no_router():
    assert RoutedWorkerGroup.from_config([echo(0)], {"enabled": False}).router is None
    group = RoutedWorkerGroup.from_config([echo(0)] * 3, RouterConfig(enabled=True, block_size=16))
    assert group.router.num_workers == 3
    assert group.router.block_size == 16


def test_prompts_go_where_they_were_placed_and_are_freed(stand_in):
    freed = []

    def answer(path, body):
        if path == "/free":
            freed.append(body["request_id"])
            return 200, {}
        decisions = [{"worker": "1"} for _ in body["requests"]]
        return 200, {"decisions": decisions}

    group = RoutedWorkerGroup([echo(0), echo(1)], stand_in(answer, num_workers=2))
    assert asyncio.run(group.generate([7])) == (1, [7])
    answers = asyncio.run(group.generate_batch([[0], [8]]))
    assert isinstance(answers[0], RuntimeError)
    assert answers[1] == (1, [8])
    assert len(freed) == 3


def test_a_lost_router_costs_no_request(stand_in, caplog):
    router = stand_in(lambda path, body: (500, None), num_workers=2)
    group = RoutedWorkerGroup([echo(0), echo(1)], router)
    with caplog.at_level(logging.WARNING):
        assert asyncio.run(group.generate_batch([[1], [2]])) == [(0, [1]), (1, [2])]
    assert "round robin" in caplog.text


def test_a_group_and_its_router_agree_on_the_number_of_workers():
    with pytest.raises(ValueError, match="4 workers"):
        RoutedWorkerGroup([echo(0)], KvRouter(num_workers=4))
    with pytest.raises(ValueError, match="at least one"):
        RoutedWorkerGroup([], None)
