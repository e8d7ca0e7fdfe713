-- ARGV: as `keep` has it, with the epoch as its own; begun at
if redis.call('EXISTS', facts(sid)) == 1 then return 'written' end
if redis.call('EXISTS', tomb) == 1 then return 'gone' end
local known = ARGV[6] ~= '' and redis.call('GET', ARGV[6])
if known and known ~= sid and redis.call('EXISTS', facts(known)) == 1 then return 'closed' end
if taken() then return 'closed' end
keep(ARGV[5], ARGV[12])
return 'written'
