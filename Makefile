# make help tells what there is. Everything needs Go; the tests also need a C compiler (race detector) and redis-server.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS   := -s -w $(if $(VERSION),-X dingrecall/cmd/internal/cli.releaseVersion=$(VERSION))
TESTFLAGS ?=
BENCHTIME ?= 1s
# Of make bench and make compare: -part, -only, -keys, -fill, -rounds, -huge and others.
SPEEDFLAGS ?=
FUZZTIME  ?= 1m
MUTANTS   ?= 150
CHAOS_TIME ?= 5m
CHAOS_SEED ?= 0
IMAGE     ?= recall:$(or $(VERSION),latest)

# Pinned here and not in go.mod: the linter's modules are no part of the program's.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# A module of its own, so that the service's official SDK stays out of the program.
FOREIGN   := examples/foreignsdk
# Another, for what the program is compared with.
SPEED     := examples/speed

DEMO      := build/demo
DEMO_RATE ?= 50

.PHONY: help build demo test test-fast test-foreign need-redis need-cc vet lint fmt fmt-check tidy-check bench compare economy chaos mutate fuzz docker clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## the program, as bin/recall: one static file
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/recall ./cmd/recall

# recall ends with status 3 because the file has keys that cannot be recalled; any other status is a failure, 0 as well.
demo: build ## 20,000 keys of a bad broadcast, recalled through the whole pipeline against a simulated service
	@mkdir -p $(DEMO)
	$(GO) run ./examples/makekeys -out $(DEMO)/broadcast.csv
	@rm -f $(DEMO)/report.csv; set -o pipefail; status=0; \
	echo 'bin/recall run $(DEMO)/broadcast.csv --simulate --rate $(DEMO_RATE) --report $(DEMO)/report.csv'; \
	bin/recall run $(DEMO)/broadcast.csv --simulate --rate $(DEMO_RATE) --report $(DEMO)/report.csv | tee $(DEMO)/output.txt || status=$$?; \
	if [ $$status != 3 ]; then echo "make demo: recall ended with status $$status, and 3 (some keys dead) was to be expected" >&2; exit 1; fi
	$(GO) run ./examples/checkdemo -file $(DEMO)/broadcast.csv -report $(DEMO)/report.csv -output $(DEMO)/output.txt -rate $(DEMO_RATE)

test: need-redis need-cc vet ## everything, with the race detector, on miniredis and a real redis-server
	$(GO) test -race $(TESTFLAGS) ./...
	@$(MAKE) --no-print-directory test-foreign

test-foreign: ## the official SDK beside our client, against the simulator; a part of make test
	cd $(FOREIGN) && $(GO) vet ./... && $(GO) test -race $(TESTFLAGS) ./...

test-fast: need-redis ## the same tests without the race detector
	$(GO) test $(TESTFLAGS) ./...

need-redis:
	@command -v redis-server >/dev/null || { echo 'The tests start a redis-server of their own, and there is none on the PATH. Install it: apt-get install -y redis-server' >&2; exit 1; }

need-cc:
	@command -v "$$($(GO) env CC)" >/dev/null || { echo 'The race detector needs a C compiler. Install one (apt-get install -y gcc libc6-dev), or use: make test-fast' >&2; exit 1; }

vet: ## go vet
	$(GO) vet ./...

lint: ## golangci-lint, pinned; the first run builds it, which takes minutes
	$(GO) run $(GOLANGCI) run ./...
	cd $(FOREIGN) && $(GO) run $(GOLANGCI) run ./...
	cd $(SPEED) && $(GO) run $(GOLANGCI) run ./...

fmt: ## format the code
	gofmt -w $$(git ls-files -co --exclude-standard '*.go')

fmt-check: ## fail where gofmt would change something
	@bad=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); [ -z "$$bad" ] || { echo "make fmt would change:"; echo "$$bad"; exit 1; } >&2

tidy-check: ## fail where go mod tidy would change something
	$(GO) mod tidy -diff
	cd $(FOREIGN) && $(GO) mod tidy -diff
	cd $(SPEED) && $(GO) mod tidy -diff

bench: need-redis ## how fast it is: all Go benchmarks, then beside other ways and against goals (examples/speed); a quarter of an hour and more
	$(GO) test -run '^$$' -bench . -benchmem -benchtime $(BENCHTIME) ./...
	cd $(SPEED) && $(GO) run . $(SPEEDFLAGS)

compare: need-redis ## the part of make bench that compares with other ways, alone; some eight minutes
	cd $(SPEED) && $(GO) run . -part compare $(SPEEDFLAGS)

economy: ## calls and keys saved in simulated incidents, held to their goals; the table of docs/economy.md; a minute or two
	$(GO) test -count=1 -timeout 20m ./worker/economy -v -run 'TestEconomy|TestAGoal' -full | grep -v '^=== '; exit $${PIPESTATUS[0]}

mutate: need-redis ## breaks the scripts of the key store in MUTANTS=150 small ways: a test has to fail each time; some twenty minutes
	$(GO) run ./worker/internal/keystore/mutate -n $(MUTANTS)

# Most of it is waiting. A seed repeats a run: the same faults, at the same moments, in the same manner.
chaos: need-redis ## break things under load for CHAOS_TIME=5m, CHAOS_SEED=0 (another each time), and hold what became of each key against a ledger
	@set -o pipefail; $(GO) test -count=1 -timeout 24h ./worker/chaos -v -run TestChaos -duration $(CHAOS_TIME) -seed $(CHAOS_SEED) | \
		grep -vE '^(=== |PASS$$|ok )|^ *--- PASS'; exit $${PIPESTATUS[0]}

fuzz: ## every fuzz target for FUZZTIME=1m
	@set -eo pipefail; git grep -oE '^func Fuzz[A-Za-z0-9_]*' -- '*_test.go' | while IFS=: read -r file func; do \
		echo "$$file: $${func#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${func#func }\$$" -fuzztime $(FUZZTIME) "./$$(dirname "$$file")"; \
	done

docker: ## the container image, as IMAGE=recall:<version>
	docker build --build-arg VERSION=$(VERSION) -t $(IMAGE) .

clean: ## remove what was built here
	rm -rf bin build
