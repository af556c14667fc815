-- Everything of several users' batches in one call: claim the event ids, then write. Where one server has
-- every slot.
--
-- KEYS  for each memory of claims: young, old; for each user: sequence, seen (young), seen (old), profile
-- ARGV  sequence length, its TTL in ms, the window in ms, now in ms ("" = this server's clock),
--       how many memories there are, for each of them: claims,
--       for each user: records, and for each record a byte: in which of the memories its claim is, from 1
-- Returns {letters, records, ...}, see sequence.lua

local length, ttl, window, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), clock(ARGV[4])
local memories = tonumber(ARGV[5])
local answers, taken, strange = {}, {}, false
for i = 1, memories do
  local refused
  answers[i], refused = claim("claim", KEYS[2 * i - 1], KEYS[2 * i], ARGV[5 + i], window, now)
  taken[i] = 0
  strange = strange or refused
end

-- The letters lie by memory; each user's are wanted in the order of the batch.
local batches = 6 + memories
for at = batches + 1, #ARGV, 2 do
  if strange then
    local letters = {}
    for i = 1, #ARGV[at] do
      local memory = string.byte(ARGV[at], i)
      taken[memory] = taken[memory] + 1
      letters[i] = string.sub(answers[memory], taken[memory], taken[memory])
    end
    ARGV[at] = table.concat(letters)
  else
    ARGV[at] = ""
  end
end
return write_all(2 * memories + 1, batches, length, ttl, window, now)
