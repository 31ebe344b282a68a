//! A minimal configuration and ways to change it.

use std::path::Path;

use culvert_server_config::{Config, ConfigError, Note};

/// Everything that is mandatory, in seven lines.
pub(crate) const BASE: &str = "\
auth = \"plain[passwd=/etc/ocserv/ocpasswd]\"
tcp-port = 443
socket-file = /run/ocserv-socket
device = vpns
ipv4-network = 10.99.1.0/24
server-cert = /etc/ocserv/cert.pem
server-key = /etc/ocserv/key.pem
";

pub(crate) fn parse(text: &str) -> Result<(Config, Vec<Note>), ConfigError> {
    Config::parse(text.as_bytes(), Path::new("test.conf"))
}

/// The base with more lines after it.
pub(crate) fn with(more: &str) -> Result<(Config, Vec<Note>), ConfigError> {
    parse(&format!("{BASE}{more}\n"))
}

/// The base without the line of `option`.
pub(crate) fn without(option: &str) -> String {
    BASE.lines()
        .filter(|line| !line.starts_with(option))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The configuration that `more` lines give, when they have to be right.
pub(crate) fn config(more: &str) -> Config {
    with(more).unwrap_or_else(|error| panic!("{more}: {error}")).0
}

pub(crate) fn texts(notes: &[Note]) -> Vec<String> {
    notes.iter().map(ToString::to_string).collect()
}
