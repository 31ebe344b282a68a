//! The one table of all options: getopt, configuration files, help and completion read it.

use culvert_getopt::{Argument, OptionSpec};

/// Every option of the program (`specs/client.md` §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub(super) enum Opt {
    Background,
    PidFile,
    SetUid,
    ScriptTun,
    Syslog,
    CsdUser,
    CsdWrapper,
    ExternalBrowser,
    NoExternalAuth,
    Pfs,
    AllowInsecureCrypto,
    Certificate,
    SslKey,
    Cookie,
    Compression,
    Deflate,
    Juniper,
    NoDeflate,
    CertExpireWarning,
    UserGroup,
    Help,
    HttpAuth,
    Interface,
    Mtu,
    BaseMtu,
    Script,
    Timestamp,
    PassTos,
    KeyPassword,
    Proxy,
    ProxyAuth,
    User,
    Verbose,
    Version,
    CaFile,
    Config,
    NoDtls,
    Authenticate,
    CookieOnly,
    PrintCookie,
    Quiet,
    QueueLen,
    XmlConfig,
    CookieOnStdin,
    PasswdOnStdin,
    NoPasswd,
    ReconnectTimeout,
    DtlsCiphers,
    Dtls12Ciphers,
    AuthGroup,
    ServerCert,
    Resolve,
    Sni,
    KeyPasswordFromFsid,
    UserAgent,
    VersionString,
    LocalHostname,
    DisableIpv6,
    NoProxy,
    LibProxy,
    NoHttpKeepalive,
    NoCertCheck,
    ForceDpd,
    ForceTrojan,
    TcpKeepalive,
    NonInter,
    DtlsLocalPort,
    TokenMode,
    TokenSecret,
    Os,
    NoXmlPost,
    DumpHttpTraffic,
    NoSystemTrust,
    Protocol,
    FormEntry,
    GnutlsDebug,
    GnutlsPriority,
    Server,
    McaCertificate,
    McaKey,
    McaKeyPassword,
}

/// Group of the help text, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    /// Listed before the first heading.
    General,
    /// Login data and forms.
    Authentication,
    /// Trust in the server's certificate.
    ServerValidation,
    /// The way to the server.
    Connectivity,
    /// Cookies between two runs.
    TwoPhase,
    /// Daemon, user, pid file.
    Process,
    /// Messages.
    Logging,
    /// Script and device.
    Script,
    /// Timers, MTU, DTLS.
    Tunnel,
    /// What the server is told about this machine.
    LocalSystem,
    /// Host scan programs.
    Trojan,
    /// Work-arounds.
    ServerBugs,
    /// Second certificate.
    MultipleCertificates,
}

impl Group {
    /// All groups in the order of the help text.
    pub(super) const ALL: [Self; 13] = [
        Self::General,
        Self::Authentication,
        Self::ServerValidation,
        Self::Connectivity,
        Self::TwoPhase,
        Self::Process,
        Self::Logging,
        Self::Script,
        Self::Tunnel,
        Self::LocalSystem,
        Self::Trojan,
        Self::ServerBugs,
        Self::MultipleCertificates,
    ];

    /// The heading.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::General => "",
            Self::Authentication => "Authentication",
            Self::ServerValidation => "Server validation",
            Self::Connectivity => "Internet connectivity",
            Self::TwoPhase => "Authentication (two-phase)",
            Self::Process => "Process control",
            Self::Logging => "Logging (two-phase)",
            Self::Script => "VPN configuration script",
            Self::Tunnel => "Tunnel control",
            Self::LocalSystem => "Local system information",
            Self::Trojan => "Trojan binary (CSD) execution",
            Self::ServerBugs => "Server bugs",
            Self::MultipleCertificates => "Multiple certificate authentication (MCA)",
        }
    }
}

/// One line of the help text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HelpLine {
    /// Where it appears.
    pub group: Group,
    /// Name of the argument, empty when there is none.
    pub placeholder: &'static str,
    /// What the option does.
    pub text: &'static str,
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spec {
    /// Which option.
    pub opt: Opt,
    /// Single-letter form.
    pub short: Option<char>,
    /// Name without the dashes.
    pub long: &'static str,
    /// Argument.
    pub argument: Argument,
    /// Help line; `None` for hidden options.
    pub help: Option<HelpLine>,
}

const fn spec(opt: Opt, short: Option<char>, long: &'static str, argument: Argument) -> Spec {
    Spec {
        opt,
        short,
        long,
        argument,
        help: None,
    }
}

const fn flag(opt: Opt, short: Option<char>, long: &'static str, group: Group, text: &'static str) -> Spec {
    Spec {
        opt,
        short,
        long,
        argument: Argument::None,
        help: Some(HelpLine {
            group,
            placeholder: "",
            text,
        }),
    }
}

const fn value(
    opt: Opt,
    short: Option<char>,
    long: &'static str,
    group: Group,
    placeholder: &'static str,
    text: &'static str,
) -> Spec {
    Spec {
        opt,
        short,
        long,
        argument: Argument::Required,
        help: Some(HelpLine {
            group,
            placeholder,
            text,
        }),
    }
}

use Group::{
    Authentication, Connectivity, General, LocalSystem, Logging, MultipleCertificates, Process, Script,
    ServerBugs, ServerValidation, Trojan, Tunnel, TwoPhase,
};

/// All options in declaration order, the order of completion.
#[rustfmt::skip]
pub(super) const OPTIONS: &[Spec] = &[
    flag(Opt::Background, Some('b'), "background", Process, "Continue in background after startup"),
    value(Opt::PidFile, None, "pid-file", Process, "FILE", "Write the pid of the background process to FILE"),
    value(Opt::SetUid, Some('U'), "setuid", Process, "USER", "Become USER once the tunnel is up"),
    flag(Opt::ScriptTun, Some('S'), "script-tun", Script, "Exchange packets with the script program, not with a tun device"),
    flag(Opt::Syslog, Some('l'), "syslog", Logging, "Send messages to syslog once the tunnel is up"),
    value(Opt::CsdUser, None, "csd-user", Trojan, "USER", "Run the host scan program as USER"),
    value(Opt::CsdWrapper, None, "csd-wrapper", Trojan, "PROGRAM", "Run PROGRAM in place of the host scan program"),
    value(Opt::ExternalBrowser, None, "external-browser", Authentication, "PROGRAM", "Browser for single sign-on"),
    flag(Opt::NoExternalAuth, None, "no-external-auth", Authentication, "Do not offer single sign-on and session token protection"),
    flag(Opt::Pfs, None, "pfs", Tunnel, "Require forward secrecy, also of old servers"),
    flag(Opt::AllowInsecureCrypto, None, "allow-insecure-crypto", ServerBugs, "Allow 3DES, RC4 and SHA-1 signatures"),
    value(Opt::Certificate, Some('c'), "certificate", Authentication, "CERT", "Client certificate"),
    value(Opt::SslKey, Some('k'), "sslkey", Authentication, "KEY", "Private key of the client certificate"),
    value(Opt::Cookie, Some('C'), "cookie", TwoPhase, "COOKIE", "Connect with this cookie, do not log in"),
    spec(Opt::Compression, None, "compression", Argument::Required),
    flag(Opt::Deflate, Some('d'), "deflate", Tunnel, "Offer compression (the default)"),
    spec(Opt::Juniper, None, "juniper", Argument::None),
    flag(Opt::NoDeflate, Some('D'), "no-deflate", Tunnel, "Offer no compression"),
    value(Opt::CertExpireWarning, Some('e'), "cert-expire-warning", Authentication, "DAYS", "Warn when the client certificate expires within DAYS"),
    value(Opt::UserGroup, Some('g'), "usergroup", Authentication, "PATH", "Path on the server, when its URL has none"),
    flag(Opt::Help, Some('h'), "help", General, "Show this text"),
    spec(Opt::HttpAuth, None, "http-auth", Argument::Required),
    value(Opt::Interface, Some('i'), "interface", Script, "NAME", "Name of the tun device"),
    value(Opt::Mtu, Some('m'), "mtu", Tunnel, "MTU", "Ask the server for this MTU"),
    value(Opt::BaseMtu, None, "base-mtu", Tunnel, "MTU", "MTU of the path to the server"),
    value(Opt::Script, Some('s'), "script", Script, "COMMAND", "Shell command that configures the network"),
    flag(Opt::Timestamp, None, "timestamp", Logging, "Put the time before each message"),
    flag(Opt::PassTos, None, "passtos", Connectivity, "Copy TOS or traffic class to the packets of the tunnel"),
    value(Opt::KeyPassword, Some('p'), "key-password", Authentication, "PASS", "Passphrase of the private key"),
    value(Opt::Proxy, Some('P'), "proxy", Connectivity, "URL", "Connect through this proxy"),
    value(Opt::ProxyAuth, None, "proxy-auth", Connectivity, "METHODS", "Authentication methods for the proxy"),
    value(Opt::User, Some('u'), "user", Authentication, "NAME", "User name"),
    flag(Opt::Verbose, Some('v'), "verbose", Logging, "More messages"),
    flag(Opt::Version, Some('V'), "version", General, "Show the version"),
    value(Opt::CaFile, None, "cafile", ServerValidation, "FILE", "Trust the certificates in FILE"),
    value(Opt::Config, None, "config", General, "FILE", "Read options from FILE"),
    flag(Opt::NoDtls, None, "no-dtls", Tunnel, "Do not use UDP"),
    flag(Opt::Authenticate, None, "authenticate", TwoPhase, "Log in, print what a second run needs, and end"),
    flag(Opt::CookieOnly, None, "cookieonly", TwoPhase, "Log in, print the cookie, and end"),
    flag(Opt::PrintCookie, None, "printcookie", TwoPhase, "Print the cookie before connecting"),
    flag(Opt::Quiet, Some('q'), "quiet", Logging, "Only errors"),
    value(Opt::QueueLen, Some('Q'), "queue-len", Tunnel, "N", "Limit of queued packets"),
    value(Opt::XmlConfig, Some('x'), "xmlconfig", Tunnel, "FILE", "AnyConnect profile"),
    flag(Opt::CookieOnStdin, None, "cookie-on-stdin", TwoPhase, "Read the cookie from standard input"),
    flag(Opt::PasswdOnStdin, None, "passwd-on-stdin", Authentication, "Read the password from standard input"),
    flag(Opt::NoPasswd, None, "no-passwd", Authentication, "Never answer password forms"),
    value(Opt::ReconnectTimeout, None, "reconnect-timeout", Connectivity, "SECONDS", "Give up reconnecting after SECONDS (default 300)"),
    value(Opt::DtlsCiphers, None, "dtls-ciphers", Tunnel, "LIST", "DTLS ciphers to offer"),
    spec(Opt::Dtls12Ciphers, None, "dtls12-ciphers", Argument::Required),
    value(Opt::AuthGroup, None, "authgroup", Authentication, "GROUP", "Answer of the group selection"),
    value(Opt::ServerCert, None, "servercert", ServerValidation, "PIN", "Accept only a server with this key or certificate hash"),
    value(Opt::Resolve, None, "resolve", Connectivity, "HOST:IP", "Use IP as the address of HOST"),
    value(Opt::Sni, None, "sni", Connectivity, "HOST", "Server name to send and to check in TLS"),
    flag(Opt::KeyPasswordFromFsid, None, "key-password-from-fsid", Authentication, "Passphrase is the file system id of the key file"),
    value(Opt::UserAgent, None, "useragent", LocalSystem, "STRING", "User-Agent header of HTTP requests"),
    value(Opt::VersionString, None, "version-string", LocalSystem, "STRING", "Version reported in the login"),
    value(Opt::LocalHostname, None, "local-hostname", LocalSystem, "NAME", "Host name reported to the server"),
    flag(Opt::DisableIpv6, None, "disable-ipv6", Tunnel, "No IPv6 inside the tunnel"),
    flag(Opt::NoProxy, None, "no-proxy", Connectivity, "Connect directly"),
    flag(Opt::LibProxy, None, "libproxy", Connectivity, "Ask libproxy for the proxy"),
    flag(Opt::NoHttpKeepalive, None, "no-http-keepalive", ServerBugs, "New connection for every HTTP request"),
    spec(Opt::NoCertCheck, None, "no-cert-check", Argument::None),
    value(Opt::ForceDpd, None, "force-dpd", Tunnel, "SECONDS", "Interval of dead peer detection"),
    value(Opt::ForceTrojan, None, "force-trojan", Trojan, "SECONDS", "Interval of the host scan program"),
    Spec { opt: Opt::TcpKeepalive, short: None, long: "tcp-keepalive", argument: Argument::Optional,
        help: Some(HelpLine { group: Connectivity, placeholder: "SECONDS", text: "TCP keepalive on the connection" }) },
    flag(Opt::NonInter, None, "non-inter", Authentication, "Never ask; fail when input is needed"),
    value(Opt::DtlsLocalPort, None, "dtls-local-port", Connectivity, "PORT", "Local UDP port"),
    value(Opt::TokenMode, None, "token-mode", Authentication, "MODE", "Kind of software token: rsa, totp, hotp, yubioath, oidc"),
    value(Opt::TokenSecret, None, "token-secret", Authentication, "SECRET", "Secret of the software token"),
    value(Opt::Os, None, "os", LocalSystem, "NAME", "System to report: linux, linux-64, win, mac-intel, android, apple-ios"),
    flag(Opt::NoXmlPost, None, "no-xmlpost", ServerBugs, "Log in without XML"),
    flag(Opt::DumpHttpTraffic, None, "dump-http-traffic", Logging, "Show HTTP requests and responses (secrets elided)"),
    flag(Opt::NoSystemTrust, None, "no-system-trust", ServerValidation, "Trust only --cafile"),
    spec(Opt::Protocol, None, "protocol", Argument::Required),
    value(Opt::FormEntry, Some('F'), "form-entry", Authentication, "FORM:OPT=VALUE", "Answer of one form field"),
    spec(Opt::GnutlsDebug, None, "gnutls-debug", Argument::Required),
    spec(Opt::GnutlsPriority, None, "gnutls-priority", Argument::Required),
    value(Opt::Server, None, "server", Connectivity, "SERVER", "The server"),
    value(Opt::McaCertificate, None, "mca-certificate", MultipleCertificates, "CERT", "Second certificate"),
    value(Opt::McaKey, None, "mca-key", MultipleCertificates, "KEY", "Private key of the second certificate"),
    value(Opt::McaKeyPassword, None, "mca-key-password", MultipleCertificates, "PASS", "Passphrase of the second key"),
];

/// The option with this long name, spelled in full.
pub(super) fn by_long(name: &str) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.long == name)
}

/// The option with this letter.
pub(super) fn by_short(letter: char) -> Option<&'static Spec> {
    OPTIONS.iter().find(|spec| spec.short == Some(letter))
}

/// The table in the form that the command line parser wants.
pub(super) fn getopt_table() -> Vec<OptionSpec<Opt>> {
    OPTIONS
        .iter()
        .map(|spec| OptionSpec {
            id: spec.opt,
            short: spec.short,
            long: Some(spec.long),
            argument: spec.argument,
        })
        .collect()
}

/// The long name of an option.
pub(super) fn name(opt: Opt) -> &'static str {
    OPTIONS
        .iter()
        .find(|spec| spec.opt == opt)
        .map_or("", |spec| spec.long)
}
