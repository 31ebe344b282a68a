//! The character set of the locale (`specs/client.md` §1): arguments and answers of the user come
//! in it, everything inside is UTF-8.

use encoding_rs::{Encoding, UTF_8};

/// Variables that name the locale, the first one that is set counts (setlocale(3)).
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_CTYPE", "LANG"];

/// The locale's character set; `None` for UTF-8, and where the locale's name says nothing.
fn local() -> Option<&'static Encoding> {
    let mut values = VARIABLES.iter().filter_map(std::env::var_os);
    let locale = values.find(|value| !value.is_empty())?;
    named(locale.to_str()?)
}

/// The character set in the name of a locale: `hu_HU.ISO8859-2@euro`.
fn named(locale: &str) -> Option<&'static Encoding> {
    let (_, name) = locale.split_once('.')?;
    let name = name.split('@').next().unwrap_or_default();
    // What the WHATWG calls by the name of Latin-1 is a superset of it.
    Encoding::for_label(name.as_bytes())
        .or_else(|| Encoding::for_label(name.replacen("ISO", "ISO-", 1).as_bytes()))
        .filter(|encoding| *encoding != UTF_8)
}

/// Text from the user; `None` if it is none in the locale's character set.
pub(crate) fn decode(octets: &[u8]) -> Option<String> {
    match local() {
        None => std::str::from_utf8(octets).ok().map(str::to_owned),
        Some(encoding) => encoding
            .decode_without_bom_handling_and_without_replacement(octets)
            .map(|text| text.into_owned()),
    }
}

/// The octets of `text` in the locale's character set, unless that is UTF-8 or lacks a character.
pub(crate) fn encode(text: &str) -> Option<Vec<u8>> {
    let (octets, _, unmappable) = local()?.encode(text);
    (!unmappable).then(|| octets.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_locales() {
        let name = |locale| named(locale).map(Encoding::name);
        assert_eq!(name("hu_HU.ISO8859-2"), Some("ISO-8859-2"));
        assert_eq!(name("hu_HU.ISO-8859-2@euro"), Some("ISO-8859-2"));
        assert_eq!(name("ru_RU.KOI8-R"), Some("KOI8-R"));
        assert_eq!(name("ja_JP.eucJP"), None);
        assert_eq!(name("ja_JP.EUC-JP"), Some("EUC-JP"));
        for utf8 in ["C", "C.UTF-8", "en_US.utf8", "POSIX", "de_DE"] {
            assert_eq!(name(utf8), None, "{utf8}");
        }
    }
}
