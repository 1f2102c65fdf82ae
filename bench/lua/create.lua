-- Creations of links, every one with a destination of its own.
local thread_count = 0

function setup(thread)
  thread:set("number", thread_count)
  thread_count = thread_count + 1
end

function init(args)
  made = 0
  headers = { ["content-type"] = "application/json" }
end

function request()
  made = made + 1
  local body = string.format('{"url":"https://example.com/a/long/page/number/%d-%d?from=bench"}', number, made)
  return wrk.format("POST", "/v1/links", headers, body)
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
