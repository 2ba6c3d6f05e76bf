#!/usr/bin/env bash
# One streamed chat through Envoy, as the example's ping.sh sends it.
#   ./scripts/ping.sh                        # against `cargo xtask demo --keep`
#   MODEL=qwen PORT=8080 ./scripts/ping.sh
set -euo pipefail
PORT=${PORT:-8000}
URL=${URL:-http://localhost:$PORT}
# Without MODEL: what the first worker of the indexer serves.
MODEL=${MODEL:-$(curl -sf "${ROUTER_URL:-http://localhost:${ROUTER_PORT:-7000}}/v1/workers" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["workers"][0]["model"])')}

exec curl -sS -i -N "$URL/v1/chat/completions" \
  -H "Content-Type: application/json" \
  -H "Accept: text/event-stream" \
  -d '{
    "model": "'"$MODEL"'",
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": true,
    "max_tokens": 100
  }'
