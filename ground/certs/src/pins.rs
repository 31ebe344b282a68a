use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use data_encoding::{BASE64, HEXLOWER};

use crate::{CertError, spki_of};

/// Characters of a pin that must be given, without its type prefix.
const LENGTH_MIN: usize = 4;

/// Fingerprints given with `--servercert` (`specs/client.md` §7.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(Vec<String>);

/// Result of a comparison with [`Pins`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinJudgement {
    /// One of the pins matches.
    pub accepted: bool,
    /// What to tell the user, in order.
    pub messages: Vec<String>,
}

/// How one pin compares.
enum Comparison {
    Match,
    TooShort,
    Mismatch,
    UnknownHash,
}

impl Pins {
    /// Takes the values as the user gave them.
    pub fn new(values: Vec<String>) -> Self {
        Self(values)
    }

    /// True when there are no pins.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares a server's DER certificate with the pins; any match accepts.
    ///
    /// # Errors
    /// The certificate cannot be parsed.
    pub fn judge(&self, leaf: &[u8]) -> Result<PinJudgement, CertError> {
        let values = Fingerprints::of(leaf)?;
        let mut messages = Vec::new();
        for pin in &self.0 {
            match values.compare(pin) {
                Comparison::Match => {
                    return Ok(PinJudgement {
                        accepted: true,
                        messages,
                    });
                }
                Comparison::Mismatch => {}
                Comparison::TooShort => messages.push(format!(
                    "The size of the provided fingerprint is less than the minimum required ({LENGTH_MIN})."
                )),
                Comparison::UnknownHash => {
                    messages.push(format!("Unknown certificate hash: {pin}."));
                    messages.push(format!("Could not check server's certificate against {pin}"));
                }
            }
        }
        messages.push(format!(
            "None of the {} fingerprint(s) specified via --servercert match server's certificate: pin-sha256:{}",
            self.0.len(),
            values.pin_sha256,
        ));
        Ok(PinJudgement {
            accepted: false,
            messages,
        })
    }
}

/// All fingerprints of one certificate.
struct Fingerprints {
    pin_sha256: String,
    sha256: String,
    sha1: String,
    legacy: String,
}

impl Fingerprints {
    fn of(certificate: &[u8]) -> Result<Self, CertError> {
        let spki = spki_of(certificate)?;
        let sha256 = digest(&SHA256, &spki);
        Ok(Self {
            pin_sha256: BASE64.encode(sha256.as_ref()),
            sha256: HEXLOWER.encode(sha256.as_ref()),
            sha1: HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &spki).as_ref()),
            legacy: HEXLOWER.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref()),
        })
    }

    fn compare(&self, pin: &str) -> Comparison {
        let (given, matches) = if let Some(given) = pin.strip_prefix("pin-sha256:") {
            (given, self.pin_sha256.starts_with(given))
        } else if let Some(given) = pin.strip_prefix("sha256:") {
            (given, is_hex_prefix(given, &self.sha256))
        } else if let Some(given) = pin.strip_prefix("sha1:") {
            (given, is_hex_prefix(given, &self.sha1))
        } else if pin.contains(':') {
            return Comparison::UnknownHash;
        } else {
            (pin, is_hex_prefix(pin, &self.legacy))
        };
        match matches {
            false => Comparison::Mismatch,
            true if given.len() < LENGTH_MIN => Comparison::TooShort,
            true => Comparison::Match,
        }
    }
}

fn is_hex_prefix(given: &str, full: &str) -> bool {
    full.starts_with(&given.to_ascii_lowercase())
}
