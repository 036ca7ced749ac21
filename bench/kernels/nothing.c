// nothing.c - start-up cost of a static program.
int main(void) {
    return 0;
}
