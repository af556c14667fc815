-- Which user an event id belongs to: one of a fixed number of memories, each in its own slot, because the
-- same id from two users meets nowhere else.
--
-- KEYS  claims (young), claims (old)
-- ARGV  "claim" or "release", the window in ms, now in ms ("" = this server's clock),
--       claims of 12 bytes each: 8 of the event id's digest, 4 of the user's
-- Returns one letter a claim: "y" the id is this user's, "n" it is another's

local window, now = tonumber(ARGV[2]), clock(ARGV[3])
local begun = turn(KEYS[1], KEYS[2], now, window)
local answers, fresh = {}, {}
for at = 1, #ARGV[4], 12 do
  local event, user = string.sub(ARGV[4], at, at + 7), string.sub(ARGV[4], at + 8, at + 11)
  local owner = begun and (redis.call("HGET", KEYS[1], event) or redis.call("HGET", KEYS[2], event))
  answers[#answers + 1] = (not owner or owner == user) and "y" or "n"
  if ARGV[1] == "release" then
    if owner == user then
      redis.call("HDEL", KEYS[1], event)
      redis.call("HDEL", KEYS[2], event)
    end
  elseif not owner then
    fresh[#fresh + 1] = event
    fresh[#fresh + 1] = user
  end
end
if #fresh > 0 then
  for i = 1, #fresh, 2 do
    redis.call("HSET", KEYS[1], fresh[i], fresh[i + 1])
  end
  written(KEYS[1], begun, now, window)
end
return table.concat(answers)
