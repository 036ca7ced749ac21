local ffi=require'ffi'; ffi.cdef'int getpid(void); double sqrt(double);'
local t={} for i=1,1e6 do t[i%100+1]=(t[i%100+1] or 0)+i*0.5 end
local s=0 for i=1,2e7 do s=s+i%7 end
print('jit',jit and jit.status(), s, t[1], ffi.C.sqrt(2))
local co=coroutine.wrap(function() for i=1,3 do coroutine.yield(i) end end) print(co(),co(),co())
print(string.rep('ab',3):gsub('a','x'), pcall(error,'e'))
