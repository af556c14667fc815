-- One page of what changed in the catalogue after a version.
--
-- KEYS  meta, videos, log, as in catalogue_put.lua
-- ARGV  TTL in ms, the epoch the version is of, the version, how many at most
-- Returns {epoch, version to ask with next, id, entry, id, entry, ...}

local epoch = redis.call("HGET", KEYS[1], "epoch")
if not epoch then
  return { "", "0" }
end
local after = epoch == ARGV[2] and ARGV[3] or "0"
local found = redis.call("ZRANGEBYSCORE", KEYS[3], "(" .. after, "+inf", "WITHSCORES", "LIMIT", 0, ARGV[4])
local page = { epoch, after }
for i = 1, #found, 2 do
  page[#page + 1] = found[i]
  page[#page + 1] = redis.call("HGET", KEYS[2], found[i])
  page[2] = found[i + 1]
end
-- Use keeps it alive, with at most one write a day.
local ttl = tonumber(ARGV[1])
if redis.call("PTTL", KEYS[1]) < ttl - math.min(ttl / 2, 86400000) then
  for i = 1, 3 do
    redis.call("PEXPIRE", KEYS[i], ttl)
  end
end
return page
