-- Which user an event id belongs to: one of a fixed number of memories, each in its own slot, because the
-- same id from two users meets nowhere else. A claim has 12 bytes: 8 of the event id's digest, 4 of the user's.

-- Claims, or releases, ids of one memory. Returns one letter a claim: "y" the id is this user's, "n" another's.
local function claim(what, young, old, claims, window, now)
  local begun = turn(young, old, now, window)
  local events, users, owners, answers, fresh = {}, {}, {}, {}, {}
  for at = 1, #claims, 12 do
    events[#events + 1] = string.sub(claims, at, at + 7)
    users[#users + 1] = string.sub(claims, at + 8, at + 11)
  end
  if begun then
    local held, before = redis.call("HMGET", young, unpack(events)), nil
    for i, event in ipairs(events) do
      if not held[i] then
        before = before or redis.call("HMGET", old, unpack(events))
      end
      owners[event] = held[i] or before[i] or nil
    end
  end
  for i, event in ipairs(events) do
    local owner = owners[event]
    answers[i] = (not owner or owner == users[i]) and "y" or "n"
    if what == "release" then
      if owner == users[i] then
        redis.call("HDEL", young, event)
        redis.call("HDEL", old, event)
      end
    elseif not owner then
      owners[event] = users[i]
      fresh[#fresh + 1] = event
      fresh[#fresh + 1] = users[i]
    end
  end
  if #fresh > 0 then
    keep(young, fresh, begun, now, window)
  end
  return table.concat(answers)
end
