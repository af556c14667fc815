-- Upsert videos, and note what changed so that workers can follow.
--
-- KEYS  meta {epoch, version}, videos {id: entry}, log (sorted set of ids by the version that set them)
-- ARGV  TTL in ms, an epoch to take if there is none, then id, entry, id, entry, ...

local version = tonumber(redis.call("HGET", KEYS[1], "version") or "0")
if version == 0 then
  redis.call("HSET", KEYS[1], "epoch", ARGV[2], "version", 0)
end
for i = 3, #ARGV, 2 do
  local id, entry = ARGV[i], ARGV[i + 1]
  if redis.call("HGET", KEYS[2], id) ~= entry then
    version = version + 1
    redis.call("HSET", KEYS[1], "version", version)
    redis.call("HSET", KEYS[2], id, entry)
    redis.call("ZADD", KEYS[3], version, id)
  end
end
for i = 1, 3 do
  redis.call("PEXPIRE", KEYS[i], ARGV[1])
end
return version
