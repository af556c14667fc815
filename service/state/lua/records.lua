-- Records of exposures, laid out as in codec.py: seven values each, in flat arrays. A record is given as an array and
-- the index before its first value. Versions of one exposure are merged as `tests/service/merge.py` specifies.

local byte, sub, find = string.byte, string.sub, string.find

local ID, VIDEO, TIME, WATCH, DURATION, FLAGS, CONTEXT = 1, 2, 3, 4, 5, 6, 7
local SIZE = 7 -- values of a record

local function slice(values, i)
  return { unpack(values, i + 1, i + SIZE) }
end

local function text(id)
  return type(id) == "number" and string.format("%.0f", id) or id
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

-- Whether the record `a` is earlier than the one at `i` of `values`.
local function earlier(a, values, i)
  local id, time = values[i + ID], values[i + TIME]
  if a[TIME] ~= time then
    return a[TIME] < time
  end
  return a[ID] ~= id and less(text(a[ID]), text(id))
end

local function merge_contexts(a, b)
  if a == "" or b == "" or a == b then
    return a == "" and b or a
  end
  local others, merged = string.gmatch(b .. "\31", "(.-)\31"), {}
  for x in string.gmatch(a .. "\31", "(.-)\31") do
    local y = others()
    merged[#merged + 1] = less(x, y) and y or x
  end
  return table.concat(merged, "\31")
end

local function merge(a, b)
  return {
    a[ID],
    a[VIDEO],
    math.max(a[TIME], b[TIME]),
    math.max(a[WATCH], b[WATCH]),
    math.max(a[DURATION], b[DURATION]),
    bit.bor(a[FLAGS], b[FLAGS]),
    merge_contexts(a[CONTEXT], b[CONTEXT]),
  }
end

local function equal(a, b)
  for i = 1, SIZE do
    if a[i] ~= b[i] then
      return false
    end
  end
  return true
end

-- An array32 of so many records, without them.
local function array_head(records)
  return struct.pack(">BI4", 0xdd, SIZE * records)
end

-- The values after the first `i`, packed some thousand at a time: `unpack` has a limit.
local function pack_values(values, i)
  local parts = {}
  for i = i + 1, #values, 1000 do
    parts[#parts + 1] = cmsgpack.pack(unpack(values, i, math.min(i + 999, #values)))
  end
  return table.concat(parts)
end
