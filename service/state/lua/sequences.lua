-- Batches of users whose keys are all in one slot, with ids that have been claimed before.
--
-- KEYS  for each user: sequence, seen (young), seen (old), profile
-- ARGV  sequence length, its TTL in ms, the window in ms, now in ms ("" = this server's clock),
--       for each user: records
-- Returns {letters, records, ...}, see sequence.lua

return write_all(1, 5, tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), clock(ARGV[4]))
