-- Batches of several users, each atomic and alone, with ids that have been claimed.
--
-- KEYS  for each user: sequence, left (young), left (old), profile, history
-- ARGV  sequence length, its TTL in ms, the window in ms, for each user: claimed, records, see `write`
-- Returns for each user {letters, records}, flat; "u" and the reason for one on whom something unreadable is stored

local answers = {}
for user = 0, (#ARGV - 5) / 2 do
  local claimed, incoming = ARGV[2 * user + 4], ARGV[2 * user + 5]
  local ok, letters, records =
    pcall(write, 5 * user + 1, claimed, incoming, tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]))
  if not ok then
    local is_reply = type(letters) == "table"
    local reply = is_reply and letters.err or letters
    -- No memory, read only, or a right that is missing, which comes as a string: nothing is wrong with the user.
    if (is_reply or find(reply, "^%u+ ")) and not find(reply, "WRONGTYPE", 1, true) then
      return { err = reply }
    end
    letters, records = "u", reply
  end
  answers[#answers + 1], answers[#answers + 2] = letters, records
end
return answers
