-- ARGV: chat, sid, epoch seen, whether to stop it although it is heard of, state, reason
local was = redis.call('HMGET', facts(sid), 'ep', 'st', 'lease', 'stop')
if was[1] ~= ARGV[3] or was[2] ~= 'live' then return 0 end
if tonumber(was[3]) > now() and not (ARGV[4] == '1' and was[4]) then return 0 end
close(sid, ARGV[5], ARGV[6], true)
return 1
