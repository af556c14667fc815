-- A user's sequence as it is stored, and the usual batch: every event is new, and newer than all before. It is
-- appended without unpacking the sequence; only records that leave it are unpacked.
--
-- A stored sequence is the MessagePack of {newest timestamp, {value, ...}}, oldest record first, with a head of fixed
-- size: the newest timestamp is a uint64, the list an array32.

local HEAD = 15 -- bytes of 0x92, 0xcf, newest timestamp, 0xdd, number of values

local function head(newest, records)
  return struct.pack(">BBI8", 0x92, 0xcf, newest) .. array_head(SIZE * records)
end

-- Records that left the sequence are kept in pages: fields of one byte (from a hash of the event id), each
-- holding the array32 of about 1/64 of them. A field per event would take twice the memory.
local function field_of(packed_id)
  return string.char(tonumber(sub(redis.sha1hex(packed_id), 1, 2), 16) % 64)
end

local function add_to_page(page, packed)
  local count = page and page ~= "" and struct.unpack(">I4", page, 2) or 0
  return array_head(count + SIZE) .. sub(page or "", 6) .. packed
end

local ids, fields, left, changed_pages = {}, {}, {}, {} -- reused for each user

-- Returns how many events were appended, or nil if this is another kind of batch; then nothing was written.
local function append(k, stored, incoming, batch, length, ttl, window, now)
  local sequence, seen, seen_old, profile = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local newest, count, n = -1, 0, #batch / SIZE
  if stored then
    newest, count = struct.unpack(">I8xI4", stored, 3)
    count = count / SIZE
  end
  local batch_ids = {}
  for i = 1, n do
    local id, time = cmsgpack.pack(batch[SIZE * (i - 1) + ID]), batch[SIZE * (i - 1) + TIME]
    if time <= newest or batch_ids[id] or (stored and find(stored, id, HEAD + 1, true)) then
      return nil
    end
    newest, batch_ids[id], ids[i], fields[i] = time, true, id, field_of(id)
  end

  local surplus, offset = math.max(0, count + n - length), HEAD
  if surplus > count then
    return nil
  end
  for i = n + 1, n + surplus do
    local after, id = next_record(stored, offset)
    ids[i] = cmsgpack.pack(id)
    fields[i] = field_of(ids[i])
    left[i], offset = sub(stored, offset + 1, after), after
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
      pages[field] = add_to_page(pages[field] or young[i + 1], left[i])
    end
    for field, page in pairs(pages) do
      changed_pages[last + 1], changed_pages[last + 2] = field, page
      last = last + 2
    end
    keep(seen, changed_pages, last, begun, now, window)
  end
  local kept = head(newest, count + n - surplus) .. (stored and sub(stored, offset + 1) or "")
  redis.call("SET", sequence, kept .. sub(incoming, 6), "PX", ttl) -- without the head of the batch
  redis.call("PEXPIRE", profile, ttl)
  return n
end
