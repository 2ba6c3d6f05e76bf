"""GRPO-like rollouts on simulated workers: KV-aware routing against round robin.

Each iteration takes `--batch-size` prompts: groups of 8 samples of one prompt, as GRPO draws
them, over `--turns` turns (an environment's answer makes the next prompt of the sample longer).
Every mode sees prompts of its own, so no mode finds a cache that another one filled.

    cargo build -p warmpath-indexer -p warmpath-simworker
    PATH=$PWD/target/debug:$PATH python python/examples/grpo_rollouts.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from warmpath import KvRouter, Placement, RoutedWorkerGroup, RouterConfig

GROUP = 8
MODEL = Path(__file__).resolve().parents[2] / "tests/models/tiny"
VOCABULARY = 8000
ANSWER_TOKENS = 8
MODES = ("round-robin", "simple", "manual", "integrated")


@dataclass
class Result:
    """What one mode cost."""

    mode: str
    seconds: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    requests: int = 0
    routing_ms: tuple[float, float] | None = None
    per_worker: list[int] = field(default_factory=list)


class Engine:
    """One worker, reached by HTTP."""

    def __init__(self, client: httpx.AsyncClient, url: str, result: Result) -> None:
        self._client, self._url, self._result = client, url, result

    async def __call__(self, ids: Sequence[int]) -> list[int]:
        body = {"model": "policy", "prompt": list(ids), "max_tokens": ANSWER_TOKENS}
        answer = await self._client.post(f"{self._url}/v1/completions", json=body)
        usage = answer.raise_for_status().json()["usage"]
        self._result.requests += 1
        self._result.prompt_tokens += usage["prompt_tokens"]
        self._result.cached_tokens += (usage["prompt_tokens_details"] or {})["cached_tokens"]
        return [random.randrange(VOCABULARY) for _ in range(ANSWER_TOKENS)]


@contextlib.asynccontextmanager
async def simulated_workers(args: argparse.Namespace) -> AsyncIterator[list[str]]:
    """Starts the workers; their HTTP addresses."""
    process = await asyncio.create_subprocess_exec(
        "warmpath-simworker",
        *("--model-path", str(args.model_path), "--served-model-name", "policy"),
        *("--num-workers", str(args.num_workers), "--block-size", str(args.block_size)),
        *("--base-http-port", str(args.base_http_port)),
        *("--base-kv-events-port", str(args.base_kv_events_port)),
        *("--base-replay-port", str(args.base_kv_events_port + 200)),
        *("--base-metrics-port", str(args.base_metrics_port)),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        for _ in range(args.num_workers):
            if not await asyncio.wait_for(process.stdout.readline(), 30):
                raise SystemExit("warmpath-simworker did not start; see its message above")
        yield [f"http://127.0.0.1:{args.base_http_port + i}" for i in range(args.num_workers)]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def new_prompts(args: argparse.Namespace, seed: str) -> list[list[int]]:
    source = random.Random(seed)
    prompts: list[list[int]] = []
    for _ in range(args.batch_size // GROUP):
        prompt = [source.randrange(VOCABULARY) for _ in range(args.seq_len)]
        prompts += [list(prompt) for _ in range(GROUP)]
    # A trainer shuffles its batch; in order, round robin would look worse than it is.
    source.shuffle(prompts)
    return prompts


async def generate(
    mode: str, group: RoutedWorkerGroup[list[int]], prompts: list[list[int]], result: Result
) -> list[list[int]]:
    """One turn of a batch, in the way of the mode."""
    if mode != "manual":
        answers = await group.generate_batch(prompts)
        failed = [answer for answer in answers if isinstance(answer, BaseException)]
        if failed:
            raise SystemExit(f"{mode}: {len(failed)} requests failed, first with {failed[0]!r}")
        return [answer for answer in answers if not isinstance(answer, BaseException)]
    router = group.router
    assert router is not None

    async def one(ids: list[int]) -> list[int]:
        worker = await router.get_best_worker(router.hashes(ids), len(ids))
        group.per_worker[worker] += 1
        return await group.workers[worker](ids)

    return list(await asyncio.gather(*(one(ids) for ids in prompts)))


async def routing_overhead(router: KvRouter, prompts: list[list[int]]) -> tuple[float, float]:
    """Milliseconds to place one prompt, and a batch of them; hashing included, nothing sent."""
    single = []
    for ids in prompts[:16]:
        started = time.perf_counter()
        await router.get_best_worker(router.hashes(ids), len(ids))
        single.append(1000 * (time.perf_counter() - started))
    started = time.perf_counter()
    placed = await router.route_batch([router.prompt(ids) for ids in prompts])
    batch = 1000 * (time.perf_counter() - started)
    for place in placed:
        if isinstance(place, Placement):
            await router.free(place.request_id)
    return statistics.median(single), batch


async def run(mode: str, args: argparse.Namespace, urls: list[str]) -> Result:
    result = Result(mode)
    config = RouterConfig(
        enabled=mode != "round-robin",
        block_size=args.block_size,
        base_kv_events_port=args.base_kv_events_port,
        base_metrics_port=args.base_metrics_port,
    )
    # As many connections as requests, none of which is closed while a batch runs.
    limits = httpx.Limits(keepalive_expiry=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        workers = [Engine(client, url, result) for url in urls]
        if mode == "integrated":
            group = RoutedWorkerGroup(workers, KvRouter.from_config(config, len(workers)))
        else:
            group = RoutedWorkerGroup.from_config(workers, config)
        await group.start()
        try:
            if group.router is not None:
                unsent = new_prompts(args, f"{mode} unsent")
                result.routing_ms = await routing_overhead(group.router, unsent)
            started = time.perf_counter()
            for iteration in range(args.num_iterations):
                prompts = new_prompts(args, f"{mode} {iteration}")
                for _ in range(args.turns):
                    answers = await generate(mode, group, prompts, result)
                    prompts = [ids + answer for ids, answer in zip(prompts, answers)]
            result.seconds = time.perf_counter() - started
        finally:
            await group.shutdown()
        result.per_worker = group.per_worker
    return result


def report(results: list[Result]) -> None:
    base = results[0]
    print(
        f"{'mode':<12} {'time':>8} {'prompt tok/s':>13} {'cached':>7} {'speed-up':>9}  per worker"
    )
    for result in results:
        speed = result.prompt_tokens / result.seconds
        cached = 100 * result.cached_tokens / result.prompt_tokens
        print(
            f"{result.mode:<12} {result.seconds:>6.2f} s {speed:>13,.0f} {cached:>6.1f}%"
            f" {base.seconds / result.seconds:>8.2f}x  {result.per_worker}"
        )
    for result in results:
        if result.routing_ms is not None:
            single, batch = result.routing_ms
            print(
                f"{result.mode}: placing one prompt takes {single:.2f} ms, a batch {batch:.1f} ms"
            )


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=[*MODES[1:], "all"], default="all")
    # The names that NeMo-RL's benchmark has for two of the modes.
    for mode in ("manual", "integrated"):
        flag = f"--use-{mode}-routing"
        parser.add_argument(flag, dest="mode", action="store_const", const=mode)
    parser.add_argument("--num-workers", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=64, help="a multiple of 8")
    parser.add_argument("--seq-len", type=int, default=1024, help="tokens of a first prompt")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--num-iterations", type=int, default=5)
    parser.add_argument("--block-size", type=int, default=64)
    parser.add_argument("--base-http-port", type=int, default=8100)
    parser.add_argument("--base-kv-events-port", type=int, default=5557)
    parser.add_argument("--base-metrics-port", type=int, default=5657)
    parser.add_argument("--model-path", type=Path, default=MODEL)
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    args = parser.parse_args()
    if args.batch_size < GROUP or args.batch_size % GROUP:
        parser.error(f"--batch-size has to be a multiple of {GROUP}")
    modes = ("round-robin", *(MODES[1:] if args.mode == "all" else [args.mode]))
    async with simulated_workers(args) as urls:
        results = [await run(mode, args, urls) for mode in modes]
    report(results)
    if args.json:
        print(json.dumps([vars(result) for result in results]))


if __name__ == "__main__":
    asyncio.run(main())
