-- wrk's script: posts a photo, counts the answers that do not name the label, and prints one JSON line.
--   wrk ... URL -- BODY_FILE LABEL [HEADER VALUE]
-- "########" in the body is another number in each of 64 requests, made before the clock starts.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local body = file:read("*a")
  file:close()
  label, right, turn, requests = '"' .. args[2] .. '"', 0, 0, {}
  local headers = { ["Content-Type"] = "application/json" }
  if args[3] then headers[args[3]] = args[4] end
  local first, last = body:find("########", 1, true)
  for number = 1, (first and #body < 1000000) and 64 or 1 do
    local text = first and body:sub(1, first - 1) .. string.format("%08d", number) .. body:sub(last + 1) or body
    requests[number] = wrk.format("POST", nil, headers, text)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function response(status, headers, body)
  if status == 200 and body:find(label, 1, true) then right = right + 1 end
end

function done(summary, latency)
  local right = 0
  for _, thread in ipairs(threads) do right = right + thread:get("right") end
  local lost = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format(
    '{"answers": %d, "right": %d, "refused": %d, "lost": %d, "seconds": %.3f, "p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f}',
    summary.requests, right, summary.errors.status, lost, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
