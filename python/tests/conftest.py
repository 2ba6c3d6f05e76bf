"""A stand-in for the indexer, and the real one where it was built."""

import json
import os

import httpx
import pytest
from warmpath import KvRouter


@pytest.fixture
def stand_in(monkeypatch):
    """Routers that speak to a function `answer(path, body) -> (status, body)`."""

    def make(answer, **options):
        def handle(request):
            status, body = answer(request.url.path, json.loads(request.content))
            return httpx.Response(status, json=body)

        router = KvRouter(url="http://indexer", **options)
        transport = httpx.MockTransport(handle)
        router._client = httpx.AsyncClient(transport=transport, base_url="http://indexer")
        return router

    return make


@pytest.fixture
def binary():
    """The indexer's program; `cargo xtask test` names it."""
    named = os.environ.get("WARMPATH_INDEXER")
    if not named:
        pytest.skip("WARMPATH_INDEXER names no indexer; build one: cargo build -p warmpath-indexer")
    return named
