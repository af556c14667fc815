-- Which user an event id belongs to: one of a fixed number of memories, each in its own slot, because the
-- same id from two users meets nowhere else. A claim has 12 bytes: 8 of the event id's digest, 4 of the user's.

local events, fresh = {}, {} -- reused for each memory: a new table costs more than what is done with it

-- Claims, or releases, ids of one memory. Returns the claims that are refused, one after the other: their ids are
-- another user's.
local function claim(action, young, old, claims, window, now)
  local n = #claims / 12
  for i = 1, n do
    events[i] = string.sub(claims, 12 * i - 11, 12 * i - 4)
  end
  local begun, values, values_old = remembered(young, old, events, n, n, now, window)
  local written, own, refused = 0, {}, {}
  for i = 1, n do
    local event, user = events[i], string.sub(claims, 12 * i - 3, 12 * i)
    local owner = values[i + 1] or values_old[i + 1] or own[event]
    if owner and owner ~= user then
      refused[#refused + 1] = event .. user
    elseif action == "release" then
      if owner then
        redis.call("HDEL", young, event)
        redis.call("HDEL", old, event)
      end
    elseif not owner then
      fresh[written + 1], fresh[written + 2] = event, user
      written, own[event] = written + 2, user
    end
  end
  if written > 0 then
    keep(young, fresh, written, begun, now, window)
  end
  return table.concat(refused)
end
