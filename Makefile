# Every target is what CI runs; nothing else to install than Go, git, make and a C compiler
# (integration: Java 17, Maven and npm as well).
GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build check test integration nightly bench golden

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o tidemark ./cmd/runner

check:
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo "gofmt: the files above are not formatted"; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) mod tidy -diff
	$(GO) test . 

test: check
	$(GO) test -race -shuffle=on ./...
	$(GO) test -tags crash -run TestCrashPoints ./cmd/runner ./sinks/clickhouse

integration:
	cd integration && $(GO) test -count=1 -timeout 20m ./...

FUZZ ?= 60s
# The release gate: more seeds, more kills, power losses, ruined files and failing disks, a
# month of days, every fuzzer for a while. Lines "scoreboard: name=value" hold the figures.
nightly: test integration
	TIDEMARK_NIGHTLY=1 $(GO) test -count=1 -timeout 120m -v -run 'TestRandom|TestSimulator|TestOneHash|TestMonth|TestRunSurvives|TestCorrupt|TestCrashStates|TestDiskFaults|TestClockJumps|TestStalledSink' ./pipeline/pipelinetest
	TIDEMARK_NIGHTLY=1 $(GO) test -count=1 -timeout 60m -v -run TestKilled ./cmd/runner
	TIDEMARK_NIGHTLY=1 $(GO) test -count=1 -timeout 60m -v -tags crash -run TestCrashPoints ./cmd/runner ./sinks/clickhouse
	GO='$(GO)' .ci/fuzz $(FUZZ)

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./operators ./schemas ./sources/kafka
	$(GO) run ./benchmarks/windows

golden:
	$(GO) test ./operators -run Scenarios -rewrite
	git diff --stat
