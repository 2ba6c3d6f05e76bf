"""Which worker: the KV-aware router of a training job.

The work is done by the indexer, which follows the workers' KV events and load;
this is its client, with the names that NeMo-RL's dynamic router has. Rejected:
a radix tree in Python, which would be a second index with answers of its own.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from .errors import IndexerUnavailable, RouteError
from .config import RouterConfig
from .hashing import block_hashes
from .indexer import LIMITS, Indexer, find_binary

MODEL = "default"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompt:
    """One prompt of a batch: local hashes of its full blocks, and its length in tokens."""

    hashes: Sequence[int]
    num_tokens: int
    request_id: str = ""
    """Names the request to `KvRouter.free`; made up where empty."""


@dataclass(frozen=True)
class Placement:
    """Where a prompt goes."""

    worker: int
    overlap_blocks: int
    """Leading blocks that the worker held when the batch was placed."""
    total_blocks: int
    request_id: str


class KvRouter:
    """Picks the worker whose KV cache holds the most of a prompt, unless it is too busy.

    Workers are numbered from 0. Worker i publishes KV events on
    `base_kv_events_port + i` and load metrics on `base_metrics_port + i`; one that
    publishes neither is routed to by what is in flight alone.

    With `url` an indexer that runs already is asked; else `start_background_tasks`
    starts one of its own.
    """

    def __init__(
        self,
        block_size: int = 64,
        num_workers: int = 4,
        base_kv_events_port: int = 5557,
        base_metrics_port: int = 5657,
        *,
        model: str = MODEL,
        url: str | None = None,
        binary: str | Path | None = None,
        policy: str | None = None,
    ) -> None:
        if num_workers < 1:
            raise ValueError(f"num_workers is {num_workers}; there has to be one to route to")
        if block_size < 1:
            raise ValueError(
                f"block_size is {block_size}; it has to be what the engine uses, 1 or more"
            )
        self.block_size = block_size
        self.num_workers = num_workers
        self._events = base_kv_events_port
        self._metrics = base_metrics_port
        self._model = model
        self._url = url
        self._binary = binary
        self._policy = policy
        self._turn = itertools.count()
        self._made_up = itertools.count()
        self._indexer: Indexer | None = None
        self._client: httpx.AsyncClient | None = None

    @classmethod
    def from_config(cls, config: RouterConfig, num_workers: int, **options: Any) -> KvRouter:
        """A router with a configuration's block size and ports."""
        return cls(
            config.block_size,
            num_workers,
            config.base_kv_events_port,
            config.base_metrics_port,
            **options,
        )

    async def start_background_tasks(self) -> None:
        """Starts following the workers; returns when decisions can be asked for."""
        if self._client is not None:
            return
        if self._url is not None:
            self._client = httpx.AsyncClient(base_url=self._url, timeout=10.0, limits=LIMITS)
            return
        self._indexer = await Indexer.start(find_binary(self._binary), self._configuration())
        self._client = self._indexer.client

    def _configuration(self) -> dict[str, object]:
        # Nothing here is sent to a worker's endpoint: it is the job that sends.
        workers = [
            {
                "id": str(i),
                "endpoint": f"127.0.0.1:{8100 + i}",
                "events": {"endpoint": f"tcp://127.0.0.1:{self._events + i}"},
                "load": {"zmq": f"tcp://127.0.0.1:{self._metrics + i}"},
                "health": {"interval_ms": 0},
            }
            for i in range(self.num_workers)
        ]
        models = [{"name": self._model, "block_size": self.block_size}]
        policy = {} if self._policy is None else {"policy": self._policy}
        return {"models": models, "workers": workers, **policy}

    async def shutdown(self) -> None:
        """Ends what `start_background_tasks` began. Can be called twice."""
        client, indexer = self._client, self._indexer
        self._client = self._indexer = None
        if indexer is not None:
            await indexer.stop()
        elif client is not None:
            await client.aclose()

    async def __aenter__(self) -> KvRouter:
        await self.start_background_tasks()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.shutdown()

    def hashes(self, token_ids: Sequence[int]) -> list[int]:
        """Local hashes of a prompt's full blocks."""
        return block_hashes(token_ids, self.block_size)

    def prompt(self, token_ids: Sequence[int], request_id: str = "") -> Prompt:
        """A prompt of a batch, from its token ids."""
        return Prompt(self.hashes(token_ids), len(token_ids), request_id)

    async def get_best_worker(self, hashes: Sequence[int], num_tokens: int) -> int:
        """The worker for one prompt of `num_tokens` tokens."""
        body = {"local_hashes": list(hashes), "num_tokens": num_tokens}
        best = await self._post("/find_best_worker", body)
        logger.debug(
            "worker_id: %s, overlap = %.3f (%s of %s blocks)",
            best["worker_id"],
            best["overlap"],
            best["matched_blocks"],
            len(hashes),
        )
        return int(best["worker_id"])

    async def get_worker_round_robin(self, hashes: Sequence[int], num_tokens: int) -> int:
        """The next worker in turn, whatever the prompt; takes what `get_best_worker` takes."""
        return next(self._turn) % self.num_workers

    async def route_batch(self, prompts: Sequence[Prompt]) -> list[Placement | RouteError]:
        """Places a batch as one decision: equal prefixes together up to what a worker can
        take, the rest spread. A bad prompt gets an error in its own place, and only there.
        """
        ids = [prompt.request_id or f"batch-{next(self._made_up)}" for prompt in prompts]
        requests = [
            {
                "request_id": id,
                "model": self._model,
                "tokens": prompt.num_tokens,
                "hashes": {str(self.block_size): list(prompt.hashes)},
            }
            for id, prompt in zip(ids, prompts)
        ]
        answer = await self._post("/v1/route/batch", {"requests": requests})
        return [_placement(id, decision) for id, decision in zip(ids, answer["decisions"])]

    async def free(self, request_id: str) -> None:
        """Tells that a request of `route_batch` has finished."""
        await self._post("/free", {"request_id": request_id})

    async def _post(self, path: str, body: object) -> Any:
        if self._client is None:
            raise IndexerUnavailable("the router is not running; await start_background_tasks()")
        try:
            try:
                answer = await self._client.post(path, json=body)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                # A kept connection was closed as it was used again; asking twice does no harm.
                answer = await self._client.post(path, json=body)
        except httpx.TransportError as error:
            raise IndexerUnavailable(f"the indexer does not answer: {error!r}") from error
        if answer.is_success:
            return answer.json()
        raise _error(_json(answer))


def _placement(request_id: str, decision: dict[str, Any]) -> Placement | RouteError:
    if "error" in decision:
        return _error(decision)
    blocks = decision.get("overlap_blocks", 0), decision.get("total_blocks", 0)
    return Placement(int(decision["worker"]), *blocks, request_id)


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def _error(body: Any) -> RouteError:
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return RouteError("unknown", "the indexer refused without saying why")
    return RouteError(str(error.get("code", "unknown")), str(error.get("message", "")))
