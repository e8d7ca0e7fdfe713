-- What append.lua does for nearly each token of an answer, in half the time: it returns where the log ends, and no more.
-- Whatever is not as it nearly always is, it leaves to what comes after it, as it was.
-- ARGV: chat, sid, epoch, offset, lease or 0, data
if ARGV[5] == '0' and ARGV[4] ~= '0' and #ARGV[6] > 0 then
  local chat, sid = ARGV[1], ARGV[2]
  local was = redis.call('HMGET', chat .. ':m:' .. sid, 'ep', 'st', 'stop')
  if was[1] == ARGV[3] and was[2] == 'live' and not was[3] and redis.call('GET', chat .. ':act') == sid then
    local l = chat .. ':l:' .. sid
    local length = redis.call('APPEND', l, ARGV[6])
    local before = length - #ARGV[6]
    if before == tonumber(ARGV[4]) then
      redis.call('PUBLISH', chat .. ':c:' .. sid, 'D ' .. ARGV[4] .. ' ' .. ARGV[6])
      return length
    elseif before == 0 then
      redis.call('DEL', l)
    else
      redis.call('SET', l, redis.call('GETRANGE', l, 0, before - 1), 'KEEPTTL')
    end
  end
end
