"""KV-cache-aware routing for jobs that hold token ids and call their workers themselves.

    async with KvRouter(block_size=64, num_workers=4) as router:
        worker = await router.get_best_worker(router.hashes(token_ids), len(token_ids))

`RoutedWorkerGroup` does the same behind the interface of a worker group.
"""

from .config import RouterConfig
from .errors import IndexerUnavailable, RouteError, WarmpathError
from .group import RoutedWorkerGroup
from .hashing import block_hashes
from .router import KvRouter, Placement, Prompt

__all__ = [
    "IndexerUnavailable",
    "KvRouter",
    "Placement",
    "Prompt",
    "RouteError",
    "RoutedWorkerGroup",
    "RouterConfig",
    "WarmpathError",
    "block_hashes",
]
