"""Scripts that the table of run.py gives to the guest's interpreters on standard input."""

LUA = b"""
local t = {}
for i = 1, 200 do t[i] = (i * 7919) % 1009 end
table.sort(t, function(a, b) return a > b end)
print(t[1], t[100], t[200], #t, 10 // 3, 10 / 3, 2^53, 7 % -3, -7 // 2, 1e15, 1e100)
print(("hello world"):gsub("o", "0"), ("key = value"):match("(%w+)%s*=%s*(%w+)"))
print(string.format("%5.2f|%-8s|%08x|%q|%g", 3.14159, "left", 48879, 'a "b"\\n', 0.1))
local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i * i) end return "end" end)
print(co(), co(), co(), co())
local ok, err = pcall(function() local x = nil; return x.y end)
print(ok, err)
print(math.maxinteger, math.mininteger, math.tointeger(3.0), 3 | 5, ~0, 1 << 62, math.type(1), math.type(1.0))
local mt = setmetatable({}, {__index = function(_, k) return k .. "!" end, __add = function() return "sum" end})
print(mt.field, mt + 1, select("#", table.unpack({1, nil, 3}, 1, 3)))
print(string.pack("<i4d", 7, 1.5):byte(1, -1))
local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end
print(fib(20), utf8.char(228, 8364), utf8.len("\\u{e4}\\u{20ac}"), tostring(1/0), tostring(-(0/0)) ~= "")
goto done
print("not reached")
::done::
collectgarbage()
print(collectgarbage("count") < 10000, os.time({year = 2001, month = 9, day = 9, hour = 1}))
"""

PERL = rb"""
use strict; use warnings;
my %h; $h{$_ % 7} .= chr(97 + $_ % 26) for 1 .. 60;
print "$_=$h{$_}\n" for sort keys %h;
my $text = "The year 1999 and 2024, not 31337x";
my @years = $text =~ /\b(\d{4})\b/g; print "@years\n";
(my $copy = $text) =~ s/(\w+)/\u\L$1/g; print "$copy\n";
printf "%.3f %5s|%-5s| %05d %x %e %s\n", 3.14159, "ab", "cd", 42, 255, 12345.678, 1e21;
my @sorted = sort { $a <=> $b } map { ($_ * 37) % 101 } 1 .. 20; print "@sorted\n";
print join(",", map { sprintf "%08b", $_ } 1, 5, 200), " ", 2 ** 40, " ", 7 / 2, " ", int(-7 / 2), " ", -7 % 3, "\n";
my $data = { list => [1, 2, { deep => "yes" }], code => sub { return "called @_" } };
print $data->{list}[2]{deep}, " ", $data->{code}->(1, 2), "\n";
eval { die { code => 42 } }; print "died $@->{code}\n";
local $_ = "a:b:c"; print scalar(split /:/), " ", join("|", reverse split //, "abc"), "\n";
print unpack("H*", pack("nNvVC", 1, 2, 3, 4, 5)), " ", lc("AB"), " ", ucfirst("x"), "\n";
my $s = "x" x 1000; $s =~ tr/x/y/; print length($s), " ", ($s =~ tr/y//), "\n";
print "heredoc: ", <<"END"; 
 sum @{[ 1 + 2 ]}
END
my ($a1, $b1) = (0, 1); ($a1, $b1) = ($b1, $a1 + $b1) for 1 .. 80; print "$a1\n";
open(my $fh, '<', \"line1\nline2\n") or die; my @l = <$fh>; print scalar(@l), "\n";
print sprintf("%vd", "1.22.333"), " ", oct("0x1f"), " ", hex("ff"), " ", sqrt(2), " ", atan2(1, 1) * 4, "\n";
exit 5;
"""

# A script of 100,000 rows and then some questions.
SQLITE = b"""
CREATE TABLE t(id INTEGER PRIMARY KEY, a INT, b REAL, c TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100000)
INSERT INTO t SELECT i, (i*7919)%10007, i*0.25, printf('name-%05d', (i*104729)%99991) FROM n;
COMMIT;
CREATE INDEX ta ON t(a);
SELECT count(*), sum(a), round(avg(b),4), min(c), max(c) FROM t;
SELECT a % 8 AS k, count(*), sum(length(c)) FROM t GROUP BY k ORDER BY k;
UPDATE t SET b = b * 1.5 WHERE a BETWEEN 1000 AND 3000;
DELETE FROM t WHERE id % 11 = 3;
SELECT count(*), round(sum(b),2) FROM t;
SELECT sum(r) FROM (SELECT row_number() OVER (PARTITION BY a%100 ORDER BY c) AS r FROM t);
SELECT group_concat(c) FROM (SELECT DISTINCT c FROM t ORDER BY c LIMIT 5);
SELECT json_extract('{"a":[1,{"b":"x"}]}', '$.a[1].b'), hex('ab'), upper('ab'), 7/2, 7/2.0, 1e3, typeof(1.0);
SELECT date(1234567890, 'unixepoch', '+1 month'), strftime('%W %j', '2024-02-29'), printf('%.3e', 12345.678);
PRAGMA integrity_check;
"""

HELLO_C = b"""
#include <stdio.h>
#include <math.h>
static double mean(const double *v, int n) { double s = 0; for (int i = 0; i < n; i++) s += v[i]; return s / n; }
int main(int argc, char **argv) {
    double v[] = {1.5, 2.5, 4.25};
    printf("hello from %s: %.3f %.3f\\n", argc > 5 ? argv[1] : "a64", mean(v, 3), sqrt(2 + argc));
    return 4;
}
"""

SH_LOOP = """i=0; s=0; while [ $i -lt 2000 ]; do i=$((i+1)); s=$((s+i*i%7)); done; echo $s $i
f() { local n=$1; if [ $n -le 1 ]; then echo 1; else echo $((n * $(f $((n-1))))); fi; }
case "x.tar.gz" in *.zip) echo zip;; *.tar.*) echo tar;; esac
for w in a b c; do printf '%s-' $w; done; echo
v=hello; echo ${v#he} ${v%lo} ${#v} ${u:-default}
"""
