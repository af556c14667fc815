#!/bin/sh
# Passwords and keys for compose.yaml, made once, each in a file of its own that its container alone can read.
#   sh secrets.sh                 makes what is missing, changes nothing that is there
#   sh secrets.sh rotate          new passwords for the store and new API keys; the old ones go on working
#   sh secrets.sh settle          the old ones stop working
# After `rotate` and after `settle`: load the ACL and restart the replicas in turn, see README.md.
set -eu
case "${1:-}" in '' | rotate | settle) ;; *) echo "secrets: it is rotate, settle or nothing, not $1" >&2; exit 2 ;; esac
cd "$(dirname "$0")"
folder=${SECRETS:-./secrets}
umask 077
mkdir -p "$folder"
cd "$folder"

# What each may do, as in SECURITY.md.
service='~rr:* -@all +ping +select +mget +get +set +getex +setrange +append +eval +evalsha +hget +hset +hsetnx +hexists +hkeys +hvals +hdel +unlink +rename +pexpire +pttl +zadd +zrangebyscore +info'
consumer='~rr:* ~reelrank:* -@all +ping +select +mget +get +set +getex +setrange +append +eval +evalsha +hget +hset +hsetnx +hexists +hkeys +hvals +hdel +unlink +rename +pexpire +pttl +zadd +zrangebyscore +info +type +xgroup +xreadgroup +xautoclaim +xpending +xinfo +xadd +xack +xtrim'
exporter='-@all +ping +info +config|get +client|setname +slowlog|get +slowlog|len +latency|latest +latency|histogram'
admin='~* &* +@all'

random() { head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'; }
digest() { printf %s "$1" | sha256sum | cut -d ' ' -f 1; }

# put NAME UID: the input becomes the file, in place, because a container holds on to the file it was given.
put() {
  [ ! -e "$1" ] || chmod u+w "$1"
  cat > "$1"
  # Without root the owner cannot be changed; then it is this folder's mode that keeps others out.
  if [ "$(id -u)" = 0 ]; then chown "$2" "$1"; chmod 400 "$1"; else chmod 444 "$1"; fi
}

if [ "${1:-}" = rotate ] && [ -e key_client.old ]; then
  echo "secrets: the rotation before this one is not settled; run settle first" >&2
  exit 2
fi
for user in service consumer exporter admin; do
  if [ ! -e "password_$user" ] || [ "${1:-}" = rotate ]; then
    [ ! -e "password_$user" ] || cp "password_$user" "password_$user.old"
    random > "password_$user"
  fi
  [ "${1:-}" != settle ] || rm -f "password_$user.old"
done
for key in client metrics admin; do
  if [ ! -e "key_$key" ] || [ "${1:-}" = rotate ]; then
    [ ! -e "key_$key" ] || cp "key_$key" "key_$key.old"
    random > "key_$key"
  fi
  [ "${1:-}" != settle ] || rm -f "key_$key.old"
done

{
  # Nobody can be this user. Its rights are for Redis 7.0, which reads its append-only file as it, and leaves
  # out every script's writes that it may not do.
  echo 'user default off ~* &* +@all'
  for user in service consumer exporter admin; do
    eval "rights=\$$user"
    case $user in service) name=reelrank ;; consumer) name=reelrank-consumer ;; *) name=$user ;; esac
    hashes=
    for password in "password_$user" "password_$user.old"; do
      [ ! -e "$password" ] || hashes="$hashes #$(digest "$(cat "$password")")"
    done
    echo "user $name on$hashes $rights"
  done
} | put store_acl 999

{
  for key in client metrics admin; do
    case $key in client) rights=label+rerank ;; metrics) rights=read ;; admin) rights=read+admin ;; esac
    for file in "key_$key" "key_$key.old"; do
      [ ! -e "$file" ] || echo "$(cat "$file"):$rights"
    done
  done
} | put api_keys 10001

echo "redis://reelrank:$(cat password_service)@redis:6379/0" | put store_url_service 10001
echo "redis://reelrank-consumer:$(cat password_consumer)@redis:6379/0" | put store_url_consumer 10001
printf '{"redis://redis:6379": "%s"}\n' "$(cat password_exporter)" | put store_exporter 59000
# These two are used by the very commands and scrapes in between, so they change last.
old_or_new() { if [ -e "$1.old" ]; then cat "$1.old"; else cat "$1"; fi; }
old_or_new password_admin | put store_admin 999
old_or_new key_metrics | put metrics_key 65534
if [ ! -e grafana_admin ]; then random | put grafana_admin 472; fi
echo "secrets: in $PWD; a client's key is in key_client"
