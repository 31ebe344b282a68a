use culvert_vocab::{SecretBytes, SecretString};
use zeroize::Zeroizing;

/// A passphrase as it was typed, in Unicode. Files were encrypted with its octets in some
/// encoding (`specs/client.md` §8.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passphrase {
    text: Option<SecretString>,
    /// Its octets in the locale's encoding, if that is not UTF-8.
    local: Option<SecretBytes>,
}

impl Passphrase {
    /// A passphrase; the empty one is a passphrase, too.
    pub fn new(text: SecretString) -> Self {
        Self {
            text: Some(text),
            local: None,
        }
    }

    /// No passphrase at all, which PKCS#12 tells from the empty one.
    pub fn absent() -> Self {
        Self::default()
    }

    /// Adds the octets in the locale's encoding, to be tried when the usual ones fail.
    #[must_use]
    pub fn with_local(mut self, octets: SecretBytes) -> Self {
        self.local = Some(octets);
        self
    }

    fn text(&self) -> &str {
        self.text.as_ref().map(SecretString::expose).unwrap_or_default()
    }

    /// The octets for PKCS#5 and encrypted PEM in the order in which they are tried: UTF-8, the
    /// locale's, Latin-1.
    pub(crate) fn octet_forms(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let text = self.text();
        let mut forms = vec![Zeroizing::new(text.as_bytes().to_vec())];
        if text.is_ascii() {
            return forms;
        }
        let local = self.local.as_ref();
        forms.extend(local.map(|octets| Zeroizing::new(octets.expose().to_vec())));
        let latin1: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        forms.extend(latin1.map(Zeroizing::new));
        forms
    }

    /// The octets for the key derivation of PKCS#12 (RFC 7292 §B.1): UTF-16 with its terminator,
    /// nothing for no passphrase; then what programs make of it that take UTF-8 for Latin-1.
    pub(crate) fn pkcs12_forms(&self) -> Vec<Zeroizing<Vec<u8>>> {
        let Some(text) = self.text.as_ref().map(SecretString::expose) else {
            return vec![Zeroizing::new(Vec::new())];
        };
        let mut forms = vec![terminated(text.encode_utf16(), text.len())];
        if !text.is_ascii() {
            forms.push(terminated(text.bytes().map(u16::from), text.len()));
        }
        forms
    }
}

/// Big-endian with a zero at the end. `units_max` is the most that there are, so that nothing is left behind
/// in memory when the octets move.
fn terminated(units: impl Iterator<Item = u16>, units_max: usize) -> Zeroizing<Vec<u8>> {
    let mut octets = Zeroizing::new(Vec::with_capacity(2 * (units_max + 1)));
    octets.extend(units.chain([0]).flat_map(u16::to_be_bytes));
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_a_passphrase() {
        let plain = Passphrase::new("ab".into());
        assert_eq!(plain.octet_forms().len(), 1);
        assert_eq!(*plain.pkcs12_forms()[0], [0, 97, 0, 98, 0, 0]);
        assert_eq!(*Passphrase::absent().pkcs12_forms()[0], []);
        assert_eq!(*Passphrase::new("".into()).pkcs12_forms()[0], [0, 0]);

        let accented = Passphrase::new("é".into()).with_local(vec![0x82].into());
        let forms: Vec<Vec<u8>> = accented.octet_forms().iter().map(|form| form.to_vec()).collect();
        assert_eq!(forms, [vec![0xc3, 0xa9], vec![0x82], vec![0xe9]]);
        assert_eq!(*accented.pkcs12_forms()[1], [0, 0xc3, 0, 0xa9, 0, 0]);
        assert_eq!(
            *Passphrase::new("😀".into()).pkcs12_forms()[0],
            [0xd8, 0x3d, 0xde, 0, 0, 0]
        );
    }
}
