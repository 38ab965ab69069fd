# Every target fetches and builds what it needs into .build/, which git ignores; a second run does nothing twice.
# `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GOLANGCI_LINT := v2.15.0
LINTER := .build/tools/golangci-lint-$(GOLANGCI_LINT)
GOVULNCHECK := v1.9.0
VULNCHECK := .build/tools/govulncheck-$(GOVULNCHECK)
CYCLONEDX := v1.10.0
ACTIONLINT_VERSION := v1.7.12
ACTIONLINT := .build/tools/actionlint-$(ACTIONLINT_VERSION)
COMPOSE_GO := v2.16.2
COMPOSE_SPEC := .build/tools/compose-spec-$(COMPOSE_GO)
SBOM := .build/tools/cyclonedx-gomod-$(CYCLONEDX)

# Folder of real speech for the tests that measure accuracy; empty leaves it to the samples in .build/samples.
CORPUS ?= $(abspath $(wildcard ../shared/corpus))

# Where the engine's headers and libraries are, for cgo; the engine target writes it.
CGO := source .build/engine/env

PKG ?= ./...

.PHONY: help run first-run build console cuda portable portable-check test programme fuzz fault soak faults monitoring loadtest acceptance wordtimes diarization console-test bench bench-quick bench-spread bench-history bench-api lint deploy-check release audit sbom tools engine peer peers models samples clean clobber

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build models samples ## build everything, transcribe real speech through the queue, print text and timings
	@scripts/run.sh

build: tools engine console ## build bin/steno
	@$(CGO) && go build -o bin/steno ./cmd/steno

console: tools ## build the web page, which bin/steno embeds
	@scripts/console.sh

console-test: build models samples ## try the web page in a Chromium, from sign-in to download (TESTS=way.spec.ts; PICTURES=docs/console)
	@CONSOLE_STENO=$(CURDIR)/bin/steno CONSOLE_MODELS=$(CURDIR)/.build/models CONSOLE_SPEECH=$(CURDIR)/.build/samples \
		CONSOLE_CHROMIUM=$$(scripts/browser.sh) $(if $(PICTURES),CONSOLE_PICTURES=$(abspath $(PICTURES))) \
		scripts/console.sh playwright test $(TESTS)

first-run: ## time what a newcomer does: a clone, make run, and a browser until the first transcript is on the page
	@scripts/firstrun.sh

portable: tools console ## build bin/steno-portable, one binary for every x86-64 (five CPU-minutes; make build is for this CPU)
	@scripts/engine.sh portable
	@source .build/engine-portable/env && go build -o bin/steno-portable ./cmd/steno

cuda: build ## build bin/libggml-cuda.so for NVIDIA's GPUs, where nvcc is found (CUDA_ARCHS=80; CUDA_TOOLKIT=pip fetches nvcc)
	@scripts/cuda.sh

portable-check: portable models samples ## check bin/steno-portable with each instruction set, and on emulated CPUs
	@scripts/portable.sh

test: build models samples ## run tier T0 of the fault programme and all tests, with the race detector (PKG=./audio/... for some tests)
	@scripts/tools.sh espeak-ng postgresql redis-server sqlite3
	@scripts/python.sh clients
	@scripts/prometheus.sh >/dev/null
	@scripts/browser.sh >/dev/null
	CGO_ENABLED=0 go build ./...
	@[ "$(PKG)" != ./... ] || $(MAKE) programme
	$(CGO) && $(if $(CORPUS),STENO_CORPUS=$(CORPUS)) go test -race -timeout 30m $(PKG)

programme: faults ## run tier T0 of the fault programme as a test: each row a subtest
	@$(CGO) && STENO_FAULTS=$(CURDIR)/.build/fault $(if $(SEED),STENO_FAULT_SEED=$(SEED)) \
		go test -race -tags programme -count=1 -timeout 20m -v -run TestProgramme ./internal/fault

# How long fuzz runs each target, and which: a pattern over "./folder target".
FUZZTIME ?= 60s
FUZZ ?= .

fuzz: tools engine ## run every fuzz target for FUZZTIME, one after the other (FUZZ='audio|Merge' for some)
	@FUZZTIME=$(FUZZTIME) scripts/fuzz.sh '$(FUZZ)'

# How much of the fault programme, with which seed (empty: a new one, which is printed), and which rows (empty: all).
TIER ?= 1
SEED ?=
ROWS ?=

# How long the soak lasts.
SOAK ?= 60m

FAULT := .build/fault/stenofault -steno .build/fault/steno -nats .build/fault/nats-server -models .build/models \
	-clock .build/fault/steno-clock -speech .build/samples/jfk.wav -out .build/fault/run $(if $(SEED),-seed $(SEED))

fault: faults ## inject faults into real processes and look from outside for what is lost (TIER=0 for minutes, ROWS=F1,F3; F4 as root)
	@[ "$(TIER)" = 0 ] || scripts/clock.sh .build/fault/steno-clock
	@$(CGO); $(FAULT) -lanes 3 -tier $(TIER) $(if $(ROWS),-rows $(ROWS))

soak: faults ## keep a cluster busy for SOAK (60m, up to 24h) with a fault each minute; draws .build/fault/run/soak.svg
	@$(FAULT) -soak $(SOAK)

faults: build models samples
	@scripts/tools.sh sqlite3 mkfs.ext4 unshare
	@rm -rf .build/fault && mkdir -p .build/fault
	@$(CGO); go build -tags failpoints -o .build/fault/steno ./cmd/steno && go build -o .build/fault/stenofault ./internal/fault/stenofault \
		&& CGO_ENABLED=0 go build -o .build/fault/nats-server github.com/nats-io/nats-server/v2

monitoring: build models samples ## check Prometheus rules and Grafana dashboards against a real Prometheus and a real node
	$(CGO) && go test -count=1 -v -run 'TestAlerts|TestDashboards' ./cmd/steno

loadtest: build models samples ## have 50 of Locust's users at a node for 3 minutes, and hold it to thresholds (STEPS=50:30,100:30 to find where it breaks)
	@scripts/tools.sh ffmpeg
	@scripts/python.sh locust
	@scripts/loadtest.sh

acceptance: build models samples peer ## measure what is promised: times, memory, preparation, speed (wants a quiet machine)
	@scripts/tools.sh espeak-ng
	@failed=0; export ACCEPTANCE=1 $(if $(CORPUS),STENO_CORPUS=$(CORPUS)); $(CGO); \
		go test -count=1 -v -timeout 20m -run 'TestTimeline$$|TestEngineKilled|TestUpKilled$$|TestShortJob' ./cmd/steno || failed=1; \
		go test -count=1 -v -timeout 60m -tags acceptance ./internal/acceptance || failed=1; \
		exit $$failed

wordtimes: build models ## measure the times of words against a forced alignment of known texts (CORPUS=folder; MODEL=base)
	@[ -n "$(CORPUS)" ] || { echo "wordtimes wants CORPUS=the folder of real speech" >&2; exit 2; }
	@scripts/python.sh aligner
	@.build/aligner/bin/python bench/wordtimes.py $(CURDIR)/bin/steno $(CURDIR)/.build/models $(abspath $(CORPUS)) $(or $(MODEL),base)

MIXTURES ?= 10

diarization: build models ## measure who speaks when against known turns and mixtures of voices (CORPUS=folder; MIXTURES=10 of each)
	@[ -n "$(CORPUS)" ] || { echo "diarization wants CORPUS=the folder of real speech" >&2; exit 2; }
	@$(CGO) && STENO_CORPUS=$(abspath $(CORPUS)) MIXTURES=$(MIXTURES) go test -count=1 -timeout 60m -v -run TestDiarizationErrorRate ./cmd/steno

# What bench-quick compares with, and long recordings for bench.
BASE ?= main
AUDIO ?=

bench: build models samples peers ## measure steno beside its peers (AUDIO=long files; wants a quiet machine)
	@bin/steno bench run --models .build/models --out .build/bench $(if $(AUDIO),--audio $(AUDIO))

bench-quick: build models samples ## compare this build with BASE (main) in paired rounds; fails on a regression
	@rm -rf .build/base && mkdir -p .build/base && git archive $(BASE) | tar -x -C .build/base
	@if cmp -s scripts/engine.sh .build/base/scripts/engine.sh; then \
		$(CGO); cd .build/base && go build -o ../base-steno ./cmd/steno; \
	else $(MAKE) -C .build/base build && mv .build/base/bin/steno .build/base-steno; fi
	@bin/steno bench compare --models .build/models --old .build/base-steno --new bin/steno --rounds 20 \
		$$([ ! -s .build/samples/sense.wav ] || echo --audio .build/samples/sense.wav) --out .build/bench-quick

bench-spread: faults ## measure one hour of speech over 1, 2 and 4 workers with a core each (AUDIO=, WORKERS="1 2", MODEL=tiny.en)
	@AUDIO="$(AUDIO)" scripts/spread.sh

bench-history: ## measure pages of a history of a million tasks, on SQLite and PostgreSQL
	@scripts/tools.sh go postgresql
	CGO_ENABLED=0 STENO_PLANS=$(PLANS) go test -v -tags historybench -count=1 -timeout 30m -run TestHistoryBench ./store

bench-api: build models samples ## measure the response cache, and answers while the machine transcribes (wants a quiet machine)
	@scripts/tools.sh redis-server
	CGO_ENABLED=0 go test -v -tags apibench -count=1 -timeout 30m -run 'TestAPIBench$$' ./api

lint: build $(LINTER) ## check layout, code, scripts and systemd units
	@scripts/tools.sh shellcheck
	shellcheck -x scripts/*.sh .ci/run
	@unformatted=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs gofmt -l); \
		[ -z "$$unformatted" ] || { echo "not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	$(CGO) && $(LINTER) run
	@scripts/units.sh
	@scripts/console.sh svelte-check --fail-on-warnings

deploy-check: $(ACTIONLINT) $(COMPOSE_SPEC) ## check images, compose files, Kubernetes manifests and workflows (what is not here to check them with is said)
	@COMPOSE_SPEC=$(COMPOSE_SPEC) scripts/deploy.sh
	@$(ACTIONLINT)

audit: tools engine sbom $(VULNCHECK) ## check the modules: checksums, and known holes in what is called (VULNDB=URL for a copy of the database)
	go mod verify
	@$(CGO); rc=0; $(VULNCHECK) $(if $(VULNDB),-db $(VULNDB)) -test ./... || rc=$$?; case $$rc in \
		0) ;; \
		3) echo "audit: holes are known in what is called: take the versions that are named above" >&2; exit 1 ;; \
		*) echo "audit: nothing was checked for known holes: let govulncheck reach its database, or name a copy with VULNDB=URL" >&2; exit 1 ;; \
	esac

sbom: tools engine $(SBOM) ## list what bin/steno is made of and runs with in .build/sbom.json (CycloneDX)
	@$(CGO) && $(SBOM) app -json -licenses -std -main cmd/steno -output .build/sbom.json . 2>.build/sbom.log || { cat .build/sbom.log >&2; exit 1; }
	@CGO_ENABLED=0 go run ./scripts/sbom .build/sbom.json
	@echo "sbom: .build/sbom.json"

release: portable sbom ## pack bin/steno-portable with units, rules, dashboards, list of parts and checksums in .build/release
	@scripts/release.sh

engine: tools ## build whisper.cpp from its pinned source, for this CPU
	@scripts/engine.sh

peer: tools ## build whisper-cli from the same source, to compare with
	@scripts/engine.sh peer

peers: build models ## build and install what steno is measured beside (200 MB)
	@scripts/peers.sh

models: build ## get the weights of base and tiny.en
	@scripts/models.sh

samples: engine ## get speech samples
	@scripts/samples.sh

tools: ## find or install what the build needs: go, a C++ compiler, cmake, ffmpeg
	@scripts/tools.sh go c++ cmake ffmpeg

clean: ## remove what was built from this repository, keep what was fetched
	rm -rf bin .build/data .build/*.log

clobber: ## remove all that make made or fetched
	rm -rf bin .build

$(LINTER):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.build/tools go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv .build/tools/golangci-lint $@

$(VULNCHECK):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.build/tools go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK)
	@mv .build/tools/govulncheck $@

$(ACTIONLINT):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.build/tools go install github.com/rhysd/actionlint/cmd/actionlint@$(ACTIONLINT_VERSION)
	@mv .build/tools/actionlint $@

$(COMPOSE_SPEC):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.build/tools go install github.com/compose-spec/compose-go/v2/cmd@$(COMPOSE_GO)
	@mv .build/tools/cmd $@

$(SBOM):
	CGO_ENABLED=0 GOBIN=$(CURDIR)/.build/tools go install github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@$(CYCLONEDX)
	@mv .build/tools/cyclonedx-gomod $@
