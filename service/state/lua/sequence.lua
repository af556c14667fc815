-- Any batch of one user's events: deduplicate, merge, order, trim, remember what was trimmed. What `append` has
-- left over; the stored sequence is walked through no further than needed.

-- The sequence as it is stored. `starts[i]` is where the i-th record begins, as far as somebody asked.
local function opened(stored)
  local q = { s = stored or "", count = 0, walked = 0, next = HEAD + 1, starts = {} }
  if not stored then
    return q
  end
  local format, after = byte(stored), nil
  if format == FORMAT then
    local count, size = struct.unpack(">I4I2", stored, 2)
    q.count, q.newest = count, #stored - size + 1
    after = past_record(stored, q.newest)
  elseif format == BEFORE then
    q.next, after = BEFORE + 1, BEFORE + 1
    while after <= #stored do
      q.count, q.newest, after = q.count + 1, after, past_record(stored, after)
    end
  else
    error("the sequence was written in a format this script does not know", 0)
  end
  if after ~= #stored + 1 then
    error("the sequence is damaged", 0)
  end
  return q
end

-- Walk until `many` records are passed, or one that begins after `beyond`.
local function walk(q, many, beyond)
  local stored, starts, walked, at = q.s, q.starts, q.walked, q.next
  while walked < many and at <= beyond do
    walked = walked + 1
    starts[walked] = at
    at = past_record(stored, at)
  end
  q.walked, q.next = walked, at
end

local function start(q, i)
  if i > q.count then
    return #q.s + 1
  end
  walk(q, i, #q.s)
  return q.starts[i]
end

-- Which record of the sequence is this event's, or nil. An id's bytes may occur anywhere: a record is where
-- one walks to.
local function place_of(q, id)
  local hit = find(q.s, id, HEAD, true)
  while hit do
    walk(q, q.count, hit - 15)
    local low, high = 1, q.walked
    while low <= high do
      local middle = math.floor((low + high) / 2)
      local at = q.starts[middle]
      if at == hit - 15 then
        return middle
      elseif at < hit - 15 then
        low = middle + 1
      else
        high = middle - 1
      end
    end
    hit = find(q.s, id, hit + 1, true)
  end
end

-- How many records of the sequence are earlier than `e`.
local function earlier_than(q, e)
  local low, high = 0, q.count
  while low < high do
    local middle = math.floor((low + high + 1) / 2)
    local at = start(q, middle)
    local timestamp = struct.unpack(">I6", q.s, at + 1)
    local before = timestamp < e.timestamp
    if timestamp == e.timestamp then
      before = earlier(parse(q.s, at), e)
    end
    if before then
      low = middle
    else
      high = middle - 1
    end
  end
  return low
end

-- The fields of these events that `pages` does not have yet.
local function missing(pages, events)
  local fields = {}
  for _, e in ipairs(events) do
    e.field = e.field or field_of(e.id)
    if not pages[e.field] then
      pages[e.field] = ""
      fields[#fields + 1] = e.field
    end
  end
  return fields
end

-- What `HMGET` found, after the first `skipped`.
local function fill(pages, fields, found, skipped)
  for i, field in ipairs(fields) do
    pages[field] = found[i + skipped] or ""
  end
end

-- The incoming records, with the place in the sequence of those that are there. Those whose letter in `own`
-- is "n" are another user's and become false.
local function read_batch(q, incoming, own)
  local batch, strangers, at = {}, {}, 1
  while at <= #incoming do
    local e
    e, at = parse(incoming, at)
    if own ~= "" and byte(own, #batch + 1) == 110 then
      e = false
    else
      e.index = place_of(q, e.id)
      if not e.index then
        strangers[#strangers + 1] = e
      end
    end
    batch[#batch + 1] = e
  end
  return batch, strangers
end

-- The sequence with `changed` (in order) in it and the records in `replaced` out: a list of ranges {first,
-- last} of stored records and of events.
local function arranged(q, changed, replaced)
  local parts, from, some_replaced = {}, 1, next(replaced)
  local function stored(to)
    for i = from, some_replaced and to or 0 do
      if replaced[i] then
        parts[#parts + 1] = { from, i - 1 }
        from = i + 1
      end
    end
    if from <= to then
      parts[#parts + 1] = { from, to }
      from = to + 1
    end
  end
  local last = q.count > 0 and struct.unpack(">I6", q.s, q.newest + 1) or -1
  for _, e in ipairs(changed) do
    stored(e.timestamp > last and q.count or earlier_than(q, e))
    parts[#parts + 1] = e
  end
  stored(q.count)
  return parts
end

-- Split what `arranged` gave into the `surplus` oldest, as events, and the others, as a stored sequence of
-- `count` records.
local function split(q, parts, surplus, count)
  local gone, kept, newest = {}, { "" }, 0
  for _, part in ipairs(parts) do
    if part.id then
      if surplus > 0 then
        gone[#gone + 1] = part
        surplus = surplus - 1
      else
        kept[#kept + 1] = raw(part)
        newest = #kept[#kept]
      end
    else
      local from, to = part[1], part[2]
      while surplus > 0 and from <= to do
        gone[#gone + 1] = parse(q.s, start(q, from))
        from, surplus = from + 1, surplus - 1
      end
      if from <= to then
        local begins, after = start(q, from), start(q, to + 1)
        kept[#kept + 1] = sub(q.s, begins, after - 1)
        newest = after - (to == q.count and q.newest or start(q, to))
      end
    end
  end
  kept[1] = struct.pack(">BI4I2", FORMAT, count, newest)
  return gone, table.concat(kept)
end

-- Add events to their pages, in the place of older versions. Returns what to write.
local function paged(gone, pages)
  local added, fields = {}, {}
  for _, e in ipairs(gone) do
    local data = pages[e.field]
    local former = seek(data, e.id)
    if former then
      data = sub(data, 1, former.at - 1) .. sub(data, former.after)
    end
    pages[e.field] = data .. raw(e)
    added[e.field] = true
  end
  for field in pairs(added) do
    fields[#fields + 1] = field
    fields[#fields + 1] = pages[field]
  end
  return fields
end

-- Write one user's batch. Everything is computed before the first write to the user's state: an error leaves
-- nothing half done.
--
-- k         KEYS from `k` on: sequence, seen (young), seen (old), profile: all in one slot, by the user's
--           hash tag
-- incoming  records, one after the other
-- own       a letter for each of them as from `claim`; "" if all are this user's
-- Returns one letter an event, and one after the other a record for each that is not new
--           a accepted, d duplicate, m merged: its record is the exposure now held;
--           c conflict: its record is the one it contradicts; n: its id is another user's, no record
local function write(k, incoming, own, length, ttl, window, now)
  local sequence, seen, seen_old, profile = KEYS[k], KEYS[k + 1], KEYS[k + 2], KEYS[k + 3]
  local stored = redis.call("GET", sequence)
  local appended = own == "" and append(k, stored, incoming, length, ttl, window, now)
  if appended then
    return string.rep("a", appended), ""
  end
  local q = opened(stored)
  local batch, strangers = read_batch(q, incoming, own)
  local young, old = {}, {}
  local fields = missing(young, strangers)
  local begun, values, olds = remembered(seen, seen_old, fields, #fields, #fields, now, window)
  fill(young, fields, values, 1)
  fill(old, fields, olds, 1)

  local kinds, replies, changed, replaced, held = {}, {}, {}, {}, {}
  for i, e in ipairs(batch) do
    local known = e and held[e.id]
    if e and not known then
      if e.index then
        known = parse(q.s, start(q, e.index))
      elseif begun then
        known = seek(young[e.field], e.id) or seek(old[e.field], e.id)
        if known then
          known.remembered = raw(known)
        end
      end
    end
    local same = false
    if not e then
      kinds[i] = "n"
    elseif not known then
      kinds[i] = "a"
    elseif video(known) ~= video(e) then
      kinds[i] = "c"
      replies[#replies + 1] = raw(known)
      e = nil
    else
      local merged = merge(known, e)
      merged.field, merged.index, merged.remembered = e.field, e.index, known.remembered
      e = merged
      same = raw(e) == raw(known)
      kinds[i] = same and "d" or "m"
      replies[#replies + 1] = raw(e)
    end
    -- A repeat of what is stored changes nothing; of what had left the sequence it may: there may be room.
    if e and not (same and (e.index or held[e.id])) then
      held[e.id] = e
    end
  end

  local sorted = true
  for _, e in ipairs(batch) do
    local now_held = e and held[e.id]
    if now_held and not now_held.listed then
      now_held.listed = true
      local last = changed[#changed]
      sorted = sorted and not (last and earlier(now_held, last))
      changed[#changed + 1] = now_held
      if now_held.index then
        replaced[now_held.index] = true
      end
    end
  end
  if not sorted then
    table.sort(changed, earlier)
  end

  if #changed > 0 then
    local count = q.count + #changed
    for _ in pairs(replaced) do
      count = count - 1
    end
    local surplus = math.max(0, count - length)
    local gone, kept = split(q, arranged(q, changed, replaced), surplus, count - surplus)
    local forgotten = {}
    for _, e in ipairs(gone) do
      if e.remembered ~= raw(e) then
        forgotten[#forgotten + 1] = e
      end
    end
    if #forgotten > 0 then
      fields = missing(young, forgotten)
      if begun and #fields > 0 then
        fill(young, fields, redis.call("HMGET", seen, unpack(fields)), 0)
      end
      local pages = paged(forgotten, young)
      keep(seen, pages, #pages, begun, now, window)
    end
    redis.call("SET", sequence, kept, "PX", ttl)
  else
    redis.call("PEXPIRE", sequence, ttl)
  end
  redis.call("PEXPIRE", profile, ttl)
  return table.concat(kinds), table.concat(replies)
end

-- Several users' batches, each atomic and alone: one that cannot be written (a damaged sequence) fails the
-- call, but not before the others were written.
--
-- first   KEYS from here on: four for each user
-- batches ARGV from here on: for each user what `incoming` and `own` says above
-- Returns {letters, records, ...}, two for each user
local function write_all(first, batches, length, ttl, window, now)
  local answers, failure = {}, nil
  for i = 0, (#ARGV - batches - 1) / 2 do
    local ok, kinds, records =
      pcall(write, first + 4 * i, ARGV[batches + 2 * i], ARGV[batches + 2 * i + 1], length, ttl, window, now)
    if ok then
      answers[#answers + 1] = kinds
      answers[#answers + 1] = records
    elseif type(kinds) == "table" then -- what the server said to a command: no memory, read only
      return kinds
    else
      failure = failure or "what is held on a user cannot be read: " .. kinds
    end
  end
  return failure and redis.error_reply("ERR " .. failure) or answers
end
