-- Replace what an older build wrote on a user by the same in the present format, unless it has changed since it
-- was read. Times to live stay.
--
-- KEYS  sequence, seen (young), seen (old), profile
-- ARGV  the sequence as it was read, the new one, then for each page: 2 (young) or 3 (old), field, new page

if redis.call("GET", KEYS[1]) == ARGV[1] then
  redis.call("SET", KEYS[1], ARGV[2], "KEEPTTL")
  for i = 3, #ARGV, 3 do
    local pages = KEYS[tonumber(ARGV[i])]
    if redis.call("PTTL", pages) ~= -2 then -- it has not expired meanwhile
      redis.call("HSET", pages, ARGV[i + 1], ARGV[i + 2])
    end
  end
end
