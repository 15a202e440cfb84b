#!/usr/bin/env bash
# One machine with GPUs: a head that does all the work itself, behind a token, on loopback.
#   clusters/one_node.sh start | stop | status
set -euo pipefail

export RAY_AUTH_MODE=token OMP_NUM_THREADS=1
scratch="${VP_RAY_SCRATCH:-/tmp/vp_ray}"
port="${VP_RAY_PORT:-6379}"
dashboard="${VP_RAY_DASHBOARD_PORT:-8265}"

case "${1:-}" in
  start)
    token="$HOME/.ray/auth_token"
    if [ ! -s "$token" ]; then
      mkdir -p "$(dirname "$token")"
      (umask 077; python3 -c 'import secrets; print(secrets.token_hex(32))' > "$token")
    fi
    ray start --head --node-ip-address=127.0.0.1 --port="$port" --dashboard-host=127.0.0.1 \
      --dashboard-port="$dashboard" --temp-dir="$scratch" --disable-usage-stats \
      --labels="vp-ray/pool=all,ray.io/market-type=on-demand"
    echo "Submit with: vp-ray submit jobs/demo.yaml --cluster http://127.0.0.1:$dashboard"
    ;;
  status) ray status --address="127.0.0.1:$port" ;;
  stop) ray stop ;;
  *) echo "usage: $0 start | stop | status" >&2; exit 2 ;;
esac
