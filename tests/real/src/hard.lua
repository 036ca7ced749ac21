local ffi=require'ffi'; ffi.cdef[[typedef int (*cb)(const int*,const int*); void qsort(void*,size_t,size_t,cb); int printf(const char*,...); typedef struct{double a;int b;float c;} S; long strtol(const char*,char**,int);]]
local a=ffi.new('int[5]',5,3,1,4,2); ffi.C.qsort(a,5,4,function(x,y) return x[0]-y[0] end); print(a[0],a[4])
local s=ffi.new('S[100]'); for k=1,2000 do for i=0,99 do s[i].a=s[i].a+i*0.25; s[i].b=s[i].b+k; s[i].c=s[i].a end end print(s[99].a,s[99].b,s[99].c)
local n=0 for i=1,1e5 do local ok=pcall(function() if i%100==0 then error('x') end end) if not ok then n=n+1 end end print(n)
local t={} for i=1,3e5 do t[#t+1]=('%d:%x'):format(i,i*7) end print(#table.concat(t)); collectgarbage()
local x=0LL for i=1,1e6 do x=x*31LL+i end print(x, bit.bxor(0xff,bit.rol(12345,7)))
local co={} for i=1,2000 do co[i]=coroutine.wrap(function() local y=0 while true do y=y+coroutine.yield(y) end end) co[i]() end local z=0 for k=1,20 do for i=1,2000 do z=z+co[i](k) end end print(z)
local function so(n) return 1+so(n+1) end print(pcall(so,1)) ffi.C.printf("%d %.2f %s\n",ffi.new('int',3),2.5,"v")
