-- ARGV: chat, sid or '' for the active one
if sid == '' then
  sid = redis.call('GET', active)
  if not sid then return {} end
end
return seen(sid)
