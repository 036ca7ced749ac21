r=Ractor.new{(1..1000).sum}; puts r.take
t=4.times.map{|i|Thread.new{(1..10000).sum*i}}; p t.map(&:value)
f=Fiber.new{3.times{|i|Fiber.yield i};:e}; p 4.times.map{f.resume}
p fork{exit 3}.then{|x|Process.wait2(x)[1].exitstatus}
trap('USR1'){puts 'usr1'}; Process.kill('USR1',$$); sleep 0.05
def so(n) so(n+1)+1 end
begin; so(0); rescue SystemStackError; puts 'so'; end
p 2**200%1000007, `echo bt`.chomp, 1.1.rationalize(Rational(1,100)), "é".encode('UTF-16LE').bytes
require 'socket'; s=TCPServer.new('127.0.0.1',0); Thread.new{c=s.accept;c.puts 'tcp';c.close}; puts TCPSocket.new('127.0.0.1',s.addr[1]).gets
require 'timeout'; begin; Timeout.timeout(0.05){loop{}}; rescue Timeout::Error; puts 'timeout'; end
GC.stress=true; a=(1..30).map{|i|i.to_s*3}; GC.stress=false; GC.compact rescue p $!; puts a.size
