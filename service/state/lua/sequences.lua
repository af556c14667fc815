-- Batches of several users, each atomic and alone, with ids that have been claimed.
--
-- KEYS  for each user: sequence, left (young), left (old), profile
-- ARGV  sequence length, its TTL in ms, the window in ms, for each user: claimed, records, see `write`
-- Returns for each user {letters, records}, flat; "u" and the reason for one on whom something unreadable is stored

local answers = {}
for user = 0, (#ARGV - 5) / 2 do
  local claimed, incoming = ARGV[2 * user + 4], ARGV[2 * user + 5]
  local ok, letters, records =
    pcall(write, 4 * user + 1, claimed, incoming, tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]))
  if not ok then
    local reply = type(letters) == "table" and letters.err
    if reply and not find(reply, "WRONGTYPE", 1, true) then -- no memory, read only
      return letters
    end
    letters, records = "u", reply or letters
  end
  answers[#answers + 1], answers[#answers + 2] = letters, records
end
return answers
