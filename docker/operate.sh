# Sourced from the repository's root: `. docker/operate.sh`. What the pages of README.md are written with.
if docker compose version >/dev/null 2>&1; then dc() { docker compose -f docker/compose.yaml "$@"; }
else dc() { docker-compose -f docker/compose.yaml "$@"; }; fi

# store COMMAND...: redis-cli in the store's container, as its administrator.
store() { dc exec -T redis sh -c 'REDISCLI_AUTH=$(cat /run/secrets/store_admin) exec redis-cli --user admin "$@"' store "$@" < /dev/null; }

# ready NAME: wait until the proxy sends requests to service-NAME.
ready() {
  for _ in 1 2 3; do
    dc exec -T "service-$1" python -c '
import sys, time, urllib.request as u
up = f"haproxy_server_status{{proxy=\"service\",server=\"{sys.argv[1]}\",state=\"UP\"}} 1\n"
end = time.monotonic() + 30
while up not in u.urlopen("http://proxy:8405/metrics", timeout=5).read().decode():
    if time.monotonic() > end: sys.exit(1)
    time.sleep(0.5)' "$1" < /dev/null && return
    sleep 1
  done
  echo "service-$1 is not ready: dc logs service-$1" >&2
  return 1
}

# turn: make the replicas anew, one after the other, from what image, settings and secrets are now.
turn() {
  for replica in a b; do
    dc up -d --no-build --no-deps --force-recreate "service-$replica" && ready "$replica" || return
  done
}

# forget_again SINCE: what was restored may hold users that have asked to be forgotten since then.
forget_again() {
  for replica in a b; do
    dc exec -T "service-$replica" python -c '
import json, subprocess, sys, urllib.parse, urllib.request as u
key = sys.stdin.readline().strip()
ledger = [sys.executable, "-m", "service", "ledger", "--json", "--since", sys.argv[1]]
for line in subprocess.run(ledger, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
    entry = json.loads(line)
    if set(entry) != {"user_id", "forgotten_at_ms"}: continue
    path = "/users/" + urllib.parse.quote(entry["user_id"], safe="")
    u.urlopen(u.Request("http://127.0.0.1:8000" + path, method="DELETE", headers={"Authorization": f"Bearer {key}"}))
    print("forgotten again:", entry["user_id"])' "$1" < "${SECRETS:-docker/secrets}/key_admin" || return
  done
}

# forget_ledgers RUN DATA [OPTION...]: make a bundle without what the replicas' ledgers name, of the run and the log that
# the active one was made of, and activate it. The same ledgers again change nothing. Options (--retrain) are `forget`'s.
forget_ledgers() {
  run=$(realpath "$1") data=$(realpath "$2") bundles=$(realpath "${BUNDLES:-models/bundles}") forgotten="$(realpath "$1")-forgotten"
  shift 2
  (umask 077 && mkdir -p "$forgotten" && for replica in a b; do
    dc exec -T "service-$replica" python -m service ledger --json < /dev/null > "$forgotten/ledger-$replica.ndjson" || exit
  done) || return
  name=$({ sort "$forgotten"/ledger-?.ndjson; echo "$@"; } | sha256sum | cut -c-16)
  docker run --rm --read-only --tmpfs /tmp --network none --user "$(id -u):$(id -g)" -e HOME=/tmp \
    -v "$run:/run-folder:ro" -v "$data:/log:ro" -v "$forgotten:/forgotten" -v "$bundles:/bundles" \
    "${TRAINING_IMAGE:-reelrank-training}" forget --run /run-folder --data /log --out "/forgotten/$name" \
    --ledger /forgotten/ledger-a.ndjson --ledger /forgotten/ledger-b.ndjson --to /bundles --promote "$@"
}
