-- Claims of one memory, in its slot.
--
-- KEYS  claims (young), claims (old)
-- ARGV  "claim" or "release", the window in ms, now in ms ("" = this server's clock), claims
-- Returns the claims that are refused, see claims.lua

return claim(ARGV[1], KEYS[1], KEYS[2], ARGV[4], tonumber(ARGV[2]), clock(ARGV[3]))
