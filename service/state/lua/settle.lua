-- One step for what became of entries: written to its stream, then acknowledged; an entry that was
-- acknowledged meanwhile writes nothing. In this order, because a script that fails half-way (no memory left)
-- keeps what it has done: better acknowledged by the next try than acknowledged and never written.
--
-- KEYS  events, labels, dead
-- ARGV  group, most entries of an output stream, then for each entry: its id, 2 (labels) or 3 (dead), the
--       number of strings that follow, names and values in turn
-- Returns 1 for each that was settled by this call, 0 for the others

local settled, at = {}, 3
while at <= #ARGV do
  local id, key, count = ARGV[at], KEYS[tonumber(ARGV[at + 1])], tonumber(ARGV[at + 2])
  local pending = #redis.call("XPENDING", KEYS[1], ARGV[1], id, id, 1) > 0
  if pending then
    redis.call("XADD", key, "MAXLEN", "~", ARGV[2], "*", unpack(ARGV, at + 3, at + 2 + count))
    redis.call("XACK", KEYS[1], ARGV[1], id)
  end
  settled[#settled + 1] = pending and 1 or 0
  at = at + 3 + count
end
return settled
