-- One user's batch of events: deduplicate, merge, order, trim, remember what was trimmed. Atomic.
--
-- KEYS  sequence, seen (young), seen (old), profile: all in one slot, by the user's hash tag
-- ARGV  sequence length, its TTL in ms, the window in ms, now in ms ("" = this server's clock),
--       the first byte of a sequence, the incoming records one after the other
-- Returns {one letter an event, a record for each event that is not new}
--       a accepted, d duplicate, m merged: its record is the exposure now held;
--       c conflict: its record is the one it contradicts
--
-- Records are laid out in codec.py, versions of one exposure are merged as in merge.py.
-- Everything is computed before the first write to the user's state: an error leaves nothing half done.

local byte, sub, band = string.byte, string.sub, bit.band

local function past_id(s, at)
  local kind = byte(s, at)
  if kind < 240 then
    return at + kind + 2
  elseif kind < 255 then
    return at + kind - 238
  end
  return at + byte(s, at + 1) + 3
end

local function text(id)
  local kind = byte(id)
  if kind < 240 then
    return sub(id, 2)
  elseif kind == 255 then
    return sub(id, 3)
  end
  local number = 0
  for i = 2, #id do
    number = number * 256 + byte(id, i)
  end
  return string.format("%.0f", number)
end

-- Byte by byte: `<` on strings goes by the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = byte(a, i), byte(b, i)
    if x ~= y then
      return x < y
    end
  end
  return #a < #b
end

local function earlier(a, b)
  if a.timestamp ~= b.timestamp then
    return a.timestamp < b.timestamp
  end
  return a.id ~= b.id and less(text(a.id), text(b.id))
end

local function past_context(s, at)
  local mask = byte(s, at)
  at = at + 1
  for i = 0, 4 do
    if band(mask, 2 ^ i) ~= 0 then
      at = past_id(s, at)
    end
  end
  return at
end

local function past_record(s, at)
  local after = past_id(s, past_id(s, at + 15))
  return byte(s, at) >= 128 and past_context(s, after) or after
end

-- The record at `at` of `s`, and where the next one begins. What is cheap to find again is not cut out.
local function parse(s, at)
  local flags, timestamp = struct.unpack(">BI6", s, at)
  local video_at = past_id(s, at + 15)
  local context_at = past_id(s, video_at)
  local after = flags >= 128 and past_context(s, context_at) or context_at
  return {
    id = sub(s, at + 15, video_at - 1),
    timestamp = timestamp,
    from = s,
    at = at,
    video_at = video_at,
    context_at = context_at,
    after = after,
  }, after
end

local function raw(e)
  return sub(e.from, e.at, e.after - 1)
end

local function video(e)
  return sub(e.from, e.video_at, e.context_at - 1)
end

local function context(e)
  return sub(e.from, e.context_at, e.after - 1)
end

local function context_ids(packed)
  local ids, mask, at = {}, byte(packed) or 0, 2
  for i = 0, 4 do
    if band(mask, 2 ^ i) ~= 0 then
      local after = past_id(packed, at)
      ids[i] = sub(packed, at, after - 1)
      at = after
    end
  end
  return ids
end

local function merged_context(a, b)
  local ids, others, mask, out = context_ids(a), context_ids(b), 0, {}
  for i = 0, 4 do
    local id, other = ids[i], others[i]
    if not id or (other and less(id, other)) then
      id = other
    end
    if id then
      mask = mask + 2 ^ i
      out[#out + 1] = id
    end
  end
  return string.char(mask) .. table.concat(out)
end

local function merge(a, b)
  local flags_a, _, watch_a, duration_a = struct.unpack(">BI6ff", a.from, a.at)
  local flags_b, _, watch_b, duration_b = struct.unpack(">BI6ff", b.from, b.at)
  local known = context(a)
  if known ~= context(b) then
    known = merged_context(known, context(b))
  end
  local head = struct.pack(
    ">BI6ff",
    bit.bor(flags_a, flags_b),
    math.max(a.timestamp, b.timestamp),
    math.max(watch_a, watch_b),
    math.max(duration_a, duration_b)
  )
  local e = parse(head .. sub(a.from, a.at + 15, a.context_at - 1) .. known, 1)
  e.remembered = a.remembered
  return e
end

local length, ttl, window = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local now = clock(ARGV[4])
local begun = turn(KEYS[2], KEYS[3], now, window)

-- The sequence as it is.
local sequence, place = {}, {} -- place[id] is the index in `sequence`
local stored = redis.call("GET", KEYS[1])
if stored then
  if sub(stored, 1, 1) ~= ARGV[5] then
    return redis.error_reply("ERR the sequence was written in a format this script does not know")
  end
  local at = 2
  while at <= #stored do
    local e
    e, at = parse(stored, at)
    sequence[#sequence + 1] = e
    place[e.id] = #sequence
  end
end

-- What has left the sequence is kept in pages: fields of one byte (from a hash of the event id), each
-- holding the records of about 1/64 of the events. A field an event would cost twice the memory.
local function field_of(id)
  return string.char(tonumber(sub(redis.sha1hex(id), 1, 2), 16) % 64)
end

local pages = { [KEYS[2]] = {}, [KEYS[3]] = {} }
local function page(key, field)
  if not pages[key][field] then
    pages[key][field] = { data = begun and redis.call("HGET", key, field) or "", added = {} }
  end
  return pages[key][field]
end

-- The record of this event in a page, or nil. Where the bytes of the id are is quickly found; whether a
-- record is there is seen by walking up to it.
local function seek(found, id)
  local data, at = found.data, 1
  local hit = string.find(data, id, 16, true)
  while hit do
    while at < hit - 15 do
      at = past_record(data, at)
    end
    if at == hit - 15 then
      return parse(data, at)
    end
    hit = string.find(data, id, hit + 1, true)
  end
end

local function remembered(id)
  if not begun then
    return nil
  end
  local field = field_of(id)
  local e = seek(page(KEYS[2], field), id) or seek(page(KEYS[3], field), id)
  if e then
    e.remembered = raw(e)
  end
  return e
end

-- The batch.
local kinds, replies = {}, {}
local sorted, changed = true, false
local incoming, at = ARGV[6], 1
while at <= #incoming do
  local e
  e, at = parse(incoming, at)
  local index = place[e.id]
  local known = index and sequence[index]
  if not known then
    known = remembered(e.id)
    index = #sequence + 1
  end
  local same = false
  if not known then
    kinds[#kinds + 1] = "a"
  elseif video(known) ~= video(e) then
    kinds[#kinds + 1] = "c"
    replies[#replies + 1] = raw(known)
    e = nil
  else
    e = merge(known, e)
    same = raw(e) == raw(known)
    kinds[#kinds + 1] = same and "d" or "m"
    replies[#replies + 1] = raw(e)
  end
  if e and not (same and index <= #sequence) then
    sequence[index] = e
    place[e.id] = index
    changed = true
    local before, after = sequence[index - 1], sequence[index + 1]
    sorted = sorted and not (before and earlier(e, before)) and not (after and earlier(after, e))
  end
end
if not sorted then
  table.sort(sequence, earlier)
end

-- Let go of the oldest, and write.
if changed then
  local surplus = math.max(0, #sequence - length)
  local touched = {}
  for i = 1, surplus do
    local e = sequence[i]
    if e.remembered ~= raw(e) then
      local field = field_of(e.id)
      local found = page(KEYS[2], field)
      local former = seek(found, e.id)
      if former then
        found.data = sub(found.data, 1, former.at - 1) .. sub(found.data, former.after)
      end
      found.added[#found.added + 1] = raw(e)
      touched[field] = found
    end
  end
  for field, found in pairs(touched) do
    redis.call("HSET", KEYS[2], field, found.data .. table.concat(found.added))
  end
  if next(touched) then
    written(KEYS[2], begun, now, window)
  end
  local raws = {}
  for i = surplus + 1, #sequence do
    raws[#raws + 1] = raw(sequence[i])
  end
  redis.call("SET", KEYS[1], ARGV[5] .. table.concat(raws), "PX", ttl)
else
  redis.call("PEXPIRE", KEYS[1], ttl)
end
redis.call("PEXPIRE", KEYS[4], ttl)

table.insert(replies, 1, table.concat(kinds))
return replies
