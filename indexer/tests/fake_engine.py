#!/usr/bin/env python3
"""Stands for an engine's server: /health, a helper process of its own, and whatever its
environment says: FAKE=exit ends at once, FAKE=deaf ignores being asked to end. POST /crash
ends the server and leaves the helper behind."""

import http.server
import os
import signal
import subprocess
import sys


def flag(name):
    return sys.argv[sys.argv.index(name) + 1]


print("arguments:", *sys.argv[1:], flush=True)
if os.environ.get("FAKE") == "exit":
    print("no such model", file=sys.stderr)
    sys.exit(3)
if os.environ.get("FAKE") == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
helper = subprocess.Popen(["sleep", "600"])
print(f"helper {helper.pid} gpus {os.environ.get('CUDA_VISIBLE_DEVICES')}", flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self):
        os._exit(7)

    def log_message(self, *arguments):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(flag("--port"))), Handler).serve_forever()
