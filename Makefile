# Goals: demo, test, bench, fuzz, build, install, uninstall. See README.md.

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
TARGET_DIR ?= $(or $(CARGO_TARGET_DIR),target)
PROGRAMS_SBIN = openconnect ocserv
PROGRAMS_BIN = occtl ocpasswd
# Where the host's own files are: as Debian has it with PREFIX=/usr.
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
UNITS = ocserv.service ocserv.socket
# Line numbers are four fifths of the programs; packagers keep them elsewhere: STRIP=true.
STRIP ?= strip --strip-debug
export CULVERT_BIN_DIR = $(abspath $(TARGET_DIR))/release
# End-to-end tests mostly wait for timers and processes.
export RUST_TEST_THREADS ?= 8
# make and the shell cut at blanks, and so do the sources of OpenSSL.
$(foreach name,CURDIR PREFIX DESTDIR SYSCONFDIR UNITDIR TARGET_DIR,\
    $(if $(word 2,$($(name))),$(error $(name) has blanks in it: '$($(name))')))
# OpenSSL (for old gateways) takes minutes to build and does not depend on the profile: CI, which starts
# from nothing, builds it once. Its libraries are the last of what is installed there; an old target
# folder may hold older ones.
ifdef CI
OPENSSL_LIBRARIES = $(abspath $(TARGET_DIR))/debug/build/openssl-sys-*/out/openssl-build/install/lib/libssl.a
OPENSSL_BUILT = $(patsubst %/lib/libssl.a,%,$(shell ls -t $(OPENSSL_LIBRARIES) 2>/dev/null | head -n 1))
OPENSSL = $(if $(OPENSSL_BUILT),OPENSSL_NO_VENDOR=1 OPENSSL_STATIC=1 OPENSSL_DIR=$(OPENSSL_BUILT))
endif
RELEASE = $(OPENSSL) $(CARGO) build --locked --release

.PHONY: build demo test lint unit e2e instructions bench fuzz install uninstall

build:
	@scripts/setup build
	$(RELEASE)

demo:
	@scripts/setup demo
	$(RELEASE)
	$(CULVERT_BIN_DIR)/demo

# `unit` and `e2e` at once: chosen one by one, crates have other features and are compiled again.
test:
	@scripts/setup test
	$(MAKE) lint
	$(MAKE) build
	$(CARGO) test --locked --workspace
	$(MAKE) instructions

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

# Unit, property and record-layer interoperability tests (openssl, gnutls on loopback).
unit:
	$(CARGO) test --locked --workspace --exclude culvert-lab

# Our programs and the real ones in network namespaces.
e2e: build
	$(CARGO) test --locked -p culvert-lab

# Instructions per packet, counted by callgrind, against lab/instructions.json; INSTRUCTIONS=--write
# records them.
instructions: build
	@scripts/setup instructions
	$(CULVERT_BIN_DIR)/instructions $(INSTRUCTIONS)

bench:
	@scripts/setup bench
	$(RELEASE)
	$(CULVERT_BIN_DIR)/bench $(BENCH)

# Every parser of a peer's octets for SECONDS each; the corpus itself is replayed by `make unit`.
SECONDS ?= 60
fuzz:
	scripts/fuzz $(SECONDS)

# Builds nothing: root may have no Rust. The administrator's files are never touched.
install:
	@for program in $(PROGRAMS_SBIN) $(PROGRAMS_BIN); do \
	    test -x $(CULVERT_BIN_DIR)/$$program || { echo "$(CULVERT_BIN_DIR)/$$program is not built: run 'make' first" >&2; exit 1; }; \
	done
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(addprefix $(CULVERT_BIN_DIR)/,$(PROGRAMS_SBIN)) $(DESTDIR)$(PREFIX)/sbin/
	install -m 755 $(addprefix $(CULVERT_BIN_DIR)/,$(PROGRAMS_BIN)) $(DESTDIR)$(PREFIX)/bin/
	$(STRIP) $(addprefix $(DESTDIR)$(PREFIX)/sbin/,$(PROGRAMS_SBIN)) $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS_BIN))
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/doc/culvert
	install -m 644 docs/man/*.8 $(DESTDIR)$(PREFIX)/share/man/man8/
	install -m 644 docs/sample.ocserv.conf docs/occtl.schema.json README.md $(DESTDIR)$(PREFIX)/share/doc/culvert/
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions zsh/site-functions)
	install -m 644 packaging/completions/openconnect.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/openconnect
	install -m 644 packaging/completions/_openconnect $(DESTDIR)$(PREFIX)/share/zsh/site-functions/
	install -d $(DESTDIR)$(UNITDIR) $(addprefix $(DESTDIR)$(PREFIX)/lib/,sysusers.d tmpfiles.d)
	for unit in $(UNITS); do sed 's|@SBIN@|$(PREFIX)/sbin|' packaging/systemd/$$unit > $(DESTDIR)$(UNITDIR)/$$unit; done
	chmod 644 $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	install -m 644 packaging/sysusers.d/ocserv.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/
	install -m 644 packaging/tmpfiles.d/ocserv.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/
	install -d $(addprefix $(DESTDIR)$(SYSCONFDIR)/,ocserv pam.d)
	test -e $(DESTDIR)$(SYSCONFDIR)/pam.d/ocserv || install -m 644 packaging/pam.d/ocserv $(DESTDIR)$(SYSCONFDIR)/pam.d/

uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/sbin/,$(PROGRAMS_SBIN)) $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS_BIN))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/man/man8/,$(notdir $(wildcard docs/man/*.8)))
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/culvert
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/share/,bash-completion/completions/openconnect zsh/site-functions/_openconnect)
	rm -f $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/lib/,sysusers.d/ocserv.conf tmpfiles.d/ocserv.conf)
