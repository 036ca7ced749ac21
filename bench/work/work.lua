-- work.lua N: tables, strings, closures, floats; prints one checksum line.
local n = tonumber(arg and arg[1]) or 10

local function words(count)
  local t, x = {}, 12345
  for i = 1, count do
    x = (x * 1103515245 + 12345) % 2147483648
    t[i] = string.format("w%05d", x // 65536 % 5000)
  end
  return t
end

local function queens(size)
  local cols, up, down, found = {}, {}, {}, 0
  local function place(row)
    if row > size then found = found + 1 return end
    for c = 1, size do
      if not cols[c] and not up[row + c] and not down[row - c + size] then
        cols[c], up[row + c], down[row - c + size] = true, true, true
        place(row + 1)
        cols[c], up[row + c], down[row - c + size] = nil, nil, nil
      end
    end
  end
  place(1)
  return found
end

local Point = {}
Point.__index = Point
function Point.new(x, y) return setmetatable({x = x, y = y}, Point) end
function Point:add(o) return Point.new(self.x + o.x, self.y + o.y) end

local sum = 0
for round = 1, n do
  local count, list = {}, words(20000)
  for _, w in ipairs(list) do count[w] = (count[w] or 0) + 1 end
  local keys = {}
  for k in pairs(count) do keys[#keys + 1] = k end
  table.sort(keys)
  for i = 1, #keys, 50 do sum = (sum * 31 + count[keys[i]]) % 1000000007 end
  local text = table.concat(list, " ", 1, 2000)
  local _, hits = text:gsub("w0(%d)", "<%1>")
  sum = sum + hits + queens(7)
  local p = Point.new(0, 0)
  for i = 1, 30000 do p = p:add(Point.new(i * 0.5, 1 / i)) end
  sum = sum + math.floor(p.x + p.y)
end
print("lua", sum)
