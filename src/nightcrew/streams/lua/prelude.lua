-- What every script begins with. All keys of a chat are in one slot; ARGV[1] is what they begin with, such as
-- "nc:{chat}", and ARGV[2] the stream's ID. Time is the server's, in milliseconds.
local chat, sid = ARGV[1], ARGV[2]
local active, all, tomb = chat .. ':act', chat .. ':all', chat .. ':tomb'
-- A week until it is saved, an hour in which what was erased stays so, ten minutes in which a request is known:
local KEPT, ERASED, ASKED = 604800000, 3600000, 600000
local LOST = 'its producer was not heard of'

local function now()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function facts(id) return chat .. ':m:' .. id end
local function log(id) return chat .. ':l:' .. id end
local function tell(id, text) redis.call('PUBLISH', chat .. ':c:' .. id, text) end
local function tell_owner(owner, text)
  if owner and owner ~= '' then redis.call('PUBLISH', owner, text) end
end

-- Keep the list of the chat's streams as long as the longest of them is kept, and on it only those that are.
local function keep_list()
  local longest = 0
  for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do
    local left = redis.call('PTTL', facts(id))
    if left < 0 then redis.call('ZREM', all, id) end
    longest = math.max(longest, left)
  end
  if longest > 0 then redis.call('PEXPIRE', all, longest) end
end

-- End a stream: its log is kept in no more memory than it needs, and nobody writes to it again.
local function close(id, state, reason, shut_out)
  local m, l = facts(id), log(id)
  local kept = redis.call('HMGET', m, 'owner', 'saved', 'linger')
  local length = redis.call('STRLEN', l)
  redis.call('HSET', m, 'st', state, 'end', length, 'err', reason, 'ended', now())
  if shut_out then redis.call('HINCRBY', m, 'ep', 1) end
  local ttl = kept[2] == '1' and tonumber(kept[3]) or KEPT
  redis.call('PEXPIRE', m, ttl)
  if length > 0 then redis.call('SET', l, redis.call('GET', l), 'PX', ttl) end
  keep_list()
  if redis.call('GET', active) == id then redis.call('DEL', active) end
  tell(id, 'F ' .. length .. ' ' .. state)
  if shut_out then tell_owner(kept[1], 'F ' .. length .. ' ' .. state .. ' ' .. id .. ' ' .. chat) end
end

-- Whether the chat has another stream that somebody writes; one that nobody writes any more is ended.
local function taken()
  local other = redis.call('GET', active)
  if not other or other == sid then return false end
  local was = redis.call('HMGET', facts(other), 'st', 'lease')
  if was[1] ~= 'live' then return false end
  if tonumber(was[2]) > now() then return true end
  close(other, 'lost', LOST, true)
  return false
end

-- Begin a stream, or begin it again. ARGV: chat, sid, user, owner's channel, (a script's own), request key or '', lease,
-- longest, saved, linger, meta
local function keep(epoch, begun)
  local linger = tonumber(ARGV[10])
  local ttl = tonumber(ARGV[8]) + linger
  redis.call('HSET', facts(sid), 'st', 'live', 'ep', epoch, 'user', ARGV[3], 'owner', ARGV[4], 't0', begun,
    'lease', now() + tonumber(ARGV[7]), 'saved', ARGV[9], 'linger', linger, 'req', ARGV[6], 'meta', ARGV[11])
  redis.call('PEXPIRE', facts(sid), ttl)
  redis.call('SET', active, sid, 'PX', ttl)
  redis.call('ZADD', all, now(), sid)
  keep_list()
  if ARGV[6] ~= '' then redis.call('SET', ARGV[6], sid, 'PX', ASKED) end
end

local function seen(id)
  local m = facts(id)
  local found = redis.call('HGETALL', m)
  if #found == 0 then return {} end
  return {id, now(), redis.call('STRLEN', log(id)), found}
end
