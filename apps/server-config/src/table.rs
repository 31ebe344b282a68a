//! The one table of option names (`specs/server-config.md` §6.3, §8). Grammar, scopes
//! and warnings all come from here.

/// Where an option may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in the default part of the file; an error inside a virtual host.
    Global,
    /// Concerns the process, but is accepted inside a virtual host: the last value wins.
    GlobalAnywhere,
    /// In the default part and in virtual hosts.
    Host,
    /// Like `Host`, and in per-user and per-group files.
    User,
    /// Only in per-user and per-group files.
    UserOnly,
}

/// When a changed value is honoured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Set once at start. A virtual host takes the default host's value only if it has none.
    Static,
    /// Reloadable. A virtual host starts with the default host's value; lists are appended.
    Reloadable,
}

/// What the text of a value has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `yes`, else false.
    Bool,
    /// A decimal number.
    Number,
    /// Text with a grammar of its own; the last line wins.
    Text,
    /// Text; every line adds an element.
    List,
    /// Like `List`; quotes and trailing blanks belong to the value.
    RawList,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// An option of its own.
    Own,
    /// Another spelling of this option.
    AliasOf(&'static str),
    /// An old option: when its value reads as `when` (`None`: always), it sets `option` to `value`
    /// (`None`: the same value) and is noted as replaced; otherwise it does nothing.
    ReplacedBy {
        /// The option that took its place.
        option: &'static str,
        /// The boolean that has an effect.
        when: Option<bool>,
        /// What it sets.
        value: Option<&'static str>,
    },
    /// Accepted with a warning, does nothing.
    Deprecated,
    /// An error with this text.
    Removed(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionInfo {
    /// Name in the file, case-sensitive.
    pub name: &'static str,
    /// Where it may stand.
    pub scope: Scope,
    /// When a change is honoured.
    pub class: Class,
    /// Type of the value.
    pub kind: Kind,
    /// What it stands for.
    pub meaning: Meaning,
}

/// Looks a name up.
pub fn find(name: &str) -> Option<&'static OptionInfo> {
    OPTIONS.iter().find(|option| option.name == name)
}

use Class::{Reloadable, Static};
use Kind::{Bool, List, Number, RawList, Text};
use Scope::{Global, GlobalAnywhere, Host, User, UserOnly};

const fn own(name: &'static str, scope: Scope, class: Class, kind: Kind) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class,
        kind,
        meaning: Meaning::Own,
    }
}

const fn alias(name: &'static str, of: &'static str, scope: Scope, kind: Kind) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class: Reloadable,
        kind,
        meaning: Meaning::AliasOf(of),
    }
}

const fn old(name: &'static str, scope: Scope, kind: Kind, meaning: Meaning) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class: Reloadable,
        kind,
        meaning,
    }
}

const fn replaced(option: &'static str, when: Option<bool>, value: Option<&'static str>) -> Meaning {
    Meaning::ReplacedBy { option, when, value }
}

/// All options, in the order of the manual.
pub const OPTIONS: &[OptionInfo] = &[
    // authentication and accounting
    own("auth", Host, Static, List),
    own("enable-auth", Host, Static, List),
    own("acct", Host, Static, Text),
    own("cert-user-oid", Host, Reloadable, Text),
    own("cert-group-oid", Host, Reloadable, Text),
    own("cert-rebind", Host, Reloadable, Text),
    own("username-case", Host, Reloadable, Text),
    own("ca-cert", Host, Static, Text),
    own("crl", Host, Reloadable, Text),
    own("select-group", Host, Reloadable, List),
    own("auto-select-group", Host, Reloadable, Bool),
    own("default-select-group", Host, Reloadable, Text),
    own("select-group-by-url", Host, Reloadable, Bool),
    own("auth-timeout", Global, Reloadable, Number),
    own("cookie-timeout", Host, Reloadable, Number),
    own("persistent-cookies", Host, Reloadable, Bool),
    own("deny-roaming", User, Reloadable, Bool),
    own("session-timeout", User, Reloadable, Number),
    own("kkdcp", Host, Reloadable, List),
    // listening and process
    own("listen-host", Global, Static, Text),
    own("udp-listen-host", Global, Static, Text),
    own("listen-host-is-dyndns", Host, Reloadable, Bool),
    own("listen-netns", GlobalAnywhere, Static, Text),
    own("listen-proxy-proto", Global, Reloadable, Bool),
    own("tcp-port", Global, Static, Number),
    own("udp-port", Global, Static, Number),
    own("run-as-user", Global, Static, Text),
    own("run-as-group", Global, Static, Text),
    own("chroot-dir", Global, Static, Text),
    own("socket-file", Global, Static, Text),
    own("occtl-socket-file", Global, Static, Text),
    own("use-occtl", Global, Reloadable, Bool),
    own("pid-file", GlobalAnywhere, Static, Text),
    own("worker-processes", Global, Static, Text),
    own("protocols", Global, Static, Text),
    own("isolate-workers", Global, Reloadable, Bool),
    own("limit-worker-memory", Global, Reloadable, Bool),
    own("sec-mod-scale", Global, Static, Number),
    own("log-level", GlobalAnywhere, Static, Number),
    own("syslog-facility", GlobalAnywhere, Static, Text),
    own("use-utmp", Global, Reloadable, Bool),
    own("max-clients", Global, Reloadable, Number),
    own("max-same-clients", User, Reloadable, Number),
    own("rate-limit-ms", Global, Reloadable, Number),
    own("server-drain-ms", Global, Reloadable, Number),
    own("server-stats-reset-time", Global, Static, Number),
    own("stats-report-time", User, Reloadable, Number),
    // bans
    own("max-ban-score", Global, Reloadable, Number),
    own("ban-time", Global, Reloadable, Number),
    own("ban-reset-time", Global, Reloadable, Number),
    own("ban-points-wrong-password", Global, Reloadable, Number),
    own("ban-points-connection", Global, Reloadable, Number),
    own("ban-points-kkdcp", Global, Reloadable, Number),
    // TLS
    own("server-cert", Host, Static, List),
    own("server-key", Host, Static, List),
    own("pin-file", Host, Static, Text),
    own("srk-pin-file", Host, Static, Text),
    own("key-pin", Host, Static, Text),
    own("srk-pin", Host, Static, Text),
    own("dh-params", Host, Static, Text),
    own("ocsp-response", Host, Reloadable, Text),
    own("tls-priorities", Host, Reloadable, Text),
    own("match-tls-dtls-ciphers", Host, Reloadable, Bool),
    own("dtls-psk", Global, Reloadable, Bool),
    own("dtls-legacy", Host, Reloadable, Bool),
    own("cisco-client-compat", Host, Reloadable, Bool),
    own("cisco-svc-client-compat", Host, Reloadable, Bool),
    own("host-reports", Host, Reloadable, Bool),
    own("rekey-time", Host, Reloadable, Number),
    own("rekey-method", Host, Reloadable, Text),
    // tunnel
    own("keepalive", User, Reloadable, Number),
    own("dpd", User, Reloadable, Number),
    own("mobile-dpd", User, Reloadable, Number),
    own("idle-timeout", User, Reloadable, Number),
    own("mobile-idle-timeout", User, Reloadable, Number),
    own("switch-to-tcp-timeout", Host, Reloadable, Number),
    own("try-mtu-discovery", Global, Reloadable, Bool),
    own("mtu", User, Reloadable, Number),
    own("output-buffer", Host, Reloadable, Number),
    own("compression", Host, Reloadable, Bool),
    own("compression-algo-priority", Global, Reloadable, Text),
    own("no-compress-limit", Host, Reloadable, Number),
    own("rx-data-per-sec", User, Reloadable, Number),
    own("tx-data-per-sec", User, Reloadable, Number),
    own("net-priority", User, Reloadable, Text),
    own("no-udp", User, Reloadable, Bool),
    own("user-profile", User, Reloadable, Text),
    own("client-bypass-protocol", User, Reloadable, Bool),
    own("banner", Host, Reloadable, Text),
    own("pre-login-banner", Host, Reloadable, Text),
    own("default-domain", Host, Reloadable, Text),
    own("proxy-url", Host, Reloadable, Text),
    own("custom-header", Host, Reloadable, List),
    own("included-http-headers", Host, Reloadable, RawList),
    own("tunnel-all-dns", User, Reloadable, Bool),
    // network
    own("device", Global, Reloadable, Text),
    own("ipv4-network", User, Reloadable, Text),
    own("ipv4-netmask", User, Reloadable, Text),
    own("ipv6-network", User, Reloadable, Text),
    own("ipv6-prefix", Host, Reloadable, Number),
    own("ipv6-subnet-prefix", User, Reloadable, Number),
    own("predictable-ips", Host, Reloadable, Bool),
    own("ping-leases", Global, Reloadable, Bool),
    own("dns", User, Reloadable, List),
    alias("ipv4-dns", "dns", User, List),
    alias("ipv6-dns", "dns", User, List),
    own("nbns", User, Reloadable, List),
    alias("ipv4-nbns", "nbns", User, List),
    alias("ipv6-nbns", "nbns", User, List),
    own("split-dns", User, Reloadable, List),
    own("route", User, Reloadable, List),
    own("no-route", User, Reloadable, List),
    own("append-routes", Host, Reloadable, Bool),
    alias("append-global-routes", "append-routes", Host, Bool),
    own("restrict-user-to-routes", User, Reloadable, Bool),
    own("restrict-user-to-ports", User, Reloadable, List),
    own("expose-iroutes", Host, Reloadable, Bool),
    own("route-add-cmd", Global, Reloadable, Text),
    own("route-del-cmd", Global, Reloadable, Text),
    own("config-per-user", Host, Reloadable, Text),
    own("config-per-group", Host, Reloadable, Text),
    own("default-user-config", Host, Reloadable, Text),
    own("default-group-config", Host, Reloadable, Text),
    // scripts and hiding
    own("connect-script", Global, Reloadable, Text),
    own("disconnect-script", Global, Reloadable, Text),
    own("host-update-script", Global, Reloadable, Text),
    own("camouflage", Host, Reloadable, Bool),
    own("camouflage_secret", Host, Reloadable, Text),
    own("camouflage_realm", Host, Reloadable, Text),
    // per-user and per-group files
    own("iroute", UserOnly, Reloadable, List),
    own("explicit-ipv4", UserOnly, Reloadable, Text),
    own("explicit-ipv6", UserOnly, Reloadable, Text),
    own("hostname", UserOnly, Reloadable, Text),
    // test hooks
    own("debug-no-secmod-stats", GlobalAnywhere, Reloadable, Bool),
    own("sec-mod-db-cleanup-time", Global, Reloadable, Number),
    // old names
    old(
        "use-seccomp",
        Global,
        Bool,
        replaced("isolate-workers", Some(true), Some("true")),
    ),
    old(
        "use-dbus",
        Global,
        Bool,
        replaced("use-occtl", Some(true), Some("true")),
    ),
    old(
        "min-reauth-time",
        Global,
        Number,
        replaced("ban-time", None, None),
    ),
    old(
        "always-require-cert",
        Host,
        Bool,
        replaced("cisco-client-compat", Some(false), Some("true")),
    ),
    old("session-control", Host, Text, Meaning::Deprecated),
    old(
        "listen-clear-file",
        Host,
        Text,
        Meaning::Removed("the 'listen-clear-file' option was removed in ocserv 1.1.2"),
    ),
];
