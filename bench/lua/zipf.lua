-- Requests in the order of a file of paths (drawn by a Zipf law beforehand, so that drawing costs nothing here).
local thread_count = 0

function setup(thread)
  thread:set("number", thread_count)
  thread_count = thread_count + 1
end

function init(args)
  requests = {}
  local formatted = {}
  for path in io.lines(args[1]) do
    local request = formatted[path]
    if not request then
      request = wrk.format("GET", path)
      formatted[path] = request
    end
    requests[#requests + 1] = request
  end
  -- Threads start at different places of the same sequence.
  at = (number * 77773) % #requests
end

function request()
  at = at + 1
  if at > #requests then at = 1 end
  return requests[at]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
