use std::fmt;

use culvert_vocab::SecretString;
use culvert_wire::percent;

use crate::Pkcs11Error;

/// Longest URI, in octets.
const URI_MAX: usize = 4096;

/// Which objects are meant, and how to get at them (RFC 7512 §2).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Uri {
    pub(crate) token: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) object: Option<Vec<u8>>,
    pub(crate) id: Option<Vec<u8>>,
    pub(crate) slot_id: Option<u64>,
    pub(crate) module_name: Option<String>,
    pub(crate) module_path: Option<String>,
    pin_value: Option<SecretString>,
    pin_source: Option<String>,
}

impl Uri {
    /// Reads `pkcs11:...`. The type of the object is left out: the use of the URI decides it.
    /// Attributes that are not known do not count.
    ///
    /// # Errors
    /// [`Pkcs11Error::Uri`].
    pub fn parse(text: &str) -> Result<Self, Pkcs11Error> {
        let rest = text
            .strip_prefix("pkcs11:")
            .ok_or(Pkcs11Error::Uri("it does not begin with pkcs11:"))?;
        if rest.len() > URI_MAX {
            return Err(Pkcs11Error::Uri("it is too long"));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut uri = Self::default();
        for attribute in path.split(';').chain(query.split('&')) {
            if !attribute.is_empty() {
                uri.set(attribute)?;
            }
        }
        Ok(uri)
    }

    fn set(&mut self, attribute: &str) -> Result<(), Pkcs11Error> {
        let (name, value) = attribute
            .split_once('=')
            .ok_or(Pkcs11Error::Uri("an attribute has no value"))?;
        let octets = percent::decode(value).ok_or(Pkcs11Error::Uri("bad percent encoding"))?;
        let text = || String::from_utf8(octets.clone()).map_err(|_| Pkcs11Error::Uri("a value is no UTF-8"));
        match name {
            "token" => self.token = Some(text()?),
            "manufacturer" => self.manufacturer = Some(text()?),
            "serial" => self.serial = Some(text()?),
            "model" => self.model = Some(text()?),
            "object" => self.object = Some(octets),
            "id" => self.id = Some(octets),
            "slot-id" => {
                let number = text()?.parse();
                self.slot_id = Some(number.map_err(|_| Pkcs11Error::Uri("slot-id is no number"))?);
            }
            "module-name" => self.module_name = Some(text()?),
            "module-path" => self.module_path = Some(text()?),
            "pin-value" => self.pin_value = Some(text()?.into()),
            "pin-source" => self.pin_source = Some(text()?),
            _ => {}
        }
        Ok(())
    }

    /// The PIN that the URI gives, `pin-value` or the first line of `pin-source`.
    pub(crate) fn pin(&self) -> Option<SecretString> {
        if let Some(pin) = &self.pin_value {
            return Some(pin.clone());
        }
        let source = self.pin_source.as_deref()?;
        let path = source.strip_prefix("file:").unwrap_or(source);
        let path = path.strip_prefix("//").unwrap_or(path);
        let text = std::fs::read_to_string(path).ok()?;
        text.lines().next().map(Into::into)
    }

    /// The URI of the key that belongs to a certificate on a token, when only the certificate's
    /// was given: first on the same token, then by the certificate's id in place of its name.
    pub(crate) fn on_token(&self, token: &[String; 4]) -> Self {
        let [label, manufacturer, model, serial] = token.clone();
        Self {
            token: Some(label),
            manufacturer: Some(manufacturer),
            model: Some(model),
            serial: Some(serial),
            ..self.clone()
        }
    }

    pub(crate) fn with_id(&self, id: &[u8]) -> Self {
        Self {
            object: None,
            id: Some(id.to_vec()),
            ..self.clone()
        }
    }
}

/// Without the PIN, which may be in it.
impl fmt::Debug for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uri")
            .field("token", &self.token)
            .field("object", &self.object)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes() {
        let uri = Uri::parse(
            "pkcs11:token=My%20token;object=key;id=%01%ff;type=cert;x-vendor=1;slot-id=3?pin-value=12%333&module-name=softhsm2",
        )
        .expect("URI");
        assert_eq!(uri.token.as_deref(), Some("My token"));
        assert_eq!(uri.object.as_deref(), Some(&b"key"[..]));
        assert_eq!(uri.id.as_deref(), Some(&[1, 255][..]));
        assert_eq!(uri.slot_id, Some(3));
        assert_eq!(uri.pin(), Some("1233".into()));
        assert_eq!(uri.module_name.as_deref(), Some("softhsm2"));
        assert!(!format!("{uri:?}").contains("1233"));
        assert_eq!(Uri::parse("pkcs11:").expect("everything"), Uri::default());
        for bad in [
            "file:x",
            "pkcs11:token",
            "pkcs11:id=%0",
            "pkcs11:id=%zz",
            "pkcs11:token=%ff",
            "pkcs11:slot-id=x",
        ] {
            assert!(Uri::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pin_from_a_file() {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), "4321\nmore").expect("file");
        for prefix in ["", "file:", "file://"] {
            let text = format!("pkcs11:?pin-source={prefix}{}", file.path().display());
            assert_eq!(Uri::parse(&text).expect("URI").pin(), Some("4321".into()));
        }
        assert_eq!(
            Uri::parse("pkcs11:?pin-source=/nonexistent").expect("URI").pin(),
            None
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in "(pkcs11:|token=|id=|%|;|\\?|&|=|.){0,30}") {
            let _ = Uri::parse(&text);
        }
    }
}
