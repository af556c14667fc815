-- Put in front of the scripts that read records. They are laid out in codec.py; versions of one exposure are
-- merged as `tests/service/merge.py` specifies.

local byte, sub, find, band = string.byte, string.sub, string.find, bit.band

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

-- Short ids are stepped over here: a sequence that is walked through has a hundred records.
local function past_record(s, at)
  local kind = byte(s, at + 15)
  local after = kind < 240 and at + kind + 17 or past_id(s, at + 15)
  kind = byte(s, after)
  after = kind < 240 and after + kind + 2 or past_id(s, after)
  return byte(s, at) < 128 and after or past_context(s, after)
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
    -- Set later; a table that is made with room for them is not made anew.
    index = false,
    field = false,
    remembered = false,
    listed = false,
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
  return (parse(head .. sub(a.from, a.at + 15, a.context_at - 1) .. known, 1))
end

-- The record of this event among `data`, or nil. Where the bytes of the id are is quickly found; whether a
-- record is there is seen by walking up to it.
local function seek(data, id)
  local at, hit = 1, find(data, id, 16, true)
  while hit do
    while at < hit - 15 do
      at = past_record(data, at)
    end
    if at == hit - 15 then
      return parse(data, at)
    end
    hit = find(data, id, hit + 1, true)
  end
end
