//! The ciphers of the DTLS channel as CONNECT names them (`specs/cstp-dtls.md` §7.2).

use culvert_dtls::{CipherSuite, Version};

/// The name that stands for a full handshake with a pre-shared key.
pub const PSK_NEGOTIATE: &str = "PSK-NEGOTIATE";
/// Length of the master secret of the resumption modes, in octets.
pub const MASTER_SECRET_LEN: usize = 48;

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

/// A cipher of the resumption modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumedCipher {
    /// Header that names it.
    pub header: CipherHeader,
    /// Its name there.
    pub name: &'static str,
    /// Version of the handshake.
    pub version: Version,
    /// Suite of the handshake.
    pub suite: CipherSuite,
    /// How much servers want it; 0 for not at all.
    priority: u8,
}

/// All of them, each header's in the order of openconnect's offer.
static CIPHERS: [ResumedCipher; 16] = {
    use CipherHeader::{Dtls, Dtls12};
    use CipherSuite as Suite;
    use Version::{Dtls09 as V09, Dtls12 as V12};
    [
        cipher(Dtls, "OC-DTLS1_2-AES256-GCM", V12, Suite::RsaAes256GcmSha384, 90),
        cipher(
            Dtls,
            "OC2-DTLS1_2-CHACHA20-POLY1305",
            V12,
            Suite::PskChacha20Poly1305Sha256,
            0,
        ),
        cipher(Dtls, "OC-DTLS1_2-AES128-GCM", V12, Suite::RsaAes128GcmSha256, 80),
        cipher(Dtls, "DHE-RSA-AES256-SHA", V09, Suite::DheRsaAes256CbcSha, 0),
        cipher(Dtls, "DHE-RSA-AES128-SHA", V09, Suite::DheRsaAes128CbcSha, 0),
        cipher(Dtls, "DES-CBC3-SHA", V09, Suite::RsaTripleDesCbcSha, 1),
        cipher(Dtls, "AES256-SHA", V09, Suite::RsaAes256CbcSha, 60),
        cipher(Dtls, "AES128-SHA", V09, Suite::RsaAes128CbcSha, 50),
        cipher(
            Dtls12,
            "ECDHE-RSA-AES256-GCM-SHA384",
            V12,
            Suite::EcdheRsaAes256GcmSha384,
            80,
        ),
        cipher(
            Dtls12,
            "ECDHE-RSA-AES128-GCM-SHA256",
            V12,
            Suite::EcdheRsaAes128GcmSha256,
            70,
        ),
        cipher(Dtls12, "AES256-GCM-SHA384", V12, Suite::RsaAes256GcmSha384, 90),
        cipher(Dtls12, "AES128-GCM-SHA256", V12, Suite::RsaAes128GcmSha256, 50),
        cipher(Dtls12, "DHE-RSA-AES256-SHA", V12, Suite::DheRsaAes256CbcSha, 0),
        cipher(Dtls12, "DHE-RSA-AES128-SHA", V12, Suite::DheRsaAes128CbcSha, 0),
        cipher(Dtls12, "AES256-SHA", V12, Suite::RsaAes256CbcSha, 0),
        cipher(Dtls12, "AES128-SHA", V12, Suite::RsaAes128CbcSha, 0),
    ]
};

const fn cipher(
    header: CipherHeader,
    name: &'static str,
    version: Version,
    suite: CipherSuite,
    priority: u8,
) -> ResumedCipher {
    ResumedCipher {
        header,
        name,
        version,
        suite,
        priority,
    }
}

impl ResumedCipher {
    /// The cipher that `header` calls `name`.
    pub fn find(header: CipherHeader, name: &str) -> Option<&'static Self> {
        CIPHERS
            .iter()
            .find(|cipher| cipher.header == header && cipher.name == name)
    }

    /// What a server takes of a client's list: what it wants most, but at once what has cipher and
    /// MAC of the TLS channel, under GnuTLS's names (`specs/cstp-dtls.md` §2.2).
    pub(crate) fn choose(header: CipherHeader, list: &str, of_tls: (&str, &str)) -> Option<&'static Self> {
        let offered = list
            .split(':')
            .filter_map(|name| Self::find(header, name.trim()))
            .filter(|cipher| cipher.priority > 0);
        let mut best: Option<&Self> = None;
        for cipher in offered {
            if cipher.suite.cipher_and_mac() == of_tls {
                return Some(cipher);
            }
            if best.is_none_or(|best| best.priority < cipher.priority) {
                best = Some(cipher);
            }
        }
        best
    }
}

/// True when a list of ciphers holds the pre-shared key.
pub(crate) fn offers_psk(list: &str) -> bool {
    list.split(':').any(|name| name.trim() == PSK_NEGOTIATE)
}

/// What a client offers, as values of the two headers; a header without value is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedCiphers {
    /// `X-DTLS-CipherSuite`.
    pub dtls: Option<String>,
    /// `X-DTLS12-CipherSuite`.
    pub dtls12: Option<String>,
}

impl OfferedCiphers {
    /// openconnect's own offer. `forward_secrecy` is `--pfs`, `insecure` is
    /// `--allow-insecure-crypto`.
    pub fn usual(forward_secrecy: bool, insecure: bool) -> Self {
        let offered = |cipher: &&ResumedCipher| match (cipher.suite, cipher.header) {
            (CipherSuite::RsaTripleDesCbcSha, _) => insecure,
            // Nothing of the kind takes place, but so goes openconnect's list.
            (CipherSuite::RsaAes128CbcSha | CipherSuite::RsaAes256CbcSha, CipherHeader::Dtls12) => {
                !forward_secrecy
            }
            _ => true,
        };
        let names = |header: CipherHeader| {
            let ciphers = CIPHERS.iter().filter(offered);
            let ciphers = ciphers.filter(move |cipher| cipher.header == header);
            ciphers.map(|cipher| cipher.name)
        };
        let dtls: Vec<_> = std::iter::once(PSK_NEGOTIATE)
            .chain(names(CipherHeader::Dtls))
            .collect();
        let dtls12: Vec<_> = names(CipherHeader::Dtls12).collect();
        Self {
            dtls: Some(dtls.join(":")),
            dtls12: Some(dtls12.join(":")),
        }
    }

    /// True when `name` in `header` is an answer to this offer.
    pub fn contains(&self, header: CipherHeader, name: &str) -> bool {
        let list = match header {
            CipherHeader::Dtls => &self.dtls,
            CipherHeader::Dtls12 => &self.dtls12,
        };
        list.iter()
            .flat_map(|list| list.split(':'))
            .any(|own| own == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As openconnect 9.01 sends them.
    #[test]
    fn lists_of_openconnect() {
        const DTLS: &str = "PSK-NEGOTIATE:OC-DTLS1_2-AES256-GCM:OC2-DTLS1_2-CHACHA20-POLY1305:OC-DTLS1_2-AES128-GCM:\
                            DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA:AES256-SHA:AES128-SHA";
        const DTLS12: &str = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256:AES256-GCM-SHA384:\
                              AES128-GCM-SHA256:DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA";
        let usual = OfferedCiphers::usual(false, false);
        assert_eq!(usual.dtls.as_deref(), Some(DTLS));
        let all12 = format!("{DTLS12}:AES256-SHA:AES128-SHA");
        assert_eq!(usual.dtls12.as_deref(), Some(all12.as_str()));
        let secret = OfferedCiphers::usual(true, false);
        assert_eq!(
            (secret.dtls, secret.dtls12.as_deref()),
            (usual.dtls.clone(), Some(DTLS12))
        );
        let insecure = OfferedCiphers::usual(false, true);
        let with_3des = DTLS.replace(":AES256-SHA", ":DES-CBC3-SHA:AES256-SHA");
        assert_eq!(insecure.dtls, Some(with_3des));
        assert_eq!(insecure.dtls12, usual.dtls12);
    }

    #[test]
    fn servers_choose_by_priority_or_by_the_tls_channel() {
        let usual = OfferedCiphers::usual(false, true);
        let (dtls, dtls12) = (usual.dtls.unwrap_or_default(), usual.dtls12.unwrap_or_default());
        let choose = |header, list: &str, of_tls| {
            ResumedCipher::choose(header, list, of_tls).map(|cipher| cipher.name)
        };
        let aes256 = ("AES-256-GCM", "AEAD");
        let chacha = ("CHACHA20-POLY1305", "AEAD");
        assert_eq!(
            choose(CipherHeader::Dtls12, &dtls12, aes256),
            Some("ECDHE-RSA-AES256-GCM-SHA384")
        );
        assert_eq!(
            choose(CipherHeader::Dtls12, &dtls12, chacha),
            Some("AES256-GCM-SHA384")
        );
        assert_eq!(
            choose(CipherHeader::Dtls, &dtls, chacha),
            Some("OC-DTLS1_2-AES256-GCM")
        );
        let one = |name| choose(CipherHeader::Dtls, name, aes256);
        assert_eq!(one("DES-CBC3-SHA:AES128-SHA"), Some("AES128-SHA"));
        assert_eq!(one("DES-CBC3-SHA"), Some("DES-CBC3-SHA"));
        assert_eq!(one("DHE-RSA-AES256-SHA:AES256-GCM-SHA384:junk::"), None);
    }
}
