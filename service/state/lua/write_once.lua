-- One step for what became of the entries of a log that is read by offsets: written to its stream, and the
-- offset kept. An entry before the offset that is kept for its partition was written already and is left out,
-- by any consumer. In this order, because a script that fails half-way keeps what it has done: at worst the
-- last entry before the failure is written twice, never lost.
--
-- KEYS  offsets (a hash), labels, dead
-- ARGV  most entries of an output stream, then for each entry: its partition as a field of the hash, its
--       offset, 2 (labels) or 3 (dead), the number of strings that follow, names and values in turn
-- Returns 1 for each that was written by this call, 0 for the others

local written, at = {}, 2
while at <= #ARGV do
  local partition, offset, count = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local is_new = offset >= tonumber(redis.call("HGET", KEYS[1], partition) or 0)
  if is_new then
    redis.call("XADD", KEYS[tonumber(ARGV[at + 2])], "MAXLEN", "~", ARGV[1], "*", unpack(ARGV, at + 4, at + 3 + count))
    redis.call("HSET", KEYS[1], partition, ARGV[at + 1] + 1)
  end
  written[#written + 1] = is_new and 1 or 0
  at = at + 4 + count
end
return written
