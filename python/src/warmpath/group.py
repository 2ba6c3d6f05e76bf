"""Workers behind a router: what a training loop calls instead of its worker group."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from .config import RouterConfig
from .errors import RouteError, WarmpathError
from .router import KvRouter, Placement

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Generate = Callable[[Sequence[int]], Awaitable[Answer]]
"""Generates from token ids on one worker."""


class RoutedWorkerGroup(Generic[Answer]):
    """Sends each prompt to the worker that its prefix is warm on.

    `workers[i]` generates on worker i. Without a router the workers take turns.
    """

    def __init__(self, workers: Sequence[Generate[Answer]], router: KvRouter | None) -> None:
        if not workers:
            raise ValueError("a group needs at least one worker")
        if router is not None and router.num_workers != len(workers):
            raise ValueError(f"the router knows {router.num_workers} workers, not {len(workers)}")
        self.workers = list(workers)
        self.router = router
        self.per_worker = [0] * len(workers)
        """Requests that each worker was sent."""
        self._turn = 0

    @classmethod
    def from_config(
        cls,
        workers: Sequence[Generate[Answer]],
        config: RouterConfig | Mapping[str, Any],
        **options: Any,
    ) -> RoutedWorkerGroup[Answer]:
        """A group with the router that a configuration's `router:` section asks for."""
        if not isinstance(config, RouterConfig):
            config = RouterConfig.from_mapping(config)
        router = KvRouter.from_config(config, len(workers), **options) if config.enabled else None
        return cls(workers, router)

    async def start(self) -> None:
        """Starts the router, where there is one."""
        if self.router is not None:
            await self.router.start_background_tasks()

    async def shutdown(self) -> None:
        """Ends the router."""
        if self.router is not None:
            await self.router.shutdown()

    async def generate(self, token_ids: Sequence[int]) -> Answer:
        """Generates from one prompt."""
        answer = (await self.generate_batch([token_ids]))[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def generate_batch(
        self, prompts: Sequence[Sequence[int]]
    ) -> list[Answer | BaseException]:
        """Generates from all prompts at once, placed as one decision.

        A prompt that can not be placed, or whose worker fails, has its exception in its place.
        """
        placed = await self._place(prompts)
        return await asyncio.gather(
            *(self._generate(place, ids) for place, ids in zip(placed, prompts)),
            return_exceptions=True,
        )

    async def _place(self, prompts: Sequence[Sequence[int]]) -> list[Placement | RouteError]:
        if self.router is not None:
            try:
                return await self.router.route_batch([self.router.prompt(ids) for ids in prompts])
            except WarmpathError as error:
                # A batch of training never fails because of its router.
                logger.warning("routing round robin: %s", error)
        return [self._next() for _ in prompts]

    def _next(self) -> Placement:
        worker = self._turn % len(self.workers)
        self._turn += 1
        return Placement(worker, 0, 0, "")

    async def _generate(self, place: Placement | RouteError, ids: Sequence[int]) -> Answer:
        if isinstance(place, RouteError):
            raise place
        self.per_worker[place.worker] += 1
        try:
            return await self.workers[place.worker](ids)
        finally:
            if self.router is not None and place.request_id:
                await self._free(self.router, place.request_id)

    async def _free(self, router: KvRouter, request_id: str) -> None:
        try:
            await router.free(request_id)
        except WarmpathError as error:
            # The indexer forgets a request by its age as well.
            logger.debug("request %s was not reported as finished: %s", request_id, error)
