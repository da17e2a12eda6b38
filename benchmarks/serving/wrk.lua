-- Sends the requests of a folder, 1 to n, one after the other and again from the first; says what came of it as JSON.
local requests, current = {}, 0

function init(args)
  for i = 1, tonumber(args[2]) do
    local file = assert(io.open(args[1] .. "/" .. i, "rb"))
    requests[i] = file:read("*all")
    file:close()
  end
end

function request()
  current = current % #requests + 1
  return requests[current]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nJSON {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, e.connect, e.read, e.write, e.timeout, e.status))
end
