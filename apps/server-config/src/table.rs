//! The one table of option names (`specs/server-config.md` §6.3, §8). Grammar, scopes, warnings
//! and the start warning about options without effect all come from here.

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

/// Whether the server does what the option says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It does, or the option needs nothing done.
    Works,
    /// Not in this version: starting with it gives a warning.
    NotYet,
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
    /// Whether it works.
    pub effect: Effect,
}

impl OptionInfo {
    /// True when every line adds an element.
    pub fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List | Kind::RawList)
    }
}

/// Looks a name up.
pub fn find(name: &str) -> Option<&'static OptionInfo> {
    OPTIONS.iter().find(|option| option.name == name)
}

use Class::{Reloadable, Static};
use Effect::{NotYet, Works};
use Kind::{Bool, List, Number, RawList, Text};
use Scope::{Global, GlobalAnywhere, Host, User, UserOnly};

const fn own(name: &'static str, scope: Scope, class: Class, kind: Kind, effect: Effect) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class,
        kind,
        meaning: Meaning::Own,
        effect,
    }
}

const fn alias(name: &'static str, of: &'static str, scope: Scope, kind: Kind) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class: Reloadable,
        kind,
        meaning: Meaning::AliasOf(of),
        effect: Works,
    }
}

const fn old(name: &'static str, scope: Scope, kind: Kind, meaning: Meaning) -> OptionInfo {
    OptionInfo {
        name,
        scope,
        class: Reloadable,
        kind,
        meaning,
        effect: Works,
    }
}

const fn replaced(option: &'static str, when: Option<bool>, value: Option<&'static str>) -> Meaning {
    Meaning::ReplacedBy { option, when, value }
}

/// All options, in the order of the manual.
pub const OPTIONS: &[OptionInfo] = &[
    // authentication and accounting
    own("auth", Host, Static, List, Works),
    own("enable-auth", Host, Static, List, Works),
    own("acct", Host, Static, Text, Works),
    own("cert-user-oid", Host, Reloadable, Text, Works),
    own("cert-group-oid", Host, Reloadable, Text, Works),
    own("ca-cert", Host, Static, Text, Works),
    own("crl", Host, Reloadable, Text, Works),
    own("select-group", Host, Reloadable, List, Works),
    own("auto-select-group", Host, Reloadable, Bool, Works),
    own("default-select-group", Host, Reloadable, Text, Works),
    own("select-group-by-url", Host, Reloadable, Bool, Works),
    own("auth-timeout", Global, Reloadable, Number, Works),
    own("cookie-timeout", Host, Reloadable, Number, Works),
    own("persistent-cookies", Host, Reloadable, Bool, Works),
    own("deny-roaming", User, Reloadable, Bool, Works),
    own("session-timeout", User, Reloadable, Number, Works),
    own("kkdcp", Host, Reloadable, List, Works),
    // listening and process
    own("listen-host", Global, Static, Text, Works),
    own("udp-listen-host", Global, Static, Text, Works),
    own("listen-host-is-dyndns", Host, Reloadable, Bool, Works),
    own("listen-netns", GlobalAnywhere, Static, Text, Works),
    own("listen-proxy-proto", Global, Reloadable, Bool, Works),
    own("tcp-port", Global, Static, Number, Works),
    own("udp-port", Global, Static, Number, Works),
    own("run-as-user", Global, Static, Text, Works),
    own("run-as-group", Global, Static, Text, Works),
    own("chroot-dir", Global, Static, Text, Works),
    own("socket-file", Global, Static, Text, Works),
    own("occtl-socket-file", Global, Static, Text, Works),
    own("use-occtl", Global, Reloadable, Bool, Works),
    own("pid-file", GlobalAnywhere, Static, Text, Works),
    own("worker-processes", Global, Static, Text, Works),
    own("protocols", Global, Static, Text, Works),
    own("isolate-workers", Global, Reloadable, Bool, Works),
    own("limit-worker-memory", Global, Reloadable, Bool, Works),
    own("sec-mod-scale", Global, Static, Number, Works),
    own("log-level", GlobalAnywhere, Static, Number, Works),
    own("syslog-facility", GlobalAnywhere, Static, Text, Works),
    own("use-utmp", Global, Reloadable, Bool, Works),
    own("max-clients", Global, Reloadable, Number, Works),
    own("max-same-clients", User, Reloadable, Number, Works),
    own("rate-limit-ms", Global, Reloadable, Number, Works),
    own("server-drain-ms", Global, Reloadable, Number, Works),
    own("server-stats-reset-time", Global, Static, Number, Works),
    own("stats-report-time", User, Reloadable, Number, Works),
    // bans
    own("max-ban-score", Global, Reloadable, Number, Works),
    own("ban-time", Global, Reloadable, Number, Works),
    own("ban-reset-time", Global, Reloadable, Number, Works),
    own("ban-points-wrong-password", Global, Reloadable, Number, Works),
    own("ban-points-connection", Global, Reloadable, Number, Works),
    own("ban-points-kkdcp", Global, Reloadable, Number, Works),
    // TLS
    own("server-cert", Host, Static, List, Works),
    own("server-key", Host, Static, List, Works),
    own("pin-file", Host, Static, Text, Works),
    own("srk-pin-file", Host, Static, Text, NotYet),
    own("key-pin", Host, Static, Text, Works),
    own("srk-pin", Host, Static, Text, NotYet),
    own("dh-params", Host, Static, Text, Works),
    own("ocsp-response", Host, Reloadable, Text, Works),
    own("tls-priorities", Host, Reloadable, Text, Works),
    own("match-tls-dtls-ciphers", Host, Reloadable, Bool, Works),
    own("dtls-psk", Global, Reloadable, Bool, Works),
    own("dtls-legacy", Host, Reloadable, Bool, Works),
    own("cisco-client-compat", Host, Reloadable, Bool, Works),
    own("cisco-svc-client-compat", Host, Reloadable, Bool, Works),
    own("rekey-time", Host, Reloadable, Number, Works),
    own("rekey-method", Host, Reloadable, Text, Works),
    // tunnel
    own("keepalive", User, Reloadable, Number, Works),
    own("dpd", User, Reloadable, Number, Works),
    own("mobile-dpd", User, Reloadable, Number, Works),
    own("idle-timeout", User, Reloadable, Number, Works),
    own("mobile-idle-timeout", User, Reloadable, Number, Works),
    own("switch-to-tcp-timeout", Host, Reloadable, Number, Works),
    own("try-mtu-discovery", Global, Reloadable, Bool, Works),
    own("mtu", User, Reloadable, Number, Works),
    own("output-buffer", Host, Reloadable, Number, Works),
    own("compression", Host, Reloadable, Bool, Works),
    own("compression-algo-priority", Global, Reloadable, Text, Works),
    own("no-compress-limit", Host, Reloadable, Number, Works),
    own("rx-data-per-sec", User, Reloadable, Number, Works),
    own("tx-data-per-sec", User, Reloadable, Number, Works),
    own("net-priority", User, Reloadable, Text, Works),
    own("no-udp", User, Reloadable, Bool, Works),
    own("user-profile", User, Reloadable, Text, Works),
    own("client-bypass-protocol", User, Reloadable, Bool, Works),
    own("banner", Host, Reloadable, Text, Works),
    own("pre-login-banner", Host, Reloadable, Text, Works),
    own("default-domain", Host, Reloadable, Text, Works),
    own("proxy-url", Host, Reloadable, Text, Works),
    own("custom-header", Host, Reloadable, List, Works),
    own("included-http-headers", Host, Reloadable, RawList, Works),
    own("tunnel-all-dns", User, Reloadable, Bool, Works),
    // network
    own("device", Global, Reloadable, Text, Works),
    own("ipv4-network", User, Reloadable, Text, Works),
    own("ipv4-netmask", User, Reloadable, Text, Works),
    own("ipv6-network", User, Reloadable, Text, Works),
    own("ipv6-prefix", Host, Reloadable, Number, Works),
    own("ipv6-subnet-prefix", User, Reloadable, Number, Works),
    own("predictable-ips", Host, Reloadable, Bool, Works),
    own("ping-leases", Global, Reloadable, Bool, Works),
    own("dns", User, Reloadable, List, Works),
    alias("ipv4-dns", "dns", User, List),
    alias("ipv6-dns", "dns", User, List),
    own("nbns", User, Reloadable, List, Works),
    alias("ipv4-nbns", "nbns", User, List),
    alias("ipv6-nbns", "nbns", User, List),
    own("split-dns", User, Reloadable, List, Works),
    own("route", User, Reloadable, List, Works),
    own("no-route", User, Reloadable, List, Works),
    own("append-routes", Host, Reloadable, Bool, Works),
    alias("append-global-routes", "append-routes", Host, Bool),
    own("restrict-user-to-routes", User, Reloadable, Bool, Works),
    own("restrict-user-to-ports", User, Reloadable, List, Works),
    own("expose-iroutes", Host, Reloadable, Bool, Works),
    own("route-add-cmd", Global, Reloadable, Text, Works),
    own("route-del-cmd", Global, Reloadable, Text, Works),
    own("config-per-user", Host, Reloadable, Text, Works),
    own("config-per-group", Host, Reloadable, Text, Works),
    own("default-user-config", Host, Reloadable, Text, Works),
    own("default-group-config", Host, Reloadable, Text, Works),
    // scripts and hiding
    own("connect-script", Global, Reloadable, Text, Works),
    own("disconnect-script", Global, Reloadable, Text, Works),
    own("host-update-script", Global, Reloadable, Text, Works),
    own("camouflage", Host, Reloadable, Bool, Works),
    own("camouflage_secret", Host, Reloadable, Text, Works),
    own("camouflage_realm", Host, Reloadable, Text, Works),
    // per-user and per-group files
    own("iroute", UserOnly, Reloadable, List, Works),
    own("explicit-ipv4", UserOnly, Reloadable, Text, Works),
    own("explicit-ipv6", UserOnly, Reloadable, Text, Works),
    own("hostname", UserOnly, Reloadable, Text, Works),
    // test hooks
    own("debug-no-secmod-stats", GlobalAnywhere, Reloadable, Bool, Works),
    own("sec-mod-db-cleanup-time", Global, Reloadable, Number, Works),
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
