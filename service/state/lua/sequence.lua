-- One user's batch: deduplicate, merge, order, trim, remember what was trimmed.
--
-- A stored sequence is the MessagePack of {newest timestamp, {value, ...}}, oldest record first, with a head of fixed
-- size: the newest timestamp is a uint64, the list an array32. It may grow to a quarter more records than the sequence
-- has before it is rewritten, so that a new event is mostly appended; the surplus counts as having left the sequence.

local HEAD = 15 -- bytes of 0x92, 0xcf, newest timestamp, 0xdd, number of values

local function head(newest, records)
  return struct.pack(">BBI8", 0x92, 0xcf, newest) .. array_head(records)
end

-- Whether the records of the batch are not in the sequence and follow it in order.
local function follows(stored, newest, batch)
  for i = 0, #batch - 1, SIZE do
    if batch[i + TIME] <= newest or find(stored, cmsgpack.pack(batch[i + ID]), HEAD + 1, true) then
      return false
    end
    newest = batch[i + TIME]
  end
  return true
end

-- Cuts the oldest `count` records off `packed` and adds them to `leaving`, by event id. Returns the others.
local function cut(packed, count, leaving)
  local offset = 0
  for _ = 1, count do
    local after, id = cmsgpack.unpack_limit(packed, SIZE, offset)
    after = after < 0 and #packed or after
    leaving[id], offset = sub(packed, offset + 1, after), after
  end
  return sub(packed, offset + 1)
end

-- The index of an event's record among `values`, or nil; `packed` are the same values.
local function index_of(values, packed, id)
  if find(packed, cmsgpack.pack(id), 1, true) then
    for i = 0, #values - 1, SIZE do
      if values[i + ID] == id then
        return i
      end
    end
  end
end

-- The values after the first `first`, with the `changed` records (in order) among them and without those at `replaced`.
local function rearrange(values, first, changed, replaced)
  local out, n, j = {}, 0, 1
  local function add(from, i)
    for offset = 1, SIZE do
      out[n + offset] = from[i + offset]
    end
    n = n + SIZE
  end
  for i = first, #values - 1, SIZE do
    if not replaced[i] then
      while changed[j] and earlier(changed[j], values, i) do
        add(changed[j], 0)
        j = j + 1
      end
      add(values, i)
    end
  end
  for rest = j, #changed do
    add(changed[rest], 0)
  end
  return out
end

-- Merges a batch of any kind into a sequence.
--
-- packed    its records; values: the same, of which the first `surplus` have left it
-- find_left returns the record of another event that has left it, or nil
-- Returns letters and records as `write`, and of the longer sequence the records, packed, their number and the newest
--           timestamp, or nil if nothing changes
local function merge_batch(packed, values, surplus, claimed, batch, find_left)
  local kinds, replies = {}, {}
  local versions, replaced, first = {}, {}, #values -- versions: what is to be stored, by event id
  for i = 0, #batch - 1, SIZE do
    local record, n = slice(batch, i), i / SIZE + 1
    local id, is_claimed = record[ID], byte(claimed, n) == 49
    local at = not versions[id] and index_of(values, packed, id)
    local is_in = versions[id] or (at and at >= surplus)
    local known = versions[id] or (at and (is_in or is_claimed) and slice(values, at))
    known = known or (is_claimed and find_left(id))
    local merged, same = record, false
    if not known then
      kinds[n] = "a"
    elseif known[VIDEO] ~= record[VIDEO] then
      kinds[n], replies[#replies + 1], merged = "c", pack_values(known, 0), nil
    else
      merged = merge(known, record)
      same = equal(merged, known)
      kinds[n], replies[#replies + 1] = same and "d" or "m", pack_values(merged, 0)
    end
    -- A repeat of what is stored changes nothing; of what had left the sequence it may: there may be room.
    if merged and not (same and is_in) then
      versions[id] = merged
      if at then
        replaced[at], first = true, math.min(first, at)
      end
    end
  end

  local letters, records, changed = table.concat(kinds), array_head(#replies) .. table.concat(replies), {}
  for _, record in pairs(versions) do
    changed[#changed + 1] = record
  end
  if #changed == 0 then
    return letters, records, nil
  end
  table.sort(changed, function(a, b)
    return earlier(a, b, 0)
  end)
  while first > 0 and earlier(changed[1], values, first - SIZE) do
    first = first - SIZE
  end
  local tail = rearrange(values, first, changed, replaced)
  packed = sub(packed, 1, #packed - #pack_values(values, first)) .. pack_values(tail, 0)
  return letters, records, packed, (first + #tail) / SIZE, tail[#tail - SIZE + TIME]
end

-- Writes one user's batch. Everything is computed before the first write to the user's state.
--
-- k         KEYS from `k` on: sequence, left (young), left (old), profile, history: in one slot, by the user's hash tag
-- claimed   for each event "1" if its id was claimed before, else "0"; or "" if none was
-- incoming  records, as a MessagePack array32 of their values
-- Returns one letter an event, and an array with the values of a record for each that is not new
--           a accepted, d duplicate, m merged: its record is the exposure as it is stored now;
--           c conflict: its record is the one it contradicts
--         or "" for the letters if an older build's format must be upgraded first
local function write(k, claimed, incoming, length, ttl, window)
  local sequence, young, old, profile = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local stored, newest, count = redis.call("GETEX", sequence, "PX", ttl), -1, 0
  redis.call("PEXPIRE", profile, ttl)
  redis.call("PEXPIRE", KEYS[k + 4], ttl)
  if not stored then
    stored = ""
  elseif byte(stored) == 2 then
    return "", ""
  elseif byte(stored) ~= 0x92 or #stored <= HEAD then
    error("the sequence is damaged, or was written in an unknown format", 0)
  else
    newest, count = struct.unpack(">I8xI4", stored, 3)
    count = count / SIZE
  end

  local batch = cmsgpack.unpack(incoming)
  local n, added = #batch / SIZE, sub(incoming, 6) -- without the head of an array
  local appended = claimed == "" and follows(stored, newest, batch)
  if appended and count > 0 and count + n <= length + length / 4 then
    redis.call("SETRANGE", sequence, 2, sub(head(batch[#batch - SIZE + TIME], count + n), 3))
    redis.call("APPEND", sequence, added)
    return string.rep("a", n), ""
  elseif must_be_upgraded(young, old) then
    return "", ""
  end

  local letters, records, packed = string.rep("a", n), "", sub(stored, HEAD + 1)
  if appended then
    packed, count, newest = packed .. added, count + n, batch[#batch - SIZE + TIME]
  else
    local function find_left(id)
      return recall(young, old, id)
    end
    local values = count > 0 and cmsgpack.unpack(stored)[2] or {}
    local surplus = SIZE * math.max(0, count - length)
    letters, records, packed, count, newest = merge_batch(packed, values, surplus, claimed, batch, find_left)
  end
  if packed then
    local leaving = {}
    packed = cut(packed, math.max(0, count - length), leaving)
    remember(young, old, leaving, window)
    redis.call("SET", sequence, head(newest, math.min(count, length)) .. packed, "PX", ttl)
  end
  return letters, records
end
