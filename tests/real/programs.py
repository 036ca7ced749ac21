"""The rows of `make test-programs`: Debian's arm64 programs of every kind, each doing its usual work.

name, packages (Debian's names; the root has all rows' and scripts/guest-root's COMMON), files (of
src/, copied into the row's folder, which is /work in the guest), command (for bash in the guest),
expect (regular expressions that stdout must match, in this order), and where needed: status,
timeout, options (of dragoman run), folders (bound over the root's), user ("nobody": as another than
root), keys (typed on a terminal: seconds to wait, bytes), why (a row that fails, with its precise
reason: counted, not hidden).
"""
import glob
import os
import shutil

import runtimes

JAVA = runtimes.JAVA
POSTGRES = "/usr/lib/postgresql/15/bin"
# What the apt row installs from a repository of its own.
REPO = ["hello", "ed"]

STRESS = """vm matrix qsort fork futex pipe mmap sem switch malloc hsearch bsearch crypt str tsearch vecmath
    wcs zlib signal sigq sigfd timer nanosleep poll epoll eventfd msg mq shm clone exec kill dup get
    getrandom heapsort list mergesort skiplist atomic memcpy memthrash cache branch funccall tree sock
    udp rename link symlink mutex fp-error daemon vfork wait yield itimer sigsegv sigfpe""".split()

ROWS = [
    dict(name="bash", packages=[], command="for i in $(seq 300); do echo $i; done | sort -r | head -3; "
         "trap 'echo trapped' USR1; kill -USR1 $$; (exit 5) & wait $!; echo $?; diff <(seq 3) <(seq 4)",
         expect=["99", "98", "97", "trapped", "^5$", "> 4"], status=1),
    dict(name="coreutils", packages=[], command="seq 100000 | shuf | sort -n --parallel=2 | sha256sum; "
         "dd if=/dev/zero bs=1k count=100 2>/dev/null | wc -c; mkdir -p d/e; touch d/e/f; mv d/e d/g; find d | wc -l; "
         "timeout 0.2 sleep 5; echo $?; stat -c %s /etc/passwd; cp -a d d2 && rm -r d && ls d2",
         expect=["^102400$", "^3$", "^124$", "^g$"]),
    dict(name="python3", packages=["libpython3.11-stdlib"], files=["t.py"], command="python3 t.py",
         expect=["pool 328350", "threads 328350", r"asyncio \(1225, 'sub'\)", "subprocess 3", "timer ok",
                 r"sql \(499500,\)", "ssl OpenSSL 5", r"q \[1\]"]),
    dict(name="perl", packages=["perl"], command="perl -e 'use threads; use Time::HiRes; my @t=map{my $n=$_; "
         "threads->create(sub{my $s=0;$s+=$_*$n for 1..10000;$s})}1..4; print join(q(,),map{$_->join}@t),qq(\\n); "
         "my $p=fork; if(!$p){exit 7} waitpid $p,0; print $?>>8,qq(\\n); open F,q(-|),q(echo piped); print <F>'",
         expect=["50005000,100010000,150015000,200020000", "^7$", "piped"]),
    dict(name="gcc make", packages=["make", "g++"], files=["gen.sh"], timeout=300,
         command="bash gen.sh && printf 'p: $(patsubst %%.cpp,%%.o,$(wildcard *.cpp))\\n\\tg++ -o $@ $^\\n' > Makefile && "
         "make -j3 CXXFLAGS=-O2 | tail -1 | cut -c1-8 && ./p", expect=["^g\\+\\+ -o", "^21253$"]),
    dict(name="cmake", packages=["cmake", "make", "g++"], files=["gen.sh"], timeout=300,
         command="bash gen.sh && cmake -S . -B build > log && make -j3 -C build >> log && build/p && grep -c Building log",
         expect=["^21253$", "^21$"]),
    dict(name="git", packages=["git"], command="git init -q r && cd r && git config user.email a@b && git config user.name n && "
         "for i in 1 2 3; do seq $((i*1000)) > f; git add f; git commit -qm c$i; done && git gc -q && cd .. && "
         "git clone -q r r2 && cd r2 && git log --oneline | wc -l && git fsck && git diff HEAD~1 --stat",
         expect=["^3$", "1000 insertions"]),
    dict(name="apt dpkg", packages=["apt", "dpkg"], options=["--fake-root"], repo=True,
         command="id -u; cd repo; for d in *.deb; do dpkg-deb -f $d; echo Filename: ./$d; echo Size: $(stat -c %s $d); "
         "echo SHA256: $(sha256sum < $d | cut -d' ' -f1); echo; done > Packages; cd ..; apt-get -q update && "
         "apt-get -q -y install hello ed && hello && dpkg -s hello && readlink /etc/alternatives/editor && "
         "echo 'a\nx\n.\nw f\nq' | ed; apt-get -q -y purge hello ed && ! ls /usr/bin/hello",
         expect=["^0$", "Setting up", "Hello, world!", "install ok installed",
                 "/bin/ed", "Removing ed", "Removing hello"]),
    dict(name="sqlite3", packages=["sqlite3"], command="sqlite3 f.db 'create table t(a,b); with recursive n(i) as (select 1 union all "
         "select i+1 from n where i<20000) insert into t select i,i*i%97 from n; create index x on t(b); "
         "select count(*),sum(b) from t; pragma integrity_check; pragma journal_mode=wal;'", expect=[r"20000\|", "ok", "wal"]),
    dict(name="redis", packages=["redis-server", "redis-tools"],
         command="redis-server --port 7777 --save '' --daemonize yes > /dev/null; until redis-cli -p 7777 ping; do sleep .1; done; "
         "redis-benchmark -p 7777 -n 3000 -c 20 --csv -t set,get,lpush,incr; redis-cli -p 7777 get counter:__rand_int__; "
         "redis-cli -p 7777 shutdown nosave; echo gone", expect=["PONG", '"SET"', '"GET"', "^3000$", "gone"]),
    dict(name="nginx curl", packages=["nginx-light", "curl"], files=["nginx.conf"],
         command="mkdir www; head -c 300000 /dev/urandom | base64 > www/big; nginx -c /work/nginx.conf && "
         "for i in 1 2 3; do curl -s http://127.0.0.1:8089/big | cmp - www/big && echo same; done; nginx -c /work/nginx.conf -s stop",
         expect=["same", "same", "same"]),
    dict(name="postgres", packages=["postgresql"], user="nobody",
         command=f"export PATH={POSTGRES}:$PATH; initdb -D db -A trust --no-locale -N >/dev/null && "
         "pg_ctl -D db -o '-k /work -p 5599 -F' -l log -w start >/dev/null && createdb -h /work -p 5599 bench && "
         "pgbench -h /work -p 5599 -i -q bench 2>/dev/null && pgbench -h /work -p 5599 -c 4 -j 2 -t 100 bench 2>&1 | grep failed; "
         "psql -h /work -p 5599 bench -Atc 'select count(*),sum(abalance)=(select sum(delta) from pgbench_history) "
         "from pgbench_accounts'; pg_ctl -D db -m fast stop", expect=["failed transactions: 0", r"100000\|t", "server stopped"]),
    dict(name="openssl", packages=["openssl"], timeout=120,
         command="openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 2 -subj /CN=localhost 2>/dev/null; "
         "openssl s_server -accept 4455 -cert c.pem -key k.pem -www -quiet & sleep 1; "
         "for v in -tls1_2 -tls1_3; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | openssl s_client -connect localhost:4455 $v -quiet 2>/dev/null | head -1; done; "
         "kill %1; seq 10000 > f; openssl enc -aes-256-cbc -pbkdf2 -k x -in f | openssl enc -d -aes-256-cbc -pbkdf2 -k x | cmp - f && echo same",
         expect=["HTTP/1.0 200 ok", "HTTP/1.0 200 ok", "same"]),
    dict(name="nodejs", packages=["nodejs"], files=["t.js"], command="node t.js",
         expect=["fib 196418", "sort 0 0.999997", "workers 637018977,637018978,637018979", "child Hi",
                 "re cd 1267650600228229401496703205376n", "zlib 100000", "sha 2d711642", "wasm 42", "http pong"]),
    dict(name="luajit", packages=["luajit"], files=["t.lua"], command="luajit t.lua",
         expect=["jit\ttrue\t60000003\t2500250000\t1.4142135623731", "1\t2\t3", "xbxbxb"]),
    dict(name="openjdk", packages=["openjdk-17-jdk-headless"], files=["T.java"], timeout=120,
         command=f"{JAVA}/javac T.java && {JAVA}/java T",
         expect=["fib 2178309", "sum 71999952", "npe 200", "gc ok 33334", "map 50000", "1.19002", "child"]),
    dict(name="go", packages=["golang-go"], files=["m.go"], timeout=180, command="go build -o m m.go && ./m",
         expect=["tot 99000 c 1000 fib 832040", "recovered true", "0,1,10 arm64"]),
    dict(name="rust", packages=["rustc"], files=["t.rs"], timeout=120, command="rustc -O t.rs -o t && ./t",
         expect=["2800 4950 832040", "panic true"]),
    dict(name="mono", packages=["mono-mcs", "mono-runtime"], files=["T.cs"], timeout=120, command="mcs T.cs && mono T.exe",
         expect=["fib 832040", "13999992", "nre 100", "gc True"]),
    dict(name="php", packages=["php-cli"], files=["t.php"], command="php8.2 t.php",
         expect=["17711", "501", "9dd4e461268c8034f5c8564e155c67a6", "bc", "3", "div", '{"a":1.5}', "sh"]),
    dict(name="ruby", packages=["ruby"], files=["t.rb"], command="ruby t.rb",
         expect=["17711", "3003000", "sub", "child", "0.8415", "1267650600228229401496703205376", "1", "2", "sig"]),
    dict(name="ffmpeg", packages=["ffmpeg"], timeout=120,
         command="ffmpeg -v error -f lavfi -i testsrc=duration=2:size=320x240:rate=10 -f lavfi -i sine=duration=2 -c:v libx264 "
         "-c:a aac -y o.mp4 && ffprobe -v error -show_entries stream=codec_name,nb_frames -of csv o.mp4",
         expect=["stream,h264,20", "stream,aac"]),
    dict(name="gdb", packages=["gdb"], command="echo 'int twice(int a){return 2*a;} int main(){return twice(3);}' > a.c; gcc -g a.c -o a; "
         "gdb --version | head -1; gdb -batch -ex 'info functions twice' -ex 'list main' -ex 'disassemble twice' -ex 'print sizeof(long)' a",
         expect=["GNU gdb", "int twice", "return twice", "ret", r"\$1 = 8"]),
    dict(name="stress-ng cpu", packages=["stress-ng"], timeout=120, command="stress-ng --cpu 2 --cpu-ops 300 --verify 2>&1",
         expect=["successful run"]),
    dict(name="stress-ng rest", packages=["stress-ng"], timeout=600,
         command="for s in " + " ".join(STRESS) + "; do o=$(stress-ng --$s 1 --$s-ops 20 --verify -t 3 2>&1) || "
         "{ echo \"$s: $o\"; exit 1; }; done; echo all", expect=["^all$"]),
    dict(name="vim", packages=["vim-tiny"], command="vim.tiny -u NONE v.txt; cat v.txt",
         keys=[(1.5, b"ihello from vim\x1b"), (0.5, b"yyp:%s/hello/bye/\r:wq\r")], expect=["bye from vim", "bye from vim"]),
    *runtimes.ROWS,
]


def finish(root):
    """Links that maintainer scripts would have made."""
    lib = os.path.join(root, "usr/lib/aarch64-linux-gnu")
    for name in ("blas/libblas.so.3", "lapack/liblapack.so.3"):
        link = os.path.join(lib, os.path.basename(name))
        if os.path.exists(os.path.join(lib, name)) and not os.path.lexists(link):
            os.symlink(name, link)


def fill_repo(archives, folder):
    """The packages of the apt row."""
    os.makedirs(folder, exist_ok=True)
    for name in REPO:
        newest = max(glob.glob(os.path.join(archives, name + "_*.deb")), key=os.path.getmtime)
        shutil.copy(newest, folder)
