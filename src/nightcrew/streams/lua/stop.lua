-- ARGV: chat, sid, by
local was = redis.call('HMGET', facts(sid), 'st', 'owner')
if was[1] == 'live' then
  redis.call('HSETNX', facts(sid), 'stop', ARGV[3])
  tell_owner(was[2], 'S ' .. sid .. ' ' .. chat .. ' ' .. ARGV[3])
end
return seen(sid)
