-- A user's sequence as it is stored, and the batch that nearly always comes: every event is new, and newer than
-- all before. It is added without taking the sequence apart; only what is let go is walked over.
--
-- A stored sequence is a head of 7 bytes and the records, oldest first. The head has the format, how many
-- records there are and how long the newest is. The format before (1) had a head of its first byte only. It is
-- read, and written no more.

local FORMAT, BEFORE, HEAD = 2, 1, 7

-- What has left the sequence is kept in pages: fields of one byte (from a hash of the event id), each
-- holding the records of about 1/64 of the events. A field an event would cost twice the memory.
local function field_of(id)
  return string.char(tonumber(sub(redis.sha1hex(id), 1, 2), 16) % 64)
end

local ids, fields, gone, written = {}, {}, {}, {} -- used again for each user

-- Returns how many events were added, or nil if this is another kind of batch; then nothing was written.
local function append(k, stored, incoming, length, ttl, window, now)
  local sequence, seen, seen_old, profile = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local count, size, newest = 0, 0, -1
  if stored then
    if byte(stored) ~= FORMAT then
      return nil
    end
    count, size = struct.unpack(">I4I2", stored, 2)
    local last = #stored - size + 1
    newest = struct.unpack(">I6", stored, last + 1)
    if past_record(stored, last) ~= #stored + 1 then
      return nil
    end
  end

  local n, at = 0, 1
  while at <= #incoming do
    local id = sub(incoming, at + 15, past_id(incoming, at + 15) - 1)
    local timestamp = struct.unpack(">I6", incoming, at + 1)
    if timestamp <= newest or (stored and find(stored, id, HEAD, true)) then
      return nil
    elseif find(incoming, id, 1, true) < at + 15 then
      return nil
    end
    local after = past_record(incoming, at)
    n, newest, size, at = n + 1, timestamp, after - at, after
    ids[n], fields[n] = id, field_of(id)
  end

  local surplus, from = math.max(0, count + n - length), HEAD + 1
  if surplus > count then
    return nil
  end
  for i = n + 1, n + surplus do
    local after = past_record(stored, from)
    ids[i] = sub(stored, from + 15, past_id(stored, from + 15) - 1)
    fields[i] = field_of(ids[i])
    gone[i], from = sub(stored, from, after - 1), after
  end

  local begun, young, old = remembered(seen, seen_old, fields, n + surplus, n, now, window)
  for i = 1, n + surplus do
    local page, page_old = young[i + 1], old[i + 1]
    if (page and find(page, ids[i], 1, true)) or (page_old and find(page_old, ids[i], 1, true)) then
      return nil
    end
  end

  if surplus > 0 then
    local pages, last = {}, 0
    for i = n + 1, n + surplus do
      local field = fields[i]
      pages[field] = (pages[field] or young[i + 1] or "") .. gone[i]
    end
    for field, page in pairs(pages) do
      written[last + 1], written[last + 2] = field, page
      last = last + 2
    end
    keep(seen, written, last, begun, now, window)
  end
  local head = struct.pack(">BI4I2", FORMAT, count + n - surplus, size)
  redis.call("SET", sequence, head .. (stored and sub(stored, from) or "") .. incoming, "PX", ttl)
  redis.call("PEXPIRE", profile, ttl)
  return n
end
