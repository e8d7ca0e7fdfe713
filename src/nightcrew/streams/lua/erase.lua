-- ARGV: chat
local found = redis.call('ZRANGE', all, 0, -1)
local last = redis.call('GET', active)
if last then table.insert(found, last) end
local erased = 0
for _, id in ipairs(found) do
  local was = redis.call('HMGET', facts(id), 'owner', 'req')
  if redis.call('DEL', facts(id)) == 1 then
    erased = erased + 1
    tell(id, 'G')
    tell_owner(was[1], 'G ' .. id .. ' ' .. chat)
    if was[2] and was[2] ~= '' then redis.call('DEL', was[2]) end
  end
  redis.call('DEL', log(id))
end
redis.call('DEL', active, all)
redis.call('SET', tomb, now(), 'PX', ERASED)
return erased
