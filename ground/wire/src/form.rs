//! `application/x-www-form-urlencoded` bodies (`specs/anyconnect.md` §3.3, §5.3).

use crate::percent;

/// Most fields of one form.
const FIELDS_MAX: usize = 256;

/// Why a urlencoded body was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// A `%` without two hex digits, or octets that are no UTF-8.
    #[error("malformed percent-encoding in a form body")]
    Encoding,
    /// More fields than any login form has.
    #[error("more than {FIELDS_MAX} fields in a form body")]
    TooManyFields,
}

/// Encodes `name=value` pairs joined by `&`: unreserved characters stay, everything else becomes
/// `%xx` in lower-case hex, as openconnect does.
pub fn encode<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in fields {
        if !out.is_empty() {
            out.push('&');
        }
        percent::encode(name, &mut out);
        out.push('=');
        percent::encode(value, &mut out);
    }
    out
}

/// Decodes a body into its fields in order; a field without `=` has an empty value.
///
/// # Errors
/// See [`FormError`].
pub fn decode(body: &str) -> Result<Vec<(String, String)>, FormError> {
    let mut fields = Vec::new();
    for field in body.split('&').filter(|field| !field.is_empty()) {
        if fields.len() == FIELDS_MAX {
            return Err(FormError::TooManyFields);
        }
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        fields.push((decode_text(name)?, decode_text(value)?));
    }
    Ok(fields)
}

fn decode_text(text: &str) -> Result<String, FormError> {
    let octets = percent::decode(&text.replace('+', " ")).ok_or(FormError::Encoding)?;
    String::from_utf8(octets).map_err(|_| FormError::Encoding)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_openconnect_writes_it() {
        let body = encode([
            ("username", "joe"),
            ("password", "p&=%"),
            ("tgroup", "T G"),
            ("u", "ü"),
        ]);
        assert_eq!(body, "username=joe&password=p%26%3d%25&tgroup=T%20G&u=%c3%bc");
    }

    #[test]
    fn plus_is_a_blank_and_names_are_decoded() {
        let fields = decode("group%5flist=a+b&&flag").unwrap();
        assert_eq!(
            fields,
            [
                ("group_list".into(), "a b".into()),
                ("flag".into(), String::new())
            ]
        );
    }

    #[test]
    fn malformed_escapes_are_errors() {
        for bad in ["a=%", "a=%1", "a=%zz", "a=%ff", "%=a"] {
            assert_eq!(decode(bad), Err(FormError::Encoding), "{bad}");
        }
        assert_eq!(decode(&"a=b&".repeat(257)), Err(FormError::TooManyFields));
    }

    proptest! {
        #[test]
        fn round_trip(fields in prop::collection::vec((".{1,8}", ".{0,12}"), 0..6)) {
            let body = encode(fields.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            prop_assert_eq!(decode(&body).unwrap(), fields);
        }

        #[test]
        fn never_panics(body in ".{0,200}") {
            let _ = decode(&body);
        }
    }
}
