use std::net::{Ipv4Addr, Ipv6Addr};

use culvert_vocab::{SecretBytes, SecretString};
use culvert_wire::compress::Method;
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;
use data_encoding::HEXUPPER;

use super::platform::Platform;
use super::strap::StrapProof;
use super::tunnel::DtlsMode;
use crate::dtls::{CipherHeader, OfferedCiphers, PSK_NEGOTIATE};
use crate::mtu::RequestedMtu;

/// Everything that goes into a CONNECT request (`specs/cstp-dtls.md` §2.1).
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The server.
    pub server: ServerUrl,
    /// `User-Agent`.
    pub user_agent: String,
    /// Client version in the headers of mobile platforms.
    pub version: String,
    /// Value of the `webvpn` cookie.
    pub cookie: SecretString,
    /// `--local-hostname`.
    pub hostname: String,
    /// Proof of possession, if it can be given on this connection.
    pub strap: Option<StrapProof>,
    /// `--os`.
    pub platform: Platform,
    /// Compression methods for the TLS channel; empty for none.
    pub stream_encodings: Vec<Method>,
    /// From [`crate::mtu::client_request`].
    pub mtu: RequestedMtu,
    /// False for `--disable-ipv6`.
    pub ipv6: bool,
    /// Address of the tunnel before a reconnect.
    pub previous_ipv4: Option<Ipv4Addr>,
    /// Address of the tunnel before a reconnect.
    pub previous_ipv6: Option<Ipv6Addr>,
    /// `None` for `--no-dtls`.
    pub dtls: Option<DtlsRequest>,
}

/// The wish for a UDP channel.
#[derive(Debug, Clone)]
pub struct DtlsRequest {
    /// [`crate::dtls::MASTER_SECRET_LEN`] random octets, never used before: the key of the
    /// resumption modes.
    pub master_secret: SecretBytes,
    /// Ciphers to offer.
    pub ciphers: OfferedCiphers,
    /// Compression methods for the UDP channel; empty for none.
    pub encodings: Vec<Method>,
}

impl DtlsRequest {
    /// True when a server's choice is one that was offered.
    pub fn has_offered(&self, mode: &DtlsMode) -> bool {
        match mode {
            DtlsMode::Psk => [CipherHeader::Dtls, CipherHeader::Dtls12]
                .into_iter()
                .any(|header| self.ciphers.contains(header, PSK_NEGOTIATE)),
            DtlsMode::Resumed(cipher) => self.ciphers.contains(cipher.header, cipher.name),
        }
    }
}

impl ConnectOptions {
    /// The request, headers in openconnect's order.
    pub fn to_request(&self) -> Request {
        let mut request = Request::new("CONNECT", "/CSCOSSLC/tunnel");
        let headers = &mut request.headers;
        headers.push("Host", self.server.host_header());
        headers.push("User-Agent", &self.user_agent);
        headers.push("Cookie", format!("webvpn={}", self.cookie.expose()));
        headers.push("X-CSTP-Version", "1");
        headers.push("X-CSTP-Hostname", &self.hostname);
        headers.push("X-CSTP-Protocol", "Copyright (c) 2004 Cisco Systems, Inc.");
        if let Some(strap) = &self.strap {
            headers.push("X-AnyConnect-STRAP-Verify", &strap.verify);
            headers.push("X-AnyConnect-STRAP-Pubkey", &strap.public_key);
        }
        self.platform.push_headers(headers, &self.version);
        if let Some(list) = encoding_list(&self.stream_encodings) {
            headers.push("X-CSTP-Accept-Encoding", list);
        }
        headers.push("X-CSTP-Base-MTU", self.mtu.base.to_string());
        headers.push("X-CSTP-MTU", self.mtu.mtu.to_string());
        headers.push(
            "X-CSTP-Address-Type",
            if self.ipv6 { "IPv6,IPv4" } else { "IPv4" },
        );
        if let Some(address) = self.previous_ipv4 {
            headers.push("X-CSTP-Address", address.to_string());
        }
        if self.ipv6 {
            headers.push("X-CSTP-Full-IPv6-Capability", "true");
            if let Some(address) = self.previous_ipv6 {
                headers.push("X-CSTP-Address", address.to_string());
            }
        }
        if let Some(dtls) = &self.dtls {
            headers.push(
                "X-DTLS-Master-Secret",
                HEXUPPER.encode(dtls.master_secret.expose()),
            );
            let OfferedCiphers { dtls: first, dtls12 } = &dtls.ciphers;
            for (header, list) in [(CipherHeader::Dtls, first), (CipherHeader::Dtls12, dtls12)] {
                if let Some(list) = list {
                    headers.push(header.name(), list);
                }
            }
            if let Some(list) = encoding_list(&dtls.encodings) {
                headers.push("X-DTLS-Accept-Encoding", list);
            }
        }
        request
    }
}

fn encoding_list(methods: &[Method]) -> Option<String> {
    let names: Vec<_> = methods.iter().map(|method| method.name()).collect();
    (!names.is_empty()).then(|| names.join(","))
}
