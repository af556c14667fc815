-- Replace a sequence as it was read by an older format's new one, unless it has changed. Its time to live stays.
--
-- KEYS  sequence
-- ARGV  as it was read, as it shall be

if redis.call("GET", KEYS[1]) == ARGV[1] then
  redis.call("SET", KEYS[1], ARGV[2], "KEEPTTL")
end
