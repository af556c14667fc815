-- Put in front of the scripts that remember event ids. A memory is two hashes, `young` and `old`. What is
-- written goes to `young`; once that is a window old it becomes `old`, and what was `old` is let go. So
-- everything is remembered for at least one window and at most two, one key goes at a time, and no field
-- needs an expiry of its own (which Redis 7.0 does not have).

local AT = "at" -- field of `young`: when it was begun and when it was last written to, 6 bytes each

local function clock(given)
  if given ~= "" then
    return tonumber(given)
  end
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Lets go of what is out of date. Returns when `young` was begun, or nil if nothing is remembered:
-- `old` never outlives `young`.
local function turn(young, old, now, window)
  local at = redis.call("HGET", young, AT)
  if not at then
    return nil
  end
  local begun, written = struct.unpack(">I6I6", at)
  if now - written >= window then
    redis.call("UNLINK", young, old)
    return nil
  end
  if now - begun >= window then
    redis.call("UNLINK", old)
    redis.call("RENAME", young, old)
    redis.call("PEXPIRE", old, window)
    redis.call("HSET", young, AT, struct.pack(">I6I6", now, written))
    redis.call("PEXPIRE", young, window)
    return now
  end
  return begun
end

-- Writes {field, value, ...} to `young`, given what `turn` returned.
local function keep(young, fields, begun, now, window)
  fields[#fields + 1] = AT
  fields[#fields + 1] = struct.pack(">I6I6", begun or now, now)
  redis.call("HSET", young, unpack(fields))
  redis.call("PEXPIRE", young, window)
end
