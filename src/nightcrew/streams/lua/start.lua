-- ARGV: as `keep` has it, with what becomes of a conflict as its own
local conflict, request = ARGV[5], ARGV[6]
if redis.call('EXISTS', facts(sid)) == 1 then return {'begun', seen(sid), ''} end -- the answer was lost
if request ~= '' then
  local known = redis.call('GET', request)
  if known and redis.call('EXISTS', facts(known)) == 1 then return {'known', seen(known), ''} end
end
local ended = ''
local old = redis.call('GET', active)
if not old then -- it may have been evicted
  for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do
    if redis.call('HGET', facts(id), 'st') == 'live' then old = id end
  end
end
if old then
  local was = redis.call('HMGET', facts(old), 'st', 'lease')
  if was[1] == 'live' and tonumber(was[2]) > now() then
    if conflict == 'reject' then return {'rejected', seen(old), ''} end
    if conflict == 'join' then return {'joined', seen(old), ''} end
    close(old, 'replaced', '', true)
    ended = old
  elseif was[1] == 'live' then
    close(old, 'lost', LOST, true)
    ended = old
  end
end
keep(1, now())
return {'begun', seen(sid), ended}
