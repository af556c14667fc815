-- Which user an event id belongs to: one of a fixed number of memories, each in its own slot, because the
-- same id from two users meets nowhere else. A claim has 12 bytes: 8 of the event id's digest, 4 of the user's.

local events, fresh = {}, {} -- used again for each memory: a new table costs more than what is done with it

-- Claims, or releases, ids of one memory. Returns one letter a claim: "y" the id is this user's, "n" another's.
local function claim(what, young, old, claims, window, now)
  local n = #claims / 12
  for i = 1, n do
    events[i] = string.sub(claims, 12 * i - 11, 12 * i - 4)
  end
  local begun, held, before = remembered(young, old, events, n, n, now, window)
  local written, mine, refused = 0, nil, nil
  for i = 1, n do
    local event, user = events[i], string.sub(claims, 12 * i - 3, 12 * i)
    local owner = held[i + 1] or before[i + 1] or mine and mine[event]
    if owner and owner ~= user then
      refused = refused or {}
      refused[i] = true
    elseif what == "release" then
      if owner then
        redis.call("HDEL", young, event)
        redis.call("HDEL", old, event)
      end
    elseif not owner then
      fresh[written + 1], fresh[written + 2] = event, user
      written = written + 2
      if n > 1 then
        mine = mine or {}
        mine[event] = user
      end
    end
  end
  if written > 0 then
    keep(young, fresh, written, begun, now, window)
  end
  local letters = string.rep("y", n)
  if refused then
    for i in pairs(refused) do
      letters = string.sub(letters, 1, i - 1) .. "n" .. string.sub(letters, i + 1)
    end
  end
  return letters, refused ~= nil
end
