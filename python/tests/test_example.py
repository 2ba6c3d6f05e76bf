"""The example as a user runs it, on simulated workers."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "examples/grpo_rollouts.py"
SOURCE = Path(__file__).parents[1] / "src"


@pytest.fixture
def simworker():
    """The simulated workers' program; `cargo xtask test` names it."""
    named = os.environ.get("WARMPATH_SIMWORKER")
    if not named:
        pytest.skip("WARMPATH_SIMWORKER names none; build one: cargo build -p warmpath-simworker")
    return named


def free_ports(count):
    """The first of so many ports in a row that nobody listens on."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            base = first.getsockname()[1]
        if base + count > 60_000:
            continue
        try:
            for port in range(base, base + count):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", port))
            return base
        except OSError:
            continue


def test_rollouts_run_in_every_mode_and_find_their_prefixes(binary, simworker):
    # HTTP, load, events and, 200 behind those, replay; four workers.
    base = free_ports(212)
    ports = {"http": base, "metrics": base + 4, "kv-events": base + 8}
    flags = [f"--base-{name}-port={port}" for name, port in ports.items()]
    small = ["--num-workers=4", "--batch-size=32", "--seq-len=128", "--block-size=16"]
    environment = {
        **os.environ,
        "PATH": f"{Path(simworker).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(SOURCE),
        "WARMPATH_INDEXER": binary,
    }
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), *flags, *small, "--num-iterations=2", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = {result["mode"]: result for result in json.loads(done.stdout.splitlines()[-1])}
    assert list(results) == ["round-robin", "simple", "manual", "integrated"]
    for mode, result in results.items():
        assert result["requests"] == 32 * 2 * 2, mode
        assert sum(result["per_worker"]) == result["requests"], mode
    assert results["integrated"]["cached_tokens"] > results["round-robin"]["cached_tokens"]
