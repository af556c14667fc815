#!/bin/sh
# Makes a cluster of $NODES (host or host:port), a replica for each primary, unless there is one.
set -eu
addresses=""
for node in $NODES; do
    host=${node%%:*}
    port=6379
    [ "$node" = "$host" ] || port=${node#*:}
    address=$(getent hosts "$host" | { read -r ip _ && echo "$ip"; })
    if redis-cli --user admin -h "$address" -p "$port" cluster info | grep -q '^cluster_state:ok'; then
        echo "$node belongs to a cluster that serves; nothing to do"
        exit 0
    fi
    addresses="$addresses $address:$port"
done
# shellcheck disable=SC2086  # one word an address
redis-cli --user admin --cluster create $addresses --cluster-replicas 1 --cluster-yes
