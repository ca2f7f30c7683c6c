"""What must happen at once in Redis or Valkey: scripts that run there."""

#: Append an event (ARGV[2...]) to its stream (KEYS[1]), unless that was done within ARGV[1]
#: seconds (KEYS[2]). Both ways something is written, so that waiting for the disk means something.
PUBLISH = """\
if redis.call('SET', KEYS[2], '', 'NX', 'EX', ARGV[1]) then
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
else
  redis.call('EXPIRE', KEYS[2], ARGV[1])
end
"""

#: Let the group ARGV[1] follow the streams KEYS[2...], each from its first event, and no others;
#: KEYS[1] is the set of those it follows. A group that is new to a stream needs all of it.
FOLLOW = """\
local followed, group = KEYS[1], ARGV[1]
local wanted = {}
for i = 2, #KEYS do wanted[KEYS[i]] = true end
for _, stream in ipairs(redis.call('SMEMBERS', followed)) do
  if not wanted[stream] then
    redis.pcall('XGROUP', 'DESTROY', stream, group)
    redis.call('SREM', followed, stream)
  end
end
for i = 2, #KEYS do
  local made = redis.pcall(
    'XGROUP', 'CREATE', KEYS[i], group, '0', 'MKSTREAM', 'ENTRIESREAD', '0')
  if made.err and not string.find(made.err, 'BUSYGROUP') then return made end
  if not made.err then
    local info, stream = redis.call('XINFO', 'STREAM', KEYS[i]), {}
    for j = 1, #info, 2 do stream[info[j]] = info[j + 1] end
    if stream['entries-added'] > stream['length'] then
      redis.call('XGROUP', 'DESTROY', KEYS[i], group)
      return redis.error_reply('TRIMMED the first events of ' .. KEYS[i] .. ' are gone')
    end
  end
  redis.call('SADD', followed, KEYS[i])
end
"""

#: Shorten the stream KEYS[1] to about ARGV[1] events, as far as every group has confirmed them.
TRIM = """\
local surplus = redis.call('XLEN', KEYS[1]) - ARGV[1]
if surplus <= 0 then return 0 end
local function earlier(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  if a_ms ~= b_ms then return tonumber(a_ms) < tonumber(b_ms) end
  return tonumber(a_seq) < tonumber(b_seq)
end
local needed = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1][1]
for _, info in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local group = {}
  for i = 1, #info, 2 do group[info[i]] = info[i + 1] end
  local first = group['last-delivered-id']
  if group['pending'] > 0 then first = redis.call('XPENDING', KEYS[1], group['name'])[2] end
  if earlier(first, needed) then needed = first end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', needed, 'LIMIT', surplus)
"""
