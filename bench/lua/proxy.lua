-- Asks for the path of the URL, with the API key in the first argument if there is one.
function init(args)
  if args[1] then
    wrk.headers["x-api-key"] = args[1]
  end
  asked = wrk.format("GET")
end

function request()
  return asked
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"micros":%d,"p50":%d,"p99":%d,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
