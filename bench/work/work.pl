# work.pl N: hashes, regular expressions, sprintf, sort; prints one checksum line.
use strict;
use warnings;

my $rounds = shift // 10;
my ($x, $sum) = (777, 0);
sub rnd { $x = ($x * 69069 + 1) & 0xffffffff; return ($x >> 8) % $_[0] }

for my $round (1 .. $rounds) {
    my @lines = map { sprintf "host%02d GET /p/%04d %d", rnd(40), rnd(3000), rnd(100000) } 1 .. 6000;
    my (%hits, %bytes);
    for (@lines) {
        if (my ($host, $path, $size) = /^(host\d+) GET (\S+) (\d+)$/) {
            $hits{$host}++;
            $bytes{$path} += $size;
        }
    }
    for my $h (sort { $hits{$b} <=> $hits{$a} || $a cmp $b } keys %hits) {
        $sum = ($sum * 33 + $hits{$h}) % 1000003;
    }
    my $text = join "\n", @lines[0 .. 800];
    $text =~ s/(\d+)$/$1 % 7/gme;
    $text =~ tr/a-y/b-z/;
    $sum += length($text) + unpack("%32C*", $text);
    $sum += $bytes{$_} // 0 for map { sprintf "/p/%04d", $_ * 10 } 0 .. 99;
    $sum %= 1000000007;
}
print "perl $sum\n";
