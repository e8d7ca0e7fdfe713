-- ARGV: chat, sid, epoch, offset, state, reason, who asked for it or ''
local was = redis.call('HMGET', facts(sid), 'ep', 'st', 'stop', 't0')
if not was[1] then return {redis.call('EXISTS', tomb) == 1 and 'gone' or 'missing', 0, '', ''} end
local length, stop = redis.call('STRLEN', log(sid)), was[3] or ARGV[7]
if was[1] == ARGV[3] and was[2] == ARGV[5] then return {'written', length, stop, '', was[4]} end
if was[1] ~= ARGV[3] or was[2] ~= 'live' then return {'closed', 0, '', was[2]} end
if length ~= tonumber(ARGV[4]) then return {'elsewhere', length, stop, ''} end
if stop ~= '' then redis.call('HSET', facts(sid), 'stop', stop) end
close(sid, ARGV[5], ARGV[6], false)
return {'written', length, stop, '', was[4]}
