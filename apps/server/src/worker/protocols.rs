//! The protocols that clients may speak. What each of them is lies in its own room behind the
//! traits of [`culvert_login::server`]; here they are only named.

use std::sync::Arc;

use culvert_esp::{Encryption, Integrity};
use culvert_globalprotect::server as globalprotect;
use culvert_login::server::{self, AuthAnswer, ClientDescription};
use culvert_server_config::{Compression, TlsPriorities};
use culvert_wire::http::Request;
use serde::{Deserialize, Serialize};

use super::anyconnect;
use super::front_end::Action;
use crate::ipc::snapshot::{HostSnapshot, Snapshot};

/// The front-ends of one connection. A request is for the first that serves its URL; AnyConnect's
/// serves all.
pub(super) fn front_ends<'s>(
    snapshot: &'s Snapshot,
    host: &'s HostSnapshot,
    certificate: bool,
) -> Vec<Box<dyn FrontEnd<'s> + 's>> {
    let mut front_ends: Vec<Box<dyn FrontEnd<'s> + 's>> = Vec::new();
    if snapshot.globalprotect {
        let config = globalprotect::FrontEndConfig {
            portal: portal_name(host),
            message: host.pre_login_banner.clone(),
            host_reports: host.host_reports,
            algorithms: esp_algorithms(&host.tls_priorities),
        };
        front_ends.push(Box::new(globalprotect::FrontEnd::new(Arc::new(config))));
    }
    front_ends.push(Box::new(anyconnect::FrontEnd::new(snapshot, host, certificate)));
    front_ends
}

/// A client's wish for its tunnel.
pub(super) enum Wish<'s> {
    AnyConnect(anyconnect::Opening<'s>),
    GlobalProtect(globalprotect::Opening),
}

impl<'s> From<anyconnect::Opening<'s>> for Wish<'s> {
    fn from(opening: anyconnect::Opening<'s>) -> Self {
        Self::AnyConnect(opening)
    }
}

impl From<globalprotect::Opening> for Wish<'_> {
    fn from(opening: globalprotect::Opening) -> Self {
        Self::GlobalProtect(opening)
    }
}

/// The channels of a tunnel.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Channels {
    AnyConnect(anyconnect::Channels),
    GlobalProtect(globalprotect::Channels),
}

impl Channels {
    /// Agreed compression of the TLS channel and of the UDP channel.
    pub(super) fn compression(&self) -> (Option<Compression>, Option<Compression>) {
        match self {
            Self::AnyConnect(channels) => channels.compression(),
            Self::GlobalProtect(_) => (None, None),
        }
    }

    /// Forgets whose they are.
    pub(super) fn erase(self) -> Box<dyn server::Channels> {
        match self {
            Self::AnyConnect(channels) => Box::new(channels),
            Self::GlobalProtect(channels) => Box::new(channels),
        }
    }
}

impl From<anyconnect::Channels> for Channels {
    fn from(channels: anyconnect::Channels) -> Self {
        Self::AnyConnect(channels)
    }
}

impl From<globalprotect::Channels> for Channels {
    fn from(channels: globalprotect::Channels) -> Self {
        Self::GlobalProtect(channels)
    }
}

/// [`server::FrontEnd`] with the actions of all protocols.
pub(super) trait FrontEnd<'s> {
    fn serves(&self, target: &str) -> bool;
    fn handle_request(&mut self, request: Request) -> Action<'s>;
    fn handle_answer(&mut self, answer: AuthAnswer) -> Action<'s>;
    fn client(&self) -> ClientDescription;
    fn target_max(&self) -> usize;
    fn has_secret_queries(&self) -> bool;
    fn repeats_steps(&self) -> bool;
    fn poll_note(&mut self) -> Option<String>;
}

impl<'s, F: server::FrontEnd> FrontEnd<'s> for F
where
    Wish<'s>: From<F::Opening>,
{
    fn serves(&self, target: &str) -> bool {
        server::FrontEnd::serves(self, target)
    }

    fn handle_request(&mut self, request: Request) -> Action<'s> {
        server::FrontEnd::handle_request(self, request).into()
    }

    fn handle_answer(&mut self, answer: AuthAnswer) -> Action<'s> {
        server::FrontEnd::handle_answer(self, answer).into()
    }

    fn client(&self) -> ClientDescription {
        server::FrontEnd::client(self)
    }

    fn target_max(&self) -> usize {
        server::FrontEnd::target_max(self)
    }

    fn has_secret_queries(&self) -> bool {
        server::FrontEnd::has_secret_queries(self)
    }

    fn repeats_steps(&self) -> bool {
        server::FrontEnd::repeats_steps(self)
    }

    fn poll_note(&mut self) -> Option<String> {
        server::FrontEnd::poll_note(self)
    }
}

/// The pairs for ESP that the priorities allow. AES-128 comes before AES-256, which is a third slower;
/// SHA-1, which is fast and as an HMAC unbroken, before SHA-256. SHA-256 need not be named: no set of
/// GnuTLS has it.
fn esp_algorithms(priorities: &TlsPriorities) -> Vec<(Encryption, Integrity)> {
    let named = |mac: &str| priorities.macs().any(|name| name == mac);
    let allowed = |cipher: &str| priorities.ciphers().any(|name| name == cipher);
    let mut macs = Vec::new();
    for (integrity, name) in [
        (Integrity::HmacSha1, "SHA1"),
        (Integrity::HmacSha256, "SHA256"),
        (Integrity::HmacMd5, "MD5"),
    ] {
        if named(name) {
            macs.push(integrity);
        }
    }
    if !named("SHA256") {
        macs.push(Integrity::HmacSha256);
    }
    let ciphers = [
        (Encryption::Aes128Cbc, "AES-128-CBC"),
        (Encryption::Aes256Cbc, "AES-256-CBC"),
    ];
    let ciphers = ciphers.into_iter().filter(|(_, name)| allowed(name));
    ciphers
        .flat_map(|(encryption, _)| macs.iter().map(move |integrity| (encryption, *integrity)))
        .collect()
}

/// Name of portal and gateway.
fn portal_name(host: &HostSnapshot) -> String {
    match host.name.as_str() {
        "default" => "VPN".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn algorithms_of_esp_follow_the_priorities() {
        use Encryption::{Aes128Cbc, Aes256Cbc};
        use Integrity::{HmacMd5, HmacSha1, HmacSha256};
        let allowed = |text: &str| esp_algorithms(&TlsPriorities::parse(text).unwrap());
        let usual = [
            (Aes128Cbc, HmacSha1),
            (Aes128Cbc, HmacSha256),
            (Aes256Cbc, HmacSha1),
            (Aes256Cbc, HmacSha256),
        ];
        assert_eq!(esp_algorithms(&TlsPriorities::default_for(false)), usual);
        assert_eq!(allowed("NORMAL"), usual);
        assert_eq!(allowed("NORMAL:-SHA1:-AES-128-CBC"), [(Aes256Cbc, HmacSha256)]);
        let old = allowed("NORMAL:-SHA1:+MD5:-AES-256-CBC");
        assert_eq!(old, [(Aes128Cbc, HmacMd5), (Aes128Cbc, HmacSha256)]);
        assert_eq!(allowed("NORMAL:-AES-128-CBC:-AES-256-CBC"), []);
    }
}
