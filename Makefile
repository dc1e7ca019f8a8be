# Every target is what CI runs; nothing else to install than Go, git, make and a C compiler
# (integration: Java 17, Maven and npm as well).
GO ?= go
STATICCHECK ?= honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: check test integration nightly bench golden build soak

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

integration:
	cd integration && $(GO) test -count=1 -timeout 20m ./...

nightly: test
	$(GO) test -count=1 -timeout 60m -run 'TestRunSurvives|TestOneHash' ./pipeline/pipelinetest
	./benchmarks/fuzz.sh 60s

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./operators ./schemas ./sources/kafka

golden:
	$(GO) test ./operators -run Scenarios -rewrite
	git diff --stat
