-- What has left a user's sequence: event digest -> record, in two hashes. A record goes into the young one, which is
-- written to for one window and kept for two; then it becomes the old one. So each is kept for one window at least.

-- The digest of an event id, as in keys.py.
local function digest(id)
  local hex = redis.sha1hex(text(id))
  return struct.pack(">I4I4", tonumber(sub(hex, 1, 8), 16), tonumber(sub(hex, 9, 16), 16))
end

-- Whether 0.2.0 or 0.1.0 wrote to one of them: they left a clock in it.
local function must_be_upgraded(young, old)
  return redis.call("HEXISTS", young, "at") == 1 or redis.call("HEXISTS", old, "at") == 1
end

-- Adds packed records, by event id.
local function remember(young, old, leaving, window)
  local fields = {}
  for id, record in pairs(leaving) do
    fields[#fields + 1], fields[#fields + 2] = digest(id), record
  end
  if #fields == 0 then
    return
  end
  local left_ms = redis.call("PTTL", young)
  if left_ms >= 0 and left_ms <= window then
    redis.call("RENAME", young, old)
    left_ms = -2
  end
  for i = 1, #fields, 1000 do -- `unpack` has a limit
    redis.call("HSET", young, unpack(fields, i, math.min(i + 999, #fields)))
  end
  if left_ms < 0 then
    redis.call("PEXPIRE", young, 2 * window)
  end
end

-- The record of an event, or nil.
local function recall(young, old, id)
  local field = digest(id)
  local packed = redis.call("HGET", young, field) or redis.call("HGET", old, field)
  local record = packed and { cmsgpack.unpack(packed) }
  return record and record[ID] == id and record or nil
end
