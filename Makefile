# Short commands. Each asks for what it needs; `make` alone says what there is.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
RELEASE := 1
FULL    := $(VERSION)-$(RELEASE)

# Which CPU the bundle is for, as the kernel, Debian and the file name call it.
ARCH ?= x86_64
ifeq ($(ARCH),x86_64)
  DEB_ARCH := amd64
  TAG      := x64
  BINARY   := dist/omsagent
else ifeq ($(ARCH),aarch64)
  DEB_ARCH := arm64
  TAG      := arm64
  BINARY   := dist/aarch64/omsagent
else
  $(error ARCH must be x86_64 or aarch64, not `$(ARCH)`)
endif
TARGET := $(ARCH)-unknown-linux-musl

# The packer runs on this machine, whatever the bundle is for.
PACKER := dist/omsagent
DEB    := dist/omsagent_$(FULL)_$(DEB_ARCH).deb
RPM    := dist/omsagent-$(FULL).$(ARCH).rpm
BUNDLE := dist/omsagent-$(FULL).universal.$(TAG).sh
SUMS   := dist/omsagent-$(FULL).universal.$(TAG).sha256sums
# What the program is made of: the list and the licences.
PARTS  := dist/parts.$(ARCH)
# Sign what is built: OMSAGENT_SECRET_KEY=FILE; OMSAGENT_PUBLIC_KEY=KEY builds a release that takes nothing else.
OMSAGENT_SECRET_KEY ?=
export OMSAGENT_PUBLIC_KEY

# Same commit, same bytes: times come from the commit, and no path of this machine goes into the binary.
SOURCE_DATE_EPOCH := $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
export SOURCE_DATE_EPOCH
# What --source-references says; nothing where the sources came without git.
COMMIT := $(shell git rev-parse HEAD 2>/dev/null)
# installinfo.txt says it.
export OMSAGENT_BUILD_DATE := $(shell date -u -d @$(SOURCE_DATE_EPOCH) +%Y%m%d)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CARGO_DIR := $(or $(CARGO_HOME),$(HOME)/.cargo)
MAPS := $(CURDIR)=omsagent $(CARGO_DIR)/registry/src=crates
REMAP = target.$(1).rustflags=[$(foreach m,$(MAPS),"--remap-path-prefix=$(m)",)"--remap-path-prefix=$(shell rustc --print sysroot)=rust"]
C_MAP := $(foreach m,$(MAPS),-ffile-prefix-map=$(m))
# glibc's headers with musl's library: nothing that only glibc has may be called.
C_AARCH64 := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=0 -mno-outline-atomics -DSQLITE_DISABLE_LFS

BUILD = CFLAGS_x86_64_unknown_linux_musl="$(C_MAP)" \
	CFLAGS_aarch64_unknown_linux_musl="$(C_MAP) $(C_AARCH64)" \
	PATH="$(CURDIR)/target/tools/bin:$$PATH" cargo auditable build --release --locked --bin omsagent --target $(1) --config '$(call REMAP,$(1))'

.PHONY: help setup bundle demo test bench sweep check clean fuzz reproducible FORCE

help: ## This list
	@sed -n 's/^\([a-z]*\):[^#]*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Install what builds and tests need (Debian packages, Rust targets); instant when all is there
	@tests/setup $(ARCH)

bundle: setup $(BUNDLE) ## dist/: static binary, .deb, .rpm and the one-file bundle (ARCH=aarch64 too)
	@ls -l $(BINARY) $(DEB) $(RPM) $(BUNDLE) $(SUMS)

demo: bundle ## Boot a throw-away Debian, install, onboard, watch a log line arrive, purge
	@tests/system/demo

test: ## Everything: format, lints, licences, unit tests, packages, system tests on four systems
	@tests/all

check: ## The quick part of `test`: format, lints, unit tests
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo test --locked

bench: bundle ## Speed and size, each against the plain tool in the same run -> dist/bench.json
	@benches/bench

fuzz: ## Every fuzz target for a minute (needs a nightly toolchain); SECONDS=N for longer
	@fuzz/run $(if $(filter command line,$(origin SECONDS)),$(SECONDS),60)

reproducible: ## Build twice, in two folders, compare byte for byte; then a signed release (slow)
	@tests/reproducible
	@tests/signed_release

sweep: bundle ## Crashes, faults, power cuts, many at once; hours, or MINUTES=n each. Figures -> docs/evidence.md
	@tests/sweep/all $(MINUTES)

clean: ## Remove dist/ (target/ stays)
	rm -rf dist

FORCE:

# cargo knows best whether the binary is current; its copy changes only when its bytes do.
dist/omsagent: FORCE
	@mkdir -p $(@D)
	$(call BUILD,x86_64-unknown-linux-musl)
	@cmp -s $(TARGET_DIR)/x86_64-unknown-linux-musl/release/omsagent $@ || install -m 755 $(TARGET_DIR)/x86_64-unknown-linux-musl/release/omsagent $@

dist/aarch64/omsagent: FORCE
	@mkdir -p $(@D)
	$(call BUILD,aarch64-unknown-linux-musl)
	@cmp -s $(TARGET_DIR)/aarch64-unknown-linux-musl/release/omsagent $@ || install -m 755 $(TARGET_DIR)/aarch64-unknown-linux-musl/release/omsagent $@

dist/.epoch: FORCE
	@mkdir -p $(@D)
	@echo $(SOURCE_DATE_EPOCH) | cmp -s - $@ || echo $(SOURCE_DATE_EPOCH) >$@

dist/.commit: FORCE
	@mkdir -p $(@D)
	@echo $(COMMIT) | cmp -s - $@ || echo $(COMMIT) >$@

$(PARTS)/licences.txt: Cargo.lock bundle/parts
	bundle/parts $(ARCH) $(FULL) $(@D)

$(PARTS)/%.gz: $(PARTS)/%
	gzip -9nkf $<

$(PARTS)/sbom.cdx.json: $(PARTS)/licences.txt

PACKED := dist/.epoch $(PARTS)/licences.txt $(shell find bundle templates docs LICENSE-APACHE LICENSE-MIT -type f 2>/dev/null)

$(DEB): $(PACKER) $(BINARY) $(PACKED)
	$(PACKER) pack deb --manifest bundle/omsagent.toml --binary $(BINARY) --arch $(ARCH) --licences $(PARTS)/licences.txt --out dist

$(RPM): $(PACKER) $(BINARY) $(PACKED)
	$(PACKER) pack rpm --manifest bundle/omsagent.toml --binary $(BINARY) --arch $(ARCH) --licences $(PARTS)/licences.txt --out dist

$(BUNDLE): $(PACKER) $(BINARY) $(DEB) $(RPM) dist/.commit $(PARTS)/licences.txt.gz $(PARTS)/sbom.cdx.json.gz
	$(PACKER) pack build --runner $(ARCH)=$(BINARY) --package $(DEB) $(RPM) \
		--licence $(PARTS)/licences.txt.gz --sbom $(PARTS)/sbom.cdx.json.gz \
		$(if $(COMMIT),--source-reference "omsagent: $(COMMIT)") --out $@
	$(if $(OMSAGENT_SECRET_KEY),$(PACKER) pack sign --key $(OMSAGENT_SECRET_KEY) $@)
	$(PACKER) pack verify $@
