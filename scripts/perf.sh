#!/usr/bin/env bash
# The example's perf.sh: aiperf's synthetic chats against Envoy, 100 requests of 3,000 tokens drawn from ten
# prompts, 25 at a time, 100 tokens of answer each.
#   pip install aiperf
#   ./scripts/perf.sh                                             # against `cargo xtask demo --keep`
#   MODEL=qwen TOKENIZER=/models/qwen CONCURRENCY=50 ./scripts/perf.sh      # more arguments go to aiperf
set -euo pipefail
command -v "${AIPERF:=aiperf}" >/dev/null || {
  echo "aiperf is not on PATH: pip install aiperf, or name it with AIPERF=PATH" >&2
  exit 1
}
PORT=${PORT:-8000}
URL=${URL:-http://localhost:$PORT}
# Without MODEL: what the first worker of the indexer serves.
MODEL=${MODEL:-$(curl -sf "${ROUTER_URL:-http://localhost:${ROUTER_PORT:-7000}}/v1/workers" |
  python3 -c 'import json, sys; print(json.load(sys.stdin)["workers"][0]["model"])')}
# The demo's model; a folder or a name that Hugging Face knows.
TOKENIZER=${TOKENIZER:-$(cd "$(dirname "$0")/../tests/models/tiny" && pwd)}
ISL=${ISL:-3000}
OSL=${OSL:-100}

exec "$AIPERF" profile \
  --url "$URL" \
  --model "$MODEL" \
  --tokenizer "$TOKENIZER" \
  --endpoint-type chat \
  --endpoint /v1/chat/completions \
  --streaming \
  --isl "$ISL" --isl-stddev 0 \
  --osl "$OSL" --osl-stddev 0 \
  --extra-inputs "max_tokens:$OSL" \
  --extra-inputs "min_tokens:$OSL" \
  --extra-inputs ignore_eos:true \
  --extra-inputs '{"nvext": {"ignore_eos": true}}' \
  --concurrency "${CONCURRENCY:-25}" \
  --request-count "${REQUESTS:-100}" \
  --num-dataset-entries "${PROMPTS:-10}" \
  --random-seed 42 \
  --artifact-dir "${ARTIFACTS:-target/warmpath/aiperf}" \
  "$@"
