-- Rate cells: the machines of src/rate (form.rs, small.rs, ledger.rs), number by number. All numbers are integers below 2^53.
-- ARGV: 1 c(harge), p(eek) or a(djust), 2 now in microseconds (empty: the server's), 3 ms that keys live longer than needed,
-- 4 ms to remember the id of a correction (0: none; its key comes last), then eight for each key:
-- kind, shadow or instant charged, cost or difference, holder, and four numbers of the rate
local fmod, format = math.fmod, string.format
local op, now, pad = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end

local function int(n) return format('%.0f', n) end
local function div(x, y) return (x - fmod(x, y)) / y end
local function ceil_div(x, y) return div(x + y - 1, y) end
local function ms_until(at) return int(ceil_div(math.max(at - now, 0), 1000) + 1 + pad) end

-- Buckets: spans of time are whole microseconds and a part of one more.
local function span(p, n)
  local x = n * p[2]
  return n * p[1] + div(x, p[3]), fmod(x, p[3])
end
local function plus(p, us1, part1, us2, part2)
  local part = part1 + part2
  if part >= p[3] then return us1 + us2 + 1, part - p[3] end
  return us1 + us2, part
end
local function is_less(us1, part1, us2, part2) return us1 < us2 or (us1 == us2 and part1 < part2) end
local function minus(p, us1, part1, us2, part2)
  if not is_less(us2, part2, us1, part1) then return 0, 0 end
  if part1 >= part2 then return us1 - us2, part1 - part2 end
  return us1 - us2 - 1, part1 + p[3] - part2
end
local function up(us, part) return part > 0 and us + 1 or us end
local function most_owed(p)
  local us, part = span(p, p[4])
  us, part = plus(p, us, part, us, part)
  return plus(p, now, 0, us, part)
end
local function full_at(p, s)
  if not s then return now, 0 end
  local us, part = s[1], 0
  if s[2] > 0 and s[2] < p[3] then us, part = s[1] - 1, s[2] end
  if not is_less(now, 0, us, part) then return now, 0 end
  local most, most_part = most_owed(p)
  if is_less(most, most_part, us, part) then return most, most_part end
  return us, part
end
local function tokens(p, us, part)
  local n = math.min(math.floor((us + part / p[3]) / (p[1] + p[2] / p[3])), p[4])
  -- The quotient of doubles may be one off.
  while n > 0 do
    local us2, part2 = span(p, n)
    if not is_less(us, part, us2, part2) then break end
    n = n - 1
  end
  while n < p[4] do
    local us2, part2 = span(p, n + 1)
    if is_less(us, part, us2, part2) then break end
    n = n + 1
  end
  return n
end

local bucket = {}
function bucket.admit(p, s, cost)
  if cost > p[4] then return -1 end
  local us, part = full_at(p, s)
  us, part = plus(p, us, part, span(p, cost))
  local most, most_part = plus(p, now, 0, span(p, p[4]))
  if not is_less(most, most_part, us, part) then return 0, { up(us, part), part } end
  return up(minus(p, us, part, most, most_part))
end
function bucket.report(p, s)
  local us, part = full_at(p, s)
  local most, most_part = plus(p, now, 0, span(p, p[4]))
  return tokens(p, minus(p, most, most_part, us, part)), up(minus(p, us, part, now, 0))
end
function bucket.adjust(p, s, at, by, is_less_now)
  local us, part = full_at(p, s)
  local by_us, by_part = span(p, math.min(by, p[4]))
  if is_less_now then
    by_us, by_part = minus(p, by_us, by_part, math.max(now - at, 0), 0)
    us, part = minus(p, us, part, by_us, by_part)
    if is_less(us, part, now, 0) then us, part = now, 0 end
  else
    us, part = plus(p, us, part, by_us, by_part)
    local most, most_part = most_owed(p)
    if is_less(most, most_part, us, part) then us, part = most, most_part end
  end
  return { up(us, part), part }
end

local function corrected(used, limit, by, is_less_now)
  if is_less_now then return math.max(used - by, 0) end
  return math.min(used + by, 2 * limit)
end
local function end_of(at, window) return (div(at, window) + 1) * window end

-- Windows: the end and the count.
local window = {}
function window.of(p, s)
  local this, next
  if p.kind == 'k' then
    if now >= p[2] and now < p[3] then this, next = p[3], p[4]
    elseif now >= p[3] and now < p[4] then this, next = p[4], p[4]
    else return nil end
  else
    this = end_of(now, p[2])
    next = this + p[2]
  end
  if s and (s[1] == this or s[1] == next) then return s[1], s[2] end
  return this, 0
end
function window.admit(p, s, cost)
  local stop, used = window.of(p, s)
  if not stop then return nil end
  if cost > p[1] then return -1 end
  if used + cost <= p[1] then return 0, { stop, used + cost } end
  return stop - now
end
function window.report(p, s)
  local stop, used = window.of(p, s)
  return math.max(p[1] - used, 0), stop - now
end
function window.adjust(p, s, at, by, is_less_now)
  local stop
  if p.kind == 'k' then
    if at < p[2] or at >= p[4] then return nil end
    stop = at < p[3] and p[3] or p[4]
  else
    stop = end_of(at, p[2])
  end
  if now >= stop or (s and s[1] ~= stop) then return nil end
  return { stop, corrected(s and s[2] or 0, p[1], by, is_less_now) }
end

-- Two windows: the end of the one after the present one, the last count and the present one.
local counter = {}
function counter.of(p, s)
  local w = p[2]
  local stop = end_of(now, w)
  if s then
    local kept = math.max(s[1] - w, 0)
    if kept == stop or kept == stop + w then return kept, s[2], s[3] end
    if s[1] == stop then return stop, s[3], 0 end
  end
  return stop, 0, 0
end
function counter.estimate(p, stop, last, present)
  local left = math.min(stop - now, p[2])
  local weight = math.min(ceil_div(left, p[3]), p[4])
  return present + ceil_div(last * weight, p[4]), left
end
function counter.admit(p, s, cost)
  local limit, w, grain, grains = p[1], p[2], p[3], p[4]
  if cost > limit then return -1 end
  local stop, last, present = counter.of(p, s)
  local used, left = counter.estimate(p, stop, last, present)
  if used + cost <= limit then return 0, { stop + w, last, present + cost } end
  local room, wait = limit - cost, nil
  if present <= room then
    wait = math.max(left - div((room - present) * grains, math.max(last, 1)) * grain, 0)
  else
    local weight = math.min(div(room * grains, present), grains)
    wait = weight == grains and left or left + w - weight * grain
  end
  return math.max(stop - left - now, 0) + wait
end
function counter.report(p, s)
  local stop, last, present = counter.of(p, s)
  local used = counter.estimate(p, stop, last, present)
  return math.max(p[1] - used, 0), stop - now + (present > 0 and p[2] or 0)
end
function counter.adjust(p, s, at, by, is_less_now)
  local stop, last, present = counter.of(p, s)
  local its = end_of(at, p[2])
  if its == stop then present = corrected(present, p[1], by, is_less_now)
  elseif its + p[2] == stop then last = corrected(last, p[1], by, is_less_now)
  else return nil end
  return { stop + p[2], last, present }
end

local machines = { b = bucket, f = window, k = window, c = counter }

-- Ledgers: a sorted set. 'h' and an id is a charge, its score the instant; 'n' and the id its count with a minus, where that
-- is not 1; 't' the total with a minus.
local ledger = {}
function ledger.count(key, id)
  local n = redis.call('ZSCORE', key, 'n' .. id)
  return n and -n or 1
end
function ledger.total(key)
  local t = redis.call('ZSCORE', key, 't')
  return t and -t or 0
end
function ledger.put(key, id, at, count)
  if count > 0 then redis.call('ZADD', key, int(at), 'h' .. id) else redis.call('ZREM', key, 'h' .. id) end
  if count > 1 then redis.call('ZADD', key, int(-count), 'n' .. id) else redis.call('ZREM', key, 'n' .. id) end
end
function ledger.close(p, key, total)
  if total <= 0 then return redis.call('DEL', key) end
  redis.call('ZADD', key, int(-total), 't')
  local newest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  redis.call('PEXPIRE', key, ms_until(newest[2] + p[2]))
end
function ledger.forget(p, key)
  local gone = redis.call('ZRANGEBYSCORE', key, 1, int(now - p[2]))
  -- From the future, where the clock went back that far.
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', key, int(now + p[2] + 1), '+inf')) do gone[#gone + 1] = member end
  if #gone == 0 then return end
  local total = ledger.total(key)
  for _, member in ipairs(gone) do
    local id = string.sub(member, 2)
    total = total - ledger.count(key, id)
    redis.call('ZREM', key, member, 'n' .. id)
  end
  ledger.close(p, key, total)
end
function ledger.own(p, key)
  if p.kind == 'h' and redis.call('ZSCORE', key, 'h' .. p.holder) then return ledger.count(key, p.holder) end
  return 0
end
function ledger.admit(p, key, cost)
  ledger.forget(p, key)
  if cost > p[1] then return -1 end
  local over = ledger.total(key) - ledger.own(p, key) + cost - p[1]
  if over <= 0 then return 0 end
  local own, from = 'h' .. p.holder, 0
  while true do
    local some = redis.call('ZRANGEBYSCORE', key, 1, '+inf', 'WITHSCORES', 'LIMIT', from, 64)
    if #some == 0 then return -1 end
    for i = 1, #some, 2 do
      if p.kind ~= 'h' or some[i] ~= own then
        over = over - ledger.count(key, string.sub(some[i], 2))
        if over <= 0 then return math.max(some[i + 1] + p[2] - now, 0) end
      end
    end
    from = from + 64
  end
end
function ledger.enter(p, key, cost)
  local total, id, count = ledger.total(key), p.holder, cost
  if p.kind == 'h' then
    total = total - ledger.own(p, key)
  else
    id = int(now)
    if redis.call('ZSCORE', key, 'h' .. id) then count = count + ledger.count(key, id) end
  end
  ledger.put(key, id, now, count)
  ledger.close(p, key, total + cost)
end
function ledger.report(p, key)
  local newest = redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')
  local reset = newest[2] and math.max(newest[2] + p[2] - now, 0) or 0
  return math.max(p[1] - ledger.total(key), 0), reset
end
function ledger.adjust(p, key, at, by, is_less_now)
  ledger.forget(p, key)
  local id = p.kind == 'h' and p.holder or int(at)
  if p.kind == 'l' and at + p[2] <= now then return end
  local score = redis.call('ZSCORE', key, 'h' .. id)
  local total, count = ledger.total(key), 0
  if score then count = ledger.count(key, id) elseif p.kind == 'h' or is_less_now then return end
  local change = is_less_now and -math.min(by, count) or math.min(by, math.max(2 * p[1] - total, 0))
  ledger.put(key, id, tonumber(score) or at, count + change)
  ledger.close(p, key, total + change)
end

local function cell(i)
  local base = 4 + (i - 1) * 8
  local p = { kind = ARGV[base + 1], holder = ARGV[base + 4] }
  for j = 1, 4 do p[j] = tonumber(ARGV[base + 4 + j]) end
  return p, tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])
end
-- A state that is at rest says nothing.
local function load(key)
  local text = redis.call('GET', key)
  if not text then return nil end
  local s = {}
  for n in string.gmatch(text, '%d+') do s[#s + 1] = tonumber(n) end
  return s[1] > now and s or nil
end
local function save(key, s)
  local text = int(s[1]) .. ' ' .. int(s[2])
  if s[3] then text = text .. ' ' .. int(s[3]) end
  redis.call('SET', key, text, 'PX', ms_until(s[1]))
end

if op == 'a' then
  local count = #KEYS
  if ARGV[4] ~= '0' then
    if not redis.call('SET', KEYS[count], '1', 'NX', 'PX', ARGV[4]) then return 0 end
    count = count - 1
  end
  for i = 1, count do
    local p, at, delta = cell(i)
    local machine, is_less_now = machines[p.kind], delta < 0
    at = math.min(at, now)
    if machine then
      local s = load(KEYS[i])
      local changed = (s or not is_less_now) and machine.adjust(p, s, at, math.abs(delta), is_less_now)
      if changed then save(KEYS[i], changed) end
    else
      ledger.adjust(p, KEYS[i], at, math.abs(delta), is_less_now)
    end
  end
  return 1
end

local seen, is_allowed = {}, true
for i = 1, #KEYS do
  local p, shadow, cost = cell(i)
  local machine, one = machines[p.kind], { p = p, cost = cost }
  if machine then
    one.state = load(KEYS[i])
    one.retry, one.next = machine.admit(p, one.state, cost)
  else
    one.retry = ledger.admit(p, KEYS[i], cost)
  end
  if not one.retry then return redis.error_reply('MSPASSED ' .. int(now)) end
  one.fits = one.retry == 0
  if not one.fits and shadow == 0 then is_allowed = false end
  seen[i] = one
end
local answer = { now }
for i, one in ipairs(seen) do
  local machine = machines[one.p.kind]
  if is_allowed and one.fits and one.cost > 0 and op == 'c' then
    if machine then
      save(KEYS[i], one.next)
      one.state = one.next
    else
      ledger.enter(one.p, KEYS[i], one.cost)
    end
  end
  local remaining, reset
  if machine then remaining, reset = machine.report(one.p, one.state) else remaining, reset = ledger.report(one.p, KEYS[i]) end
  local at = #answer
  answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] = one.fits and 1 or 0, remaining, one.retry, reset
end
return answer
