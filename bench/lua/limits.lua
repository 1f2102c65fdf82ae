-- Checks of rate limits: "mainstay" or "throttlecrab" in the first argument, of 10,000 keys at random.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  math.randomseed(7 + number)
  local headers = { ["content-type"] = "application/json" }
  requests = {}
  for i = 1, 10000 do
    local key = "user-" .. i
    if args[1] == "mainstay" then
      local body = '{"domain":"bench","descriptors":[{"entries":{"user":"' .. key .. '"}}]}'
      requests[i] = wrk.format("POST", "/v1/limits/check", headers, body)
    else
      local body = '{"key":"' .. key .. '","max_burst":100,"count_per_period":6000,"period":60,"quantity":1}'
      requests[i] = wrk.format("POST", "/throttle", headers, body)
    end
  end
end

function request()
  return requests[math.random(10000)]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
