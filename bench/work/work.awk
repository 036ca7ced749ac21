# work.awk: word counts over a text, then a floating-point Mandelbrot set of SIZE lines.
{ for (i = 1; i <= NF; i++) { count[$i]++; letters += length($i) } }
END {
    for (w in count) if (count[w] > 20) { often++; total += count[w] }
    for (y = 0; y < SIZE; y++)
        for (x = 0; x < 60; x++) {
            a = b = 0; cr = x / 30 - 1.5; ci = y * 2 / SIZE - 1
            for (n = 0; n < 80 && a * a + b * b < 4; n++) { t = a * a - b * b + cr; b = 2 * a * b + ci; a = t }
            inside += n
        }
    print "awk", letters, often, total, inside, substr("abcdef", 2, 3), sprintf("%.3f", letters / often)
}
