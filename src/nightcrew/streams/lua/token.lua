-- What append.lua does for nearly each token of an answer, in half the time. Whatever is not as it nearly always is, it
-- leaves to what comes after it. ARGV: chat, sid, epoch, offset, lease or 0, data
if ARGV[5] == '0' and #ARGV[6] > 0 then
  local chat, sid = ARGV[1], ARGV[2]
  local was = redis.call('HMGET', chat .. ':m:' .. sid, 'ep', 'st', 'stop')
  if was[1] == ARGV[3] and was[2] == 'live' and redis.call('GET', chat .. ':act') == sid then
    local l = chat .. ':l:' .. sid
    local length = redis.call('STRLEN', l)
    if length > 0 and length == tonumber(ARGV[4]) then
      redis.call('APPEND', l, ARGV[6])
      redis.call('PUBLISH', chat .. ':c:' .. sid, 'D ' .. length .. ' ' .. ARGV[6])
      return {'written', length + #ARGV[6], was[3] or '', ''}
    end
  end
end
