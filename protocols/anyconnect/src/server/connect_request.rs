use culvert_vocab::SessionId;
use culvert_wire::compress::Method;
use culvert_wire::http::{Request, Version};

use super::agent::{ClientClass, ClientInfo};

/// Largest MTU that is believed; above it the header counts as absent.
const MTU_MAX: u16 = 16384;
/// Longest label of a host name.
const LABEL_MAX: usize = 63;
/// The cipher name with which a client offers DTLS with a pre-shared key.
pub(crate) const PSK_NEGOTIATE: &str = "PSK-NEGOTIATE";

/// Header in which a DTLS cipher is offered and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CipherHeader {
    /// `X-DTLS-CipherSuite`.
    Dtls,
    /// `X-DTLS12-CipherSuite`.
    Dtls12,
}

impl CipherHeader {
    /// Header name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dtls => "X-DTLS-CipherSuite",
            Self::Dtls12 => "X-DTLS12-CipherSuite",
        }
    }
}

/// A CONNECT request, every header interpreted (`specs/cstp-dtls.md` §2.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectRequest {
    /// The session cookie: well-formed, not yet verified.
    pub session: SessionId,
    /// Version of the request, used for the response.
    pub version: Version,
    /// Who asks.
    pub client: ClientInfo,
    /// `X-CSTP-Hostname` up to the first dot, if that is a valid label.
    pub hostname: Option<String>,
    /// `X-CSTP-Base-MTU`.
    pub base_mtu: Option<u16>,
    /// `X-CSTP-MTU`.
    pub mtu: Option<u16>,
    /// The client takes an IPv4 address.
    pub ipv4: bool,
    /// The client takes an IPv6 address.
    pub ipv6: bool,
    /// The client understands IPv6 headers, routes and DNS servers.
    pub full_ipv6: bool,
    /// Where the client offers DTLS with a pre-shared key.
    pub psk: Option<CipherHeader>,
    /// Compression methods for the TLS channel, in the client's order.
    pub stream_encodings: Vec<Method>,
    /// Compression methods for the UDP channel, in the client's order.
    pub datagram_encodings: Vec<Method>,
}

impl ConnectRequest {
    /// Interprets the headers of `request`.
    pub(super) fn new(session: SessionId, request: &Request, client: ClientInfo) -> Self {
        let header = |name: &str| request.headers.get(name);
        let offers_psk = |place: CipherHeader| {
            header(place.name()).is_some_and(|list| list.split(':').any(|name| name.trim() == PSK_NEGOTIATE))
        };
        let families = header("X-CSTP-Address-Type");
        let wants = |family: &str| families.is_none_or(|families| families.contains(family));
        let full_ipv6 = header("X-CSTP-Full-IPv6-Capability").is_some_and(|value| value.contains("true"));
        Self {
            session,
            version: request.version,
            hostname: header("X-CSTP-Hostname").and_then(label),
            base_mtu: header("X-CSTP-Base-MTU").and_then(mtu),
            mtu: header("X-CSTP-MTU").and_then(mtu),
            ipv4: wants("IPv4"),
            ipv6: wants("IPv6"),
            full_ipv6: full_ipv6 && client.class != ClientClass::OpenConnectV3,
            psk: [CipherHeader::Dtls, CipherHeader::Dtls12]
                .into_iter()
                .find(|&place| offers_psk(place)),
            stream_encodings: header("X-CSTP-Accept-Encoding")
                .map(encodings)
                .unwrap_or_default(),
            datagram_encodings: header("X-DTLS-Accept-Encoding")
                .map(encodings)
                .unwrap_or_default(),
            client,
        }
    }
}

fn label(hostname: &str) -> Option<String> {
    let label = hostname.split('.').next()?;
    let valid = !label.is_empty()
        && label.len() <= LABEL_MAX
        && label
            .bytes()
            .all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-');
    valid.then(|| label.to_owned())
}

fn mtu(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|mtu| (1..=MTU_MAX).contains(mtu))
}

fn encodings(list: &str) -> Vec<Method> {
    let mut methods = Vec::new();
    for method in list.split(',').filter_map(|name| Method::from_name(name.trim())) {
        if !methods.contains(&method) {
            methods.push(method);
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(headers: &[(&str, &str)]) -> ConnectRequest {
        let mut request = Request::new("CONNECT", "/CSCOSSLC/tunnel");
        request.headers = headers.iter().copied().collect();
        ConnectRequest::new(SessionId::from_bytes([1; 32]), &request, ClientInfo::default())
    }

    #[test]
    fn nothing_said() {
        let request = connect(&[]);
        assert!(request.ipv4 && request.ipv6 && !request.full_ipv6);
        assert_eq!((request.base_mtu, request.mtu, request.psk), (None, None, None));
    }

    #[test]
    fn everything_said() {
        let request = connect(&[
            ("X-CSTP-Hostname", "testhost.example"),
            ("x-cstp-base-mtu", "1500"),
            ("X-CSTP-MTU", "1390"),
            ("X-CSTP-Address-Type", "IPv6"),
            ("X-CSTP-Full-IPv6-Capability", "true"),
            ("X-DTLS12-CipherSuite", "AES128-GCM-SHA256:PSK-NEGOTIATE"),
            ("X-CSTP-Accept-Encoding", "deflate,lzs, oc-lz4,lzs"),
        ]);
        assert_eq!(request.hostname.as_deref(), Some("testhost"));
        assert_eq!((request.base_mtu, request.mtu), (Some(1500), Some(1390)));
        assert!(!request.ipv4 && request.ipv6 && request.full_ipv6);
        assert_eq!(request.psk, Some(CipherHeader::Dtls12));
        assert_eq!(request.stream_encodings, [Method::Lzs, Method::Lz4]);
    }

    #[test]
    fn bad_values_count_as_absent() {
        for name in ["", "-x", "x-", "a b", "ü", "a;rm", &"x".repeat(64)] {
            assert_eq!(connect(&[("X-CSTP-Hostname", name)]).hostname, None, "{name}");
        }
        for mtu in ["0", "-1", "16385", "99999999999", "x"] {
            assert_eq!(connect(&[("X-CSTP-MTU", mtu)]).mtu, None, "{mtu}");
        }
        assert_eq!(
            connect(&[("X-DTLS-CipherSuite", "PSK-NEGOTIATED:xPSK-NEGOTIATE")]).psk,
            None
        );
    }
}
