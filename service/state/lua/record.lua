-- Everything of several users' batches in one call: claim the event ids, then write. Where one server has
-- every slot.
--
-- KEYS  for each memory of claims: young, old; for each user: sequence, seen (young), seen (old), profile
-- ARGV  sequence length, its TTL in ms, the window in ms, now in ms ("" = this server's clock),
--       how many memories there are, for each of them: claims, for each user: records
-- Returns {letters, records, ...}, see sequence.lua; or, if a claim is refused, {refused claims}, and nothing
--         was written: the caller leaves their events out and comes again

local window, now, memories = tonumber(ARGV[3]), clock(ARGV[4]), tonumber(ARGV[5])
local refused = {}
for i = 1, memories do
  refused[i] = claim("claim", KEYS[2 * i - 1], KEYS[2 * i], ARGV[5 + i], window, now)
end
refused = table.concat(refused)
if refused ~= "" then
  return { refused }
end
return write_all(2 * memories + 1, 6 + memories, tonumber(ARGV[1]), tonumber(ARGV[2]), window, now)
