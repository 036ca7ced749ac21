# A thin front for meson and ninja: `make help` says what there is.

CC          ?= cc
BUILD       ?= build
PREFIX      ?= /usr/local
MESON_FLAGS ?=
# What tests, run and bench start; DRAGOMAN=qemu-aarch64 tries the scripts themselves.
DRAGOMAN    ?= $(BUILD)/dragoman
TEST_FLAGS  ?=
BENCH_FLAGS ?=
FUZZ_SECONDS ?= 60
FUZZ_COUNT  ?= 500
SOAK_SECONDS ?= 3600
COVERAGE_COUNT ?= 60
NINJA       := ninja -C
SHELL       := /bin/bash
# Tests keep nothing in the user's own cache of translations.
export DRAGOMAN_CACHE ?= off

.PHONY: all help setup guest run test test-programs test-plugins soak unit tools programs hot cached interp bench bench-quick install clean distclean
.PHONY: bench-paths bench-scaling bench-translate bench-tools fuzz-insn corpus coverage asan werror check-layers check-format check-globals check-docs fuzz fuzz-build

all: $(BUILD)/build.ninja
	@$(NINJA) $(BUILD) --quiet
	@ln -sfn dragoman $(BUILD)/dragoman-aarch64

help:
	@echo "make                build $(BUILD)/dragoman and $(BUILD)/libdragoman.{a,so} (CC=clang works)"
	@echo "make setup          install every package that the other targets need"
	@echo "make run            build, fetch Debian arm64 programs, run them, print a table"
	@echo "make test           build, unit tests, rules, whole programs against qemu-aarch64"
	@echo "make test-programs  node, java, go, postgres, apt and twenty others at their usual work"
	@echo "make test-plugins   QEMU's own plugins: the same counts under both"
	@echo "make soak           a build, java, redis and a storm of signals for SOAK_SECONDS=$(SOAK_SECONDS)"
	@echo "make bench          native, dragoman and qemu-aarch64 side by side (bench-quick: < 5 min)"
	@echo "make bench-paths    what --rootfs costs; bench-scaling: what threads cost; bench-tools: tools;"
	@echo "                    bench-translate: what a guest instruction costs to translate"
	@echo "make install        under PREFIX=$(PREFIX), with DESTDIR"
	@echo "make asan           everything of make test under ASan and UBSan, in build-asan"
	@echo "make fuzz           each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)"
	@echo "make check-layers check-format check-globals check-docs   the rules of the house"
	@echo "make fuzz-insn      every A64 instruction with random operands against qemu-aarch64, for hours"
	@echo "make coverage       each decode row and what it was compared with; corpus: all words of some libraries"
	@echo "make clean          remove what was built; distclean: fetched guests as well"

# Another compiler than last time means a new configuration; fetched guests in build/ stay.
$(BUILD)/build.ninja: FORCE
	@if [ "$$(cat $(BUILD)/.cc 2>/dev/null || echo cc)" != "$(CC)" ]; then \
	    rm -rf $(BUILD)/build.ninja $(BUILD)/meson-private $(BUILD)/meson-info; fi
	@if [ ! -f $@ ]; then mkdir -p $(BUILD) && \
	    CC="$(CC)" meson setup $(BUILD) --prefix $(PREFIX) $(MESON_FLAGS) && echo "$(CC)" >$(BUILD)/.cc; fi
FORCE:

setup:
	@scripts/setup

guest:
	@scripts/guest-root arm64

run: setup
	@$(MAKE) --no-print-directory all guest
	@scripts/run-guest --dragoman $(DRAGOMAN)

test: setup
	@$(MAKE) --no-print-directory all guest
	@$(MAKE) --no-print-directory unit tools programs hot cached interp

unit: all
	@meson test -C $(BUILD) --no-rebuild --print-errorlogs

programs: all
	@tests/programs/run.py --dragoman $(DRAGOMAN) --build $(BUILD) $(TEST_FLAGS)
	@tests/linux/run.py --dragoman $(DRAGOMAN) --build $(BUILD)

# The same programs, with all code made as hot code is.
hot: all
	@tests/programs/run.py --dragoman $(DRAGOMAN) --build $(BUILD) --single-tier hot \
	    --skip '^(again|bad|option|loops-)' $(TEST_FLAGS)

# Debian's programs of every kind at their usual work; fetches about 500 MB the first time.
test-programs: setup
	@$(MAKE) --no-print-directory all
	@scripts/guest-root real
	@tests/real/run.py --dragoman $(DRAGOMAN) $(TEST_FLAGS)

# QEMU's own plugins, from Debian's qemu source packages (250 MB the first time), under both.
test-plugins: setup
	@$(MAKE) --no-print-directory all guest
	@scripts/guest-root plugins
	@tests/tools/plugins.py --dragoman $(DRAGOMAN)

# The restless ones for SOAK_SECONDS, signals flying.
soak: setup
	@$(MAKE) --no-print-directory all
	@scripts/guest-root real
	@tests/real/soak.py --dragoman $(DRAGOMAN) --seconds $(SOAK_SECONDS)

# Translations kept on disk: tests of their own, then every program cold, keeping and warm.
cached: all
	@tests/cache/run.py --dragoman $(DRAGOMAN)
	@rm -rf $(BUILD)/test-cache; for run in 1 2 3; do \
	    DRAGOMAN_CACHE=$(abspath $(BUILD))/test-cache tests/programs/run.py --dragoman $(DRAGOMAN) \
	        --build $(BUILD) --skip '^(bad|option)|-link$$' $(TEST_FLAGS) || exit 1; done

# What works on the files that tools leave.
tools: all
	@tests/tools/simpoint.py --dragoman $(DRAGOMAN)
	@tests/tools/tools.py --dragoman $(DRAGOMAN)
	@tests/tools/plugins.py --dragoman $(DRAGOMAN)

# The same programs by the interpreter of the IR, as far as time allows.
interp: all
	@tests/programs/run.py --dragoman $(DRAGOMAN) --build $(BUILD) --host interp \
	    --only '^(busybox|option|bad)|-static$$' $(TEST_FLAGS)

bench bench-quick: setup
	@$(MAKE) --no-print-directory all guest
	@scripts/guest-root amd64
	@bench/bench.py --dragoman $(DRAGOMAN) $(if $(filter bench-quick,$@),--quick) $(BENCH_FLAGS)

bench-scaling: setup
	@$(MAKE) --no-print-directory all
	@bench/scaling.py --dragoman $(DRAGOMAN) --build $(BUILD)

# What making host code costs, in cycles a guest instruction: of a large program, whole.
bench-translate: setup
	@$(MAKE) --no-print-directory all guest
	@$(NINJA) $(BUILD) --quiet bench_translate
	@$(BUILD)/bench_translate $(BUILD)/guest/arm64/root/usr/lib/gcc/aarch64-linux-gnu/12/cc1

# What tools cost, against the same programs without one.
bench-tools: setup
	@$(MAKE) --no-print-directory all guest
	@bench/tools.py --dragoman $(DRAGOMAN)

bench-paths: setup
	@$(MAKE) --no-print-directory all guest
	@bench/paths.py --dragoman $(DRAGOMAN)

install: all
	@meson configure $(BUILD) -Dprefix=$(PREFIX) && $(NINJA) $(BUILD) --quiet
	@meson install -C $(BUILD) --no-rebuild --quiet

asan:
	@ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	 $(MAKE) --no-print-directory test BUILD=build-asan TEST_FLAGS="--skip ^bad-no-memory" \
	    MESON_FLAGS="-Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized"

werror:
	@$(MAKE) --no-print-directory all BUILD=build-werror-$(CC) MESON_FLAGS="-Dwerror=true"

check-format:
	@scripts/$@

check-layers check-docs:
	@scripts/$@
	@scripts/syscall-docs --check

check-globals: all
	@scripts/$@ $(BUILD)/libdragoman.a

fuzz-build:
	@$(MAKE) --no-print-directory all CC=clang BUILD=build-fuzz \
	    MESON_FLAGS="-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false -Dbuildtype=debugoptimized"

fuzz: fuzz-build
	@scripts/run-fuzz build-fuzz/tests/fuzz $(FUZZ_SECONDS)

# Every instruction word of Debian's arm64 libraries decodes as objdump says.
corpus: all
	@scripts/guest-root corpus
	@$(NINJA) $(BUILD) --quiet tests/guest/aarch64/decode_tool
	@tests/guest/aarch64/decode_check.py $(BUILD)/tests/guest/aarch64/decode_tool --elf \
	    $$(find $(BUILD)/guest/corpus -type f \( -name 'lib*.so*' -o -path '*/bin/python3.*' \) | sort)

# Which test compares each decode row with what; fails when a row was never compared.
coverage: all
	@$(NINJA) $(BUILD) --quiet tests/guest/aarch64/decode_tool
	@tests/guest/aarch64/coverage.py $(BUILD)/tests/guest/aarch64/decode_tool --count $(COVERAGE_COUNT)

fuzz-insn: all
	@for isa in "" avx512 avx,fma sse4; do \
	    tests/fuzz/insn_fuzz.py --host x86_64 $${isa:+--isa $$isa} --count $(FUZZ_COUNT) --seed $$RANDOM || exit 1; \
	    tests/fuzz/insn_fuzz.py --host x86_64 $${isa:+--isa $$isa} --count $(FUZZ_COUNT) --length 6 --seed $$RANDOM || exit 1; \
	    tests/fuzz/insn_fuzz.py --host x86_64 --direct $${isa:+--isa $$isa} --count $(FUZZ_COUNT) --length 4 --seed $$RANDOM || exit 1; \
	    tests/fuzz/insn_fuzz.py --host x86_64 --hot $${isa:+--isa $$isa} --count $(FUZZ_COUNT) --length 8 --seed $$RANDOM || exit 1; \
	done
	@tests/fuzz/insn_fuzz.py --host interp --count $(FUZZ_COUNT)
	@for i in 1 2 3 4 5 6 7 8 9 10; do \
	    tests/fuzz/seq_fuzz.py --functions $(FUZZ_COUNT) --seed $$RANDOM || exit 1; \
	    tests/fuzz/loop_fuzz.py --seed $$RANDOM || exit 1; done

clean:
	@rm -rf build-asan build-fuzz build-werror-*
	@[ ! -d $(BUILD) ] || find $(BUILD) -mindepth 1 -maxdepth 1 ! -name guest -exec rm -rf {} +

distclean: clean
	@rm -rf $(BUILD)
