"""The indexer as a child process.

Training jobs start and end; an indexer of their own that ends with them needs
no deployment. It listens on a Unix socket in a folder of its own, so that two
jobs on one host never meet.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path

import httpx

from .errors import IndexerUnavailable

BINARY = "warmpath-indexer"
_START_LIMIT = 30.0
_STOP_LIMIT = 5.0
_LOG_LINES = 20


# httpx closes idle connections that grow old or many, and may pick one for that which another
# task was just given: that task's request then fails.
LIMITS = httpx.Limits(keepalive_expiry=None)


def find_binary(binary: str | Path | None = None) -> Path:
    """The indexer's program: the one named, `$WARMPATH_INDEXER`, or the one on `PATH`."""
    named = binary or os.environ.get("WARMPATH_INDEXER")
    found = shutil.which(str(named or BINARY))
    if found is None:
        raise IndexerUnavailable(
            f"{named or BINARY} is not there; put it on PATH, or name it in WARMPATH_INDEXER"
        )
    return Path(found)


class Indexer:
    """A running indexer; `await start(...)`, then `client`, then `await stop()`."""

    def __init__(
        self, process: asyncio.subprocess.Process, folder: Path, client: httpx.AsyncClient
    ) -> None:
        self._process = process
        self._folder = folder
        self.client = client

    @classmethod
    async def start(cls, binary: Path, configuration: dict[str, object]) -> Indexer:
        """Starts it with this configuration and waits until it answers."""
        folder = Path(tempfile.mkdtemp(prefix="warmpath-"))
        socket, file, log = folder / "api.sock", folder / "indexer.yaml", folder / "indexer.log"
        addresses = {"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "unix_socket": str(socket)}
        # JSON is YAML.
        file.write_text(json.dumps({**configuration, **addresses}), encoding="utf-8")
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                str(binary), "--config", str(file), stdout=output, stderr=output
            )
        transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=LIMITS)
        client = httpx.AsyncClient(transport=transport, base_url="http://indexer", timeout=10.0)
        indexer = cls(process, folder, client)
        try:
            await indexer._wait(log)
        except BaseException:
            await indexer.stop()
            raise
        return indexer

    async def _wait(self, log: Path) -> None:
        deadline = asyncio.get_running_loop().time() + _START_LIMIT
        while asyncio.get_running_loop().time() < deadline:
            if self._process.returncode is not None:
                break
            try:
                if (await self.client.get("/v1/workers")).is_success:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        raise IndexerUnavailable("the indexer did not start; it said:\n" + "\n".join(said))

    async def stop(self) -> None:
        """Ends it and removes its folder."""
        await self.client.aclose()
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), _STOP_LIMIT)
            except asyncio.TimeoutError:
                self._process.kill()
                await self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)
