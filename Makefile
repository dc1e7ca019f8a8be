# Every target is what CI runs; nothing else to install than Go, git, make and a C compiler
# (integration: Java 17, Maven and npm as well).
GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build check test integration reliability nightly bench golden

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o tidemark ./cmd/runner

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt: the files above are not formatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	$(GO) test . 

# PURE packages have no goroutine (arch_test.go), so that the race detector, which makes them ten times
# slower, has nothing to find.
PURE := ./operators/... ./schemas/...

test: check
	$(GO) test -shuffle=on -timeout 25m $(PURE)
	$(GO) test -race -shuffle=on -timeout 25m $$($(GO) list ./... | grep -v -e /operators -e /schemas)
	$(GO) test -tags crash -run TestCrashPoints ./cmd/runner ./sinks/clickhouse

integration:
	cd integration && $(GO) test -count=1 -timeout 20m ./...

# What kills, cuts and corrupts, with the numbers of test and integration: RELIABILITY.md.
reliability:
	$(GO) run ./benchmarks/scoreboard

# The release gate: more seeds, more kills, power losses, ruined files and failing disks, ten
# thousand blocks, a month of days, every fuzzer for a while. It writes RELIABILITY.md.
nightly: test integration
	$(GO) run ./benchmarks/scoreboard -nightly

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./operators ./schemas ./schemas/ocsf/mapping ./sources/kafka
	$(GO) run ./benchmarks/windows

golden:
	$(GO) test ./operators -run Scenarios -rewrite
	git diff --stat
