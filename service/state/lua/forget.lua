-- Remove everything held on one user, and return it: the caller releases the claims on the event ids.
--
-- KEYS  sequence, seen (young), seen (old), profile
-- Returns {how many keys there were, the sequence or "", the records that had left it, ...}

local found = { 0, redis.call("GET", KEYS[1]) or "" }
for i = 2, 3 do
  local fields = redis.call("HGETALL", KEYS[i])
  for j = 1, #fields, 2 do
    if #fields[j] == 1 then -- a page; the one longer field is a clock
      found[#found + 1] = fields[j + 1]
    end
  end
end
found[1] = redis.call("UNLINK", KEYS[1], KEYS[2], KEYS[3], KEYS[4])
return found
