# Glacis: `make run` boots the firewall, `make test` proves it, `make attack` scans it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
TRIPLE := x86_64-unknown-linux-gnu
GLACIS := $(CARGO_TARGET_DIR)/$(TRIPLE)/release/glacis
VM := $(CARGO_TARGET_DIR)/$(TRIPLE)/release/glacis-vm
IMAGE := target/glacis.img
# Namespaces, taps and boots need root; a user who is not root is asked by sudo.
SUDO := $(if $(filter 0,$(shell id -u)),,sudo -E)
ifneq ($(SUDO),)
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := $(SUDO)
endif

.PHONY: help setup-% build image run attack test lint unit bpf-check bench clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

setup-%:
	@.ci/setup $*

build: setup-build ## Build the static binary
	@echo "Building the static binary (some minutes the first time)"
	@cargo build --release -p glacis -p glacis-tests --bins

image: build ## Build target/glacis.img from policy.kdl
	@mkdir -p target
	@$(GLACIS) image build policy.kdl -o $(IMAGE)

run: setup-run image ## Boot the image under QEMU; stop it with Ctrl-C
	@$(SUDO) $(VM) run $(IMAGE)

attack: ## Scan the running guest with nmap and watch it being blocked
	@$(SUDO) $(VM) attack

test: setup-test lint build bpf-check unit ## Run every test: unit, golden, namespaces, boots

lint:
	@echo "Checking format and lints"
	@cargo fmt --all --check
	@cd fuzz && cargo fmt --check
	@cd ebpf/program && cargo fmt --check
	@cargo clippy --workspace --all-targets --quiet -- -D warnings

unit:
	@echo "Running the tests"
	@GLACIS_BIN=$(GLACIS) cargo test --workspace --no-fail-fast

bpf-check:
	@ebpf/toolchain
	@ebpf/rebuild --check

bench: setup-bench build ## Measure Glacis against its peers
	@cargo build --release -p glacis-benches
	@GLACIS_BIN=$(GLACIS) $(SUDO) $(CARGO_TARGET_DIR)/$(TRIPLE)/release/glacis-benches

clean: ## Remove what was built
	@cargo clean
	@rm -rf target
