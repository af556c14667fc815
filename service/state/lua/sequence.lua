-- Any batch of one user's events: deduplicate, merge, order, trim, remember what was trimmed. `append` handles
-- the usual batch without unpacking the sequence.

-- The index of an event's record among `values`, or nil; `packed` are the values as they are stored.
local function index_of(values, packed, id)
  if find(packed, cmsgpack.pack(id), 1, true) then
    for i = 0, #values - 1, SIZE do
      if values[i + ID] == id then
        return i
      end
    end
  end
end

-- The record of an event in a page, or nil; and the page without it.
local function seek(page, id)
  if find(page, cmsgpack.pack(id), 1, true) then
    local values = cmsgpack.unpack(page)
    local i = index_of(values, page, id)
    if i then
      local r = slice(values, i)
      for _ = 1, SIZE do
        table.remove(values, i + 1)
      end
      return r, array_head(#values) .. pack_values(values, 0)
    end
  end
  return nil, page
end

-- The fields of these events that `pages` does not have yet.
local function missing(pages, events)
  local absent = {}
  for _, r in ipairs(events) do
    local field = field_of(cmsgpack.pack(r[ID]))
    if not pages[field] then
      pages[field] = ""
      absent[#absent + 1] = field
    end
  end
  return absent
end

-- Adds the reply of `HMGET` after its first `skipped` values to `pages`.
local function fill(pages, absent, reply, skipped)
  for i, field in ipairs(absent) do
    pages[field] = reply[i + skipped] or ""
  end
end

-- Adds events to their pages, in place of older versions. Returns the changed {field, page, ...}.
local function add_to_pages(events, pages)
  local touched, changed = {}, {}
  for _, r in ipairs(events) do
    local field = field_of(cmsgpack.pack(r[ID]))
    local _, page = seek(pages[field], r[ID])
    pages[field], touched[field] = add_to_page(page, cmsgpack.pack(unpack(r))), true
  end
  for field in pairs(touched) do
    changed[#changed + 1] = field
    changed[#changed + 1] = pages[field]
  end
  return changed
end

-- The values from index `first` on, with the `changed` records (in order) in it and without those at `replaced`.
local function rearrange(values, first, changed, replaced)
  local out, n, j = {}, 0, 1
  local function add(from, i)
    for offset = 1, SIZE do
      out[n + offset] = from[i + offset]
    end
    n = n + SIZE
  end
  for i = first, #values - 1, SIZE do
    if not replaced[i] then
      while changed[j] and earlier(changed[j], values, i) do
        add(changed[j], 0)
        j = j + 1
      end
      add(values, i)
    end
  end
  for rest = j, #changed do
    add(changed[rest], 0)
  end
  return out
end

-- Write one user's batch. Everything is computed before the first write to the user's state: an error leaves
-- nothing half done.
--
-- k         KEYS from `k` on: sequence, seen (young), seen (old), profile: all in one slot, by the user's
--           hash tag
-- incoming  records, as a MessagePack array32 of their values
-- Returns one letter an event, and an array with the values of a record for each that is not new
--           a accepted, d duplicate, m merged: its record is the exposure as it is stored now;
--           c conflict: its record is the one it contradicts
--         or "" for the letters if the sequence is in the format of 0.1.0 and must be upgraded first
local function write(k, incoming, length, ttl, window, now)
  local sequence, seen, seen_old, profile = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local stored, batch = redis.call("GET", sequence), cmsgpack.unpack(incoming)
  if stored and byte(stored) == 2 then
    return "", ""
  elseif stored and (byte(stored) ~= 0x92 or #stored <= HEAD) then
    error("the sequence is damaged, or was written in a format this script does not know", 0)
  end
  local appended = append(k, stored, incoming, batch, length, ttl, window, now)
  if appended then
    return string.rep("a", appended), ""
  end

  local values = stored and cmsgpack.unpack(stored)[2] or {}
  local events, strangers, index = {}, {}, {}
  for i = 0, #batch - 1, SIZE do
    local r = slice(batch, i)
    events[#events + 1] = r
    index[r[ID]] = index[r[ID]] or index_of(values, stored or "", r[ID])
    if not index[r[ID]] then
      strangers[#strangers + 1] = r
    end
  end
  local young, old = {}, {}
  local absent = missing(young, strangers)
  local begun, reply, reply_old = remembered(seen, seen_old, absent, #absent, #absent, now, window)
  fill(young, absent, reply, 1)
  fill(old, absent, reply_old, 1)

  local kinds, replies, versions, on_page = {}, {}, {}, {} -- by event id: the version to store, the one on a page
  for i, r in ipairs(events) do
    local id = r[ID]
    local known = versions[id] or (index[id] and slice(values, index[id]))
    if not known and begun then
      local field = field_of(cmsgpack.pack(id))
      known = seek(young[field], id) or seek(old[field], id)
      on_page[id] = known
    end
    if not known then
      kinds[i], versions[id] = "a", r
    elseif known[VIDEO] ~= r[VIDEO] then
      kinds[i], replies[#replies + 1] = "c", known
    else
      local merged = merge(known, r)
      local same = equal(merged, known)
      kinds[i], replies[#replies + 1] = same and "d" or "m", merged
      -- A repeat of what is stored changes nothing; of what had left the sequence it may: there may be room.
      if not (same and (index[id] or versions[id])) then
        versions[id] = merged
      end
    end
  end

  local trimmed = {} -- what leaves the sequence and is not on its page like that
  local function trim(r)
    local page_version = on_page[r[ID]]
    if not (page_version and equal(page_version, r)) then
      trimmed[#trimmed + 1] = r
    end
  end
  local changed, replaced, first = {}, {}, #values -- only what lies behind `first` is packed anew
  for id, r in pairs(versions) do
    if not index[id] and #values >= SIZE * length and earlier(r, values, 0) then
      trim(r)
    else
      changed[#changed + 1] = r
      if index[id] then
        replaced[index[id]] = true
        first = math.min(first, index[id])
      end
      while first > 0 and earlier(r, values, first - SIZE) do
        first = first - SIZE
      end
    end
  end
  local kept
  if #changed > 0 then
    table.sort(changed, function(a, b)
      return earlier(a, b, 0)
    end)
    local tail = rearrange(values, first, changed, replaced)
    local before = stored and sub(stored, HEAD + 1, #stored - #pack_values(values, first)) or ""
    local surplus, offset = math.max(0, first + #tail - SIZE * length), 0
    for i = 0, surplus - 1, SIZE do
      trim(i < first and slice(values, i) or slice(tail, i - first))
      offset = i < first and next_record(before, offset) or offset
    end
    kept = head(tail[#tail - SIZE + TIME], (first + #tail - surplus) / SIZE)
      .. sub(before, offset + 1)
      .. pack_values(tail, math.max(0, surplus - first))
  end

  if #trimmed > 0 then
    absent = missing(young, trimmed)
    if begun and #absent > 0 then
      fill(young, absent, redis.call("HMGET", seen, unpack(absent)), 0)
    end
    local pages = add_to_pages(trimmed, young)
    keep(seen, pages, #pages, begun, now, window)
  end
  if kept then
    redis.call("SET", sequence, kept, "PX", ttl)
  else
    redis.call("PEXPIRE", sequence, ttl)
  end
  redis.call("PEXPIRE", profile, ttl)
  local records = {}
  for i, r in ipairs(replies) do
    records[i] = cmsgpack.pack(unpack(r))
  end
  return table.concat(kinds), array_head(SIZE * #replies) .. table.concat(records)
end

-- Several users' batches, each atomic and alone: one that cannot be written (a damaged sequence) fails the
-- call, but not before the others were written.
--
-- first   KEYS from here on: four for each user
-- batches ARGV from here on: for each user `incoming` of `write`
-- Returns {letters, records, ...}, two for each user
local function write_all(first, batches, length, ttl, window, now)
  local answers, failure = {}, nil
  for i = 0, #ARGV - batches do
    local ok, kinds, records = pcall(write, first + 4 * i, ARGV[batches + i], length, ttl, window, now)
    if ok then
      answers[#answers + 1] = kinds
      answers[#answers + 1] = records
    elseif type(kinds) == "table" then -- the server's reply to a command: no memory, read only
      return kinds
    else
      failure = failure or "what is stored on a user cannot be read: " .. kinds
    end
  end
  return failure and redis.error_reply("ERR " .. failure) or answers
end
