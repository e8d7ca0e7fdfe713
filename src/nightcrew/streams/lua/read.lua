-- ARGV: chat, sid, offset, most
local offset, most = tonumber(ARGV[3]), tonumber(ARGV[4])
return {redis.call('GETRANGE', log(sid), offset, offset + most - 1), seen(sid)}
