"""Dynamo's selection service, driven step by step by the benchmark.

Reads one JSON array a line on stdin. Events go to the service over ZMQ, as an engine's do; before
a question is answered every event that was sent is waited for, so that the service knows as much
at that moment of virtual time as the other routers do.

    {"workers": N, "block_size": B}             first; answered by the version, or by "error: …"
    ["s", worker, parent or null, [block, …]]   stored: block b is B times the token b
    ["r", worker, block]                        removed
    ["p", id]  ["f", id]                        a request's first token, and its end
    ["?", id, tokens, [local, …], [sequence, …]]  answered by the worker's number
"""

import asyncio
import json
import os
import struct
import sys
import time
from importlib.metadata import version

MODEL = "m"
MARKERS = 4_000_000_000
PATIENCE = 10.0


class Events:
    """What one worker publishes."""

    def __init__(self, context, block_size):
        import msgspec
        import zmq

        self.socket = context.socket(zmq.PUB)
        self.socket.set_hwm(0)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")
        self.encode = msgspec.msgpack.encode
        self.block_size = block_size
        self.sequence = 0
        self.waiting = []

    def stored(self, parent, blocks):
        tokens = []
        for block in blocks:
            tokens += [block] * self.block_size
        self.waiting.append(["BlockStored", blocks, parent, tokens, self.block_size])

    def removed(self, blocks):
        self.waiting.append(["BlockRemoved", blocks])

    def send(self):
        batch = self.encode([0.0, self.waiting, None])
        self.socket.send_multipart([b"", struct.pack(">Q", self.sequence), batch])
        self.sequence += 1
        self.waiting = []


class Peer:
    def __init__(self, service, workers, block_size):
        import zmq

        self.service = service
        self.block_size = block_size
        context = zmq.Context()
        self.events = [Events(context, block_size) for _ in range(workers)]
        self.markers = 0

    async def start(self):
        for worker, events in enumerate(self.events):
            await self.service.upsert_worker(
                {
                    "worker_id": worker,
                    "model_name": MODEL,
                    "endpoint": f"http://127.0.0.1:{1000 + worker}",
                    "kv_events_endpoint": f"tcp://127.0.0.1:{events.port}",
                    "block_size": self.block_size,
                }
            )
        # A subscription that is not there yet loses what is published.
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for events in self.events:
                events.removed([0])
            if await self.synchronize(0.2):
                return
        raise RuntimeError("the service does not follow the events")

    async def synchronize(self, patience=PATIENCE):
        """Sends what waits, and a block that nobody else has; returns once it is seen."""
        touched = {worker for worker, events in enumerate(self.events) if events.waiting}
        if not touched:
            return True
        self.markers += 1
        marker = MARKERS + self.markers
        for worker in touched:
            self.events[worker].stored(None, [marker])
            self.events[worker].send()
        question = {"model_name": MODEL, "token_ids": [marker] * self.block_size}
        end = time.monotonic() + patience
        while time.monotonic() < end:
            answer = await self.service.overlap_scores(question)
            seen = {one["worker_id"] for one in answer["workers"] if one["device_blocks"]}
            if seen >= touched:
                for worker in touched:
                    # Goes with the next batch; alone it is nothing to wait for.
                    self.events[worker].removed([marker])
                    self.events[worker].send()
                return True
            await asyncio.sleep(0)
        if patience == PATIENCE:
            raise RuntimeError("events were not applied")
        return False

    async def choose(self, request, tokens, local, sequence):
        await self.synchronize()
        answer = await self.service.select_and_reserve(
            {
                "model_name": MODEL,
                "selection_id": str(request),
                "isl_tokens": tokens,
                "block_hashes": local,
                "sequence_hashes": sequence,
            }
        )
        return answer["worker_id"]


async def main():
    # Nobody reads the log, and no request is to expire by the wall's clock.
    os.environ.setdefault("DYN_LOG", "error")
    os.environ["DYN_ROUTER_ACTIVE_REQUEST_EXPIRY_SECS"] = "1000000"
    start = json.loads(sys.stdin.readline())
    try:
        from dynamo._core import SelectionService

        peer = Peer(SelectionService(), start["workers"], start["block_size"])
        await peer.start()
        print(version("ai-dynamo-runtime"), flush=True)
    except Exception as error:
        print(f"error: {type(error).__name__}: {error}", flush=True)
        return
    for line in sys.stdin:
        what, *rest = json.loads(line)
        if what == "s":
            worker, parent, blocks = rest
            peer.events[worker].stored(parent, blocks)
        elif what == "r":
            worker, block = rest
            peer.events[worker].removed([block])
        elif what == "p":
            await peer.service.prefill_complete(str(rest[0]))
        elif what == "f":
            await peer.service.free_reservation(str(rest[0]))
        else:
            print(await peer.choose(*rest), flush=True)


asyncio.run(main())
