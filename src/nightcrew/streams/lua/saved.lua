-- ARGV: chat, sid
local was = redis.call('HMGET', facts(sid), 'st', 'linger')
if not was[1] or was[1] == 'live' then return 0 end
redis.call('HSET', facts(sid), 'saved', 1)
redis.call('PEXPIRE', facts(sid), tonumber(was[2]))
redis.call('PEXPIRE', log(sid), tonumber(was[2]))
keep_list()
return 1
