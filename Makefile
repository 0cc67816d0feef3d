# Everything a contributor runs. `make` alone lists it.

GO        ?= go
PKGS      ?= $(LONGEST) ./...
RACE      ?= -race
TESTFLAGS ?=
FUZZTIME  ?= 20s
BENCH     ?=
HA        ?=
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# Nobody is answered in MessagePack: Gin's code for it takes longer to compile than all of Signet.
export GOFLAGS += -tags=nomsgpack

# SQLite is C, translated to Go: the race detector would look at each access to its memory, which takes much of the tests' time.
# A connection of it is one goroutine's at a time (database/sql), and that is still looked at. The hashes
# of passwords are arithmetic, and HTML is parsed by the tests alone.
UNWATCHED := '-gcflags=modernc.org/...=-race=false -d=checkptr=0' '-gcflags=github.com/go-crypt/x/...=-race=false' '-gcflags=golang.org/x/net/html=-race=false'

# Begun first, they end with the others: the one waits, for npm and for tokens to expire, while the other computes.
LONGEST := ./docs/examples ./server

GOLANGCI_VERSION := v2.15.0
# Later ones need modules that proxy.golang.org does not have.
NFPM_VERSION     := v2.45.2
TOOLS            := $(CURDIR)/bin/tools-$(GOLANGCI_VERSION)

.DEFAULT_GOAL := help
.PHONY: help dev test interop fuzz bench ha pgo pictures deploy-check build deb lint fmt clean

help: ## List what there is to make
	@echo 'make TARGET [NAME=VALUE …]'
	@echo
	@sed -n 's/^\([.a-z-]*\):[^#]*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo 'For example: make test PKGS=./tokens/... RACE= TESTFLAGS="-v -run Rotation"'

dev: ## Run Signet with a demo client and user; nothing to set up
	$(GO) run ./cmd/signet dev

test: ## Run all tests; finds or installs PostgreSQL, PgBouncer, Chromium, Node, PyJWT, Authlib and Flask (PKGS, RACE, TESTFLAGS)
	@scripts/need postgres
	@scripts/need pgbouncer
	@scripts/need chromium
	@if $(GO) list $(PKGS) | grep -q '/docs/examples$$'; then scripts/need node && scripts/need pyjwt && scripts/need authlib; fi
	@set --; \
	if [ -n '$(RACE)' ] && scripts/need cc; then set -- $(RACE) $(UNWATCHED); fi; \
	set -x; $(GO) test -pgo=off -timeout 20m "$$@" $(TESTFLAGS) $(PKGS)

interop: ## Test with client libraries of Go, Node and Python, and with Apache's; finds or installs them
	@scripts/need node
	@scripts/need requests-oauthlib
	@scripts/need authlib
	@scripts/need mod-auth-openidc
	@interop/run

fuzz: ## Run each fuzz target for FUZZTIME (20s) (PKGS)
	@set -e; \
	targets=$$($(GO) test -list '^Fuzz' $(PKGS) | awk '/^Fuzz/ { name[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2 ":" name[i]; n = 0 }'); \
	for t in $$targets; do \
		echo "== $$t"; \
		$(GO) test -run '^$$' -fuzz "^$${t##*:}$$" -fuzztime $(FUZZTIME) "$${t%:*}"; \
	done

bench: ## Measure it under load (BENCH: flags; BENCH=-h lists them)
	$(GO) run ./cmd/bench $(BENCH)

# What is measured has to be what most requests are: a profile of passwords would be one of Argon2id.
pgo: ## Measure anew what the compiler is to make fast: cmd/signet/default.pgo; needs a quiet machine
	$(GO) run ./cmd/bench -scenario refresh,introspect,client_credentials,authorize -connections 16 -duration 10s -scale=false -cleanup=false -profile cmd/signet/default.pgo

pictures: ## Take the pictures of the documentation anew; needs ImageMagick and pngquant
	@scripts/need chromium
	CONSOLE_PICTURES=$(CURDIR)/bin/pictures $(GO) test -count=1 -run 'TestPagesOfPeople|TestPagesAreAccessible' ./server/console
	docs/pictures/make $(CURDIR)/bin/pictures

ha: ## Fail over, kill, cut off and upgrade a whole installation under load (HA: flags; HA=-h lists them)
	@scripts/need postgres
	@scripts/need pgbouncer
	@scripts/need patroni
	$(GO) run ./cmd/ha $(HA)

deploy-check: deb ## Check the Helm chart, the package and the systemd unit; the first time builds Helm's packages, in a minute
	cd deploy/check && $(GO) test -count=1 ./...
	deploy/check/package

build: ## Build the static binary bin/signet (VERSION)
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/signet ./cmd/signet

# A version of Debian's begins with a digit.
deb: build ## Build the Debian package bin/signet.deb (VERSION)
	GOARCH=$$($(GO) env GOARCH) DEB_VERSION=$$(echo '$(VERSION)' | sed 's/^v\([0-9]\)/\1/; t; s/^/0~/; s/-/./g') \
		$(GO) run github.com/goreleaser/nfpm/v2/cmd/nfpm@$(NFPM_VERSION) package -f deploy/nfpm.yaml -p deb -t bin/signet.deb

lint: $(TOOLS)/golangci-lint ## Check formatting and style; the first time builds the linter, in some minutes
	$(TOOLS)/golangci-lint run

fmt: $(TOOLS)/golangci-lint ## Format the code
	$(TOOLS)/golangci-lint fmt

clean: ## Delete what was built
	rm -rf bin
	$(GO) clean -testcache

.env: ## Write the settings of docker-compose.yml, with fresh secrets
	@umask 077; random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_'; }; \
	sed -e "s|^SIGNET_SECRET=$$|&$$(random)|" -e "s|^POSTGRES_PASSWORD=$$|&$$(random)|" .env.example >.env
	@echo 'Wrote .env; next: docker compose up'

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_VERSION)
