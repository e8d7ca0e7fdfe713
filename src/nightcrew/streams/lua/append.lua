-- ARGV: chat, sid, epoch, offset, lease or 0, data
local m, l = facts(sid), log(sid)
local was = redis.call('HMGET', m, 'ep', 'st', 'stop', 't0')
if not was[1] then
  return {redis.call('EXISTS', tomb) == 1 and 'gone' or 'missing', 0, '', ''}
end
if was[1] ~= ARGV[3] or was[2] ~= 'live' then return {'closed', 0, '', was[2]} end
if redis.call('GET', active) ~= sid then -- it was evicted, and so may have been found by nobody who erased or began
  if tonumber(redis.call('GET', tomb) or 0) > tonumber(was[4]) then
    redis.call('DEL', m, l)
    tell(sid, 'G')
    return {'gone', 0, '', ''}
  end
  if taken() then
    close(sid, 'replaced', '', true)
    return {'closed', 0, '', 'replaced'}
  end
  redis.call('SET', active, sid, 'PX', redis.call('PTTL', m))
end
if #ARGV[6] == 0 and redis.call('ZADD', all, 'NX', was[4], sid) == 1 then keep_list() end
if ARGV[5] ~= '0' then redis.call('HSET', m, 'lease', now() + tonumber(ARGV[5])) end
local length, offset, stop = redis.call('STRLEN', l), tonumber(ARGV[4]), was[3] or ''
if length ~= offset then return {'elsewhere', length, stop, ''} end
if #ARGV[6] > 0 then
  redis.call('APPEND', l, ARGV[6])
  if length == 0 then redis.call('PEXPIRE', l, redis.call('PTTL', m)) end
  tell(sid, 'D ' .. offset .. ' ' .. ARGV[6])
end
return {'written', length + #ARGV[6], stop, ''}
