use culvert_vocab::{SecretBytes, SessionId};
use culvert_wire::compress::Method;
use culvert_wire::http::{Request, Version};
use data_encoding::HEXUPPER_PERMISSIVE;

use super::agent::{ClientClass, ClientInfo};
use crate::dtls::{CipherHeader, MASTER_SECRET_LEN, OfferedCiphers, ResumedCipher, offers_psk};

/// Largest MTU that is believed; above it the header counts as absent.
const MTU_MAX: u16 = 16384;
/// Longest label of a host name.
const LABEL_MAX: usize = 63;

/// What a server allows on UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtlsRules<'a> {
    /// `dtls-psk`: full handshakes with a pre-shared key.
    pub psk: bool,
    /// `dtls-legacy`: handshakes that resume a session with the client's master secret.
    pub legacy: bool,
    /// Cipher and MAC of the TLS channel under GnuTLS's names.
    pub of_tls: (&'a str, &'a str),
}

/// How a DTLS channel begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsMode {
    /// With a pre-shared key; the header to say so in.
    Psk(CipherHeader),
    /// As a resumed session.
    Resumed(&'static ResumedCipher),
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
    /// Ciphers of the DTLS channel, as offered.
    pub ciphers: OfferedCiphers,
    /// `X-DTLS-Master-Secret`, if it holds one: for the resumption modes.
    pub master_secret: Option<SecretBytes>,
    /// Compression methods for the TLS channel, in the client's order.
    pub stream_encodings: Vec<Method>,
    /// Compression methods for the UDP channel, in the client's order.
    pub datagram_encodings: Vec<Method>,
}

impl ConnectRequest {
    /// Interprets the headers of `request`.
    pub(super) fn new(session: SessionId, request: &Request, client: ClientInfo) -> Self {
        let header = |name: &str| request.headers.get(name);
        let ciphers = |place: CipherHeader| header(place.name()).map(str::to_owned);
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
            ciphers: OfferedCiphers {
                dtls: ciphers(CipherHeader::Dtls),
                dtls12: ciphers(CipherHeader::Dtls12),
            },
            master_secret: header("X-DTLS-Master-Secret").and_then(master_secret),
            stream_encodings: header("X-CSTP-Accept-Encoding")
                .map(encodings)
                .unwrap_or_default(),
            datagram_encodings: header("X-DTLS-Accept-Encoding")
                .map(encodings)
                .unwrap_or_default(),
            client,
        }
    }

    /// The UDP channel to open, if there is one that the client offers and `rules` allow.
    pub fn choose_dtls(&self, rules: &DtlsRules<'_>) -> Option<DtlsMode> {
        let OfferedCiphers { dtls, dtls12 } = &self.ciphers;
        let lists = [(CipherHeader::Dtls, dtls), (CipherHeader::Dtls12, dtls12)];
        let lists = || {
            lists
                .into_iter()
                .filter_map(|(place, list)| Some((place, list.as_deref()?)))
        };
        if let Some((place, _)) = lists().find(|(_, list)| rules.psk && offers_psk(list)) {
            return Some(DtlsMode::Psk(place));
        }
        if !rules.legacy || self.master_secret.is_none() {
            return None;
        }
        // The later header counts more.
        let mut latest_first = lists().rev();
        latest_first
            .find_map(|(place, list)| ResumedCipher::choose(place, list, rules.of_tls))
            .map(DtlsMode::Resumed)
    }
}

/// The first 96 hexadecimal digits; what follows does not count.
fn master_secret(text: &str) -> Option<SecretBytes> {
    let digits = text.trim().as_bytes().get(..2 * MASTER_SECRET_LEN)?;
    HEXUPPER_PERMISSIVE.decode(digits).ok().map(SecretBytes::new)
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

    const ALL: DtlsRules<'_> = DtlsRules {
        psk: true,
        legacy: true,
        of_tls: ("AES-256-GCM", "AEAD"),
    };

    #[test]
    fn modes_of_the_datagram_channel() {
        let secret = ("X-DTLS-Master-Secret", "0F".repeat(MASTER_SECRET_LEN));
        let usual = OfferedCiphers::usual(false, false);
        let dtls = ("X-DTLS-CipherSuite", usual.dtls.unwrap_or_default());
        let dtls12 = ("X-DTLS12-CipherSuite", usual.dtls12.unwrap_or_default());
        let choose = |headers: &[&(&str, String)], rules: DtlsRules<'_>| {
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            connect(&headers).choose_dtls(&rules).map(|mode| match mode {
                DtlsMode::Psk(place) => (place, "PSK-NEGOTIATE"),
                DtlsMode::Resumed(cipher) => (cipher.header, cipher.name),
            })
        };
        let legacy = DtlsRules { psk: false, ..ALL };
        let psk = DtlsRules { legacy: false, ..ALL };
        assert_eq!(
            choose(&[&dtls, &dtls12, &secret], ALL),
            Some((CipherHeader::Dtls, "PSK-NEGOTIATE"))
        );
        assert_eq!(
            choose(&[&dtls, &dtls12], ALL),
            Some((CipherHeader::Dtls, "PSK-NEGOTIATE"))
        );
        let found = choose(&[&dtls, &dtls12, &secret], legacy);
        assert_eq!(found, Some((CipherHeader::Dtls12, "ECDHE-RSA-AES256-GCM-SHA384")));
        let found = choose(&[&dtls, &secret], legacy);
        assert_eq!(found, Some((CipherHeader::Dtls, "OC-DTLS1_2-AES256-GCM")));
        assert_eq!(choose(&[&dtls, &dtls12], legacy), None);
        assert_eq!(choose(&[&dtls12, &secret], psk), None);
        let old = ("X-DTLS-CipherSuite", "DES-CBC3-SHA:AES128-SHA".to_owned());
        assert_eq!(
            choose(&[&old, &secret], ALL),
            Some((CipherHeader::Dtls, "AES128-SHA"))
        );
        assert_eq!(choose(&[&old, &secret], psk), None);
    }

    #[test]
    fn nothing_said() {
        let request = connect(&[]);
        assert!(request.ipv4 && request.ipv6 && !request.full_ipv6);
        assert_eq!((request.base_mtu, request.mtu), (None, None));
        assert_eq!(request.choose_dtls(&ALL), None);
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
        assert_eq!(
            request.choose_dtls(&ALL),
            Some(DtlsMode::Psk(CipherHeader::Dtls12))
        );
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
        let almost = connect(&[("X-DTLS-CipherSuite", "PSK-NEGOTIATED:xPSK-NEGOTIATE")]);
        assert_eq!(almost.choose_dtls(&ALL), None);
        let good = "a5".repeat(MASTER_SECRET_LEN);
        for secret in ["", "00", &good[1..], &good.replacen('a', "x", 1), &"ä".repeat(48)] {
            assert_eq!(
                connect(&[("X-DTLS-Master-Secret", secret)]).master_secret,
                None,
                "{secret}"
            );
        }
        let longer = connect(&[("X-DTLS-Master-Secret", &format!("{good}zz"))]);
        let secret = longer.master_secret.expect("96 digits");
        assert_eq!(secret.expose(), [0xa5; MASTER_SECRET_LEN]);
    }
}
