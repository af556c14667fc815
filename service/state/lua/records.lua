-- Records of exposures, laid out as in codec.py: seven values each, in flat arrays. A record is given as an array and
-- the index before its first value. Versions of one exposure are merged as `tests/service/merge.py` specifies.

local byte, sub, find = string.byte, string.sub, string.find

local ID, VIDEO, TIME, WATCH, DURATION, FLAGS, CONTEXT = 1, 2, 3, 4, 5, 6, 7
local SIZE = 7 -- values of a record
local MEMBERS = 5 -- of a context, before the signals

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

-- Signals of two versions: `name=value`, by name. A yes is t; of two amounts the larger is kept.
local function merge_signals(a, b)
  local values, names = {}, {}
  for name, value in string.gmatch(a .. "\30" .. b, "([%w_]+)=([^\30]+)") do
    local known = values[name]
    if not known then
      names[#names + 1] = name
    end
    if not known or (tonumber(value) or math.huge) > (tonumber(known) or math.huge) then
      values[name] = value
    end
  end
  table.sort(names, less)
  for i, name in ipairs(names) do
    names[i] = name .. "=" .. values[name]
  end
  return table.concat(names, "\30")
end

local function merge_contexts(a, b)
  if a == "" or b == "" or a == b then
    return a == "" and b or a
  end
  local others, merged = string.gmatch(b .. "\31", "(.-)\31"), {}
  for x in string.gmatch(a .. "\31", "(.-)\31") do
    local y = others() or ""
    merged[#merged + 1] = #merged == MEMBERS and merge_signals(x, y) or less(x, y) and y or x
  end
  merged[#merged + 1] = others() -- signals, where only `b` has any
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
