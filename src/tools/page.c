// page.c - puts pages together; see page.h.
//
// In a file: the head with the run's name, the skeleton up to its marker, then for each report its
// JSON, its tool's script when that is not there yet, and the skeleton's rest. A page of the same
// run is taken apart at the same seams.
#include "page.h"

#include "calltree_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MARKER "@REPORTS@"

static const char *rest_of_skeleton(void) {
    return strstr(page_html, MARKER) + strlen(MARKER);
}

static void put_head(FILE *to, const char *run) {
    fprintf(to, "<!DOCTYPE html>\n<!-- run %s -->\n", run);
}

static void put_report(FILE *to, const PageHead *h) {
    fprintf(to,
            "<script type=\"application/json\" class=\"report\" id=\"r%" PRIx64 "\">{\"command\": ",
            h->id);
    calltree_put_json(to, h->command);
    fputs(", \"program\": ", to);
    calltree_put_json(to, h->program);
    fprintf(to, ", \"pid\": %" PRIu32 ",\n \"report\": ", h->pid);
}

static void put_rest(FILE *to, const PageHead *h) {
    fputs("}</script>\n", to);
    if (!h->has_script) fprintf(to, "<script id=\"draw-%s\">\n%s</script>\n", h->tool, h->script);
    fputs(rest_of_skeleton(), to);
}

void page_begin(FILE *to, const PageHead *h) {
    put_head(to, h->run ? h->run : "-");
    fwrite(page_html, 1, (size_t)(strstr(page_html, MARKER) - page_html), to);
    put_report(to, h);
}

void page_end(FILE *to, const PageHead *h) {
    put_rest(to, h);
}

// ---- a page that is there ----

static char *read_all(FILE *f) {
    struct stat st;
    if (fstat(fileno(f), &st) || !S_ISREG(st.st_mode)) return NULL;
    size_t n = (size_t)st.st_size;
    char *text = malloc(n + 1);
    if (text && fread(text, 1, n, f) == n) {
        text[n] = 0;
        return text;
    }
    free(text);
    return NULL;
}

// Cuts the text to what is to stay: the page of this run without its end and without this report.
static bool keep(char *text, const PageHead *h) {
    char head[160], id[96];
    snprintf(head, sizeof head, "<!DOCTYPE html>\n<!-- run %s -->\n", h->run);
    const char *rest = rest_of_skeleton();
    size_t n = strlen(text), n_rest = strlen(rest);
    if (strncmp(text, head, strlen(head)) || n < n_rest || strcmp(text + n - n_rest, rest))
        return false;
    text[n - n_rest] = 0;
    snprintf(id, sizeof id,
             "<script type=\"application/json\" class=\"report\" id=\"r%" PRIx64 "\">", h->id);
    static const char end[] = "</script>\n";
    char *mine = strstr(text, id), *behind = mine ? strstr(mine, end) : NULL;
    if (behind) memmove(mine, behind + strlen(end), strlen(behind + strlen(end)) + 1);
    return true;
}

static char *kept_page(const char *path, const PageHead *h) {
    FILE *f = h->run ? fopen(path, "re") : NULL;
    if (!f) return NULL;
    char *text = read_all(f);
    fclose(f);
    if (text && keep(text, h)) return text;
    free(text);
    return NULL;
}

FILE *page_open(const char *path, PageHead *h) {
    char *kept = kept_page(path, h), mark[64];
    snprintf(mark, sizeof mark, "<script id=\"draw-%s\">", h->tool);
    h->has_script = kept && strstr(kept, mark);
    FILE *to = fopen(path, "we");
    int e = errno;
    if (to && kept) {
        fputs(kept, to);
        put_report(to, h);
    } else if (to) {
        page_begin(to, h);
    }
    free(kept);
    errno = e;
    return to;
}

bool page_close(FILE *to, const PageHead *h) {
    put_rest(to, h);
    bool failed =
        ferror(to); // errno is still that of the write, as fclose() has nothing to do then
    failed |= fclose(to) != 0;
    return !failed;
}
