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

-- Lets go of what is out of date. `at` is what AT says, or false. Returns when `young` was begun, or nil if
-- nothing is remembered: `old` never outlives `young`; and whether something was let go of.
local function turn(young, old, at, now, window)
  if not at then
    return nil, false
  end
  local begun, written = struct.unpack(">I6I6", at)
  if now - written >= window then
    redis.call("UNLINK", young, old)
    return nil, true
  end
  if now - begun >= window then
    redis.call("UNLINK", old)
    redis.call("RENAME", young, old)
    redis.call("PEXPIRE", old, window)
    redis.call("HSET", young, AT, struct.pack(">I6I6", now, written))
    redis.call("PEXPIRE", young, window)
    return now, true
  end
  return begun, false
end

-- The values of the first `n` of `fields`, where there are any, in `young` and of the first `n_old` of them in
-- `old`, from index 2 on, false where there is none; and when `young` was begun, as from `turn`. In as few
-- commands as it can be done: they cost more than the rest.
local function remembered(young, old, fields, n, n_old, now, window)
  local values = redis.call("HMGET", young, AT, unpack(fields, 1, n))
  local begun, turned = turn(young, old, values[1], now, window)
  if not begun then
    return nil, {}, {}
  end
  if turned then
    values = redis.call("HMGET", young, AT, unpack(fields, 1, n))
  end
  return begun, values, n_old > 0 and redis.call("HMGET", old, AT, unpack(fields, 1, n_old)) or {}
end

-- Writes the first `n` of {field, value, ...} to `young`, given what `turn` returned.
local function keep(young, fields, n, begun, now, window)
  fields[n + 1], fields[n + 2] = AT, struct.pack(">I6I6", begun or now, now)
  redis.call("HSET", young, unpack(fields, 1, n + 2))
  redis.call("PEXPIRE", young, window)
end
