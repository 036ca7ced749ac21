def fib(n) n<2 ? n : fib(n-1)+fib(n-2) end
puts fib(22); th=4.times.map{|i| Thread.new{ (1..1000).sum*i }}; puts th.map(&:value).sum
puts `echo sub`.strip; r,w=IO.pipe; pid=fork{ w.puts "child"; exit!(0) }; Process.wait pid; w.close; puts r.read
puts "%.4f" % Math.sin(1); puts 2**100; f=Fiber.new{Fiber.yield 1;2}; p f.resume,f.resume; trap("USR1"){puts "sig"}; Process.kill("USR1",$$); sleep 0.05
