//! A gateway's answer to a login: positional arguments (`specs/globalprotect.md` §5.5).

use culvert_wire::percent;
use culvert_wire::xml::Element;

use super::cookie::Cookie;
use crate::wire::{CLIENT_VERSION, Parameters};

const AUTHCOOKIE: usize = 1;
const PORTAL: usize = 3;
const USER: usize = 4;
const AUTHENTICATION_SOURCE: usize = 5;
const DOMAIN: usize = 7;
const CONNECTION_TYPE: usize = 12;
const PASSWORD_EXPIRATION: usize = 13;
const VERSION: usize = 14;
const PREFERRED_IP: usize = 15;
const PREFERRED_IPV6: usize = 18;
/// Arguments after this one are unknown.
const LAST_KNOWN: usize = 20;

/// What a login answer gives.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) cookie: Cookie,
    /// Worth a line in the log.
    pub(super) notes: Vec<String>,
}

/// Reads `<jnlp>`; `computer` is the host name that was sent.
pub(super) fn parse(jnlp: &Element, computer: &str) -> Result<Accepted, String> {
    if let Some(status) = jnlp.attribute("status").filter(|status| *status != "success") {
        return Err(format!("the gateway answers with status {status}"));
    }
    let arguments = Arguments::of(jnlp).ok_or("the gateway's answer has no arguments")?;
    let problems = arguments.problems();
    if !problems.is_empty() {
        return Err(format!(
            "the gateway's answer cannot be used: {}",
            problems.join(", ")
        ));
    }
    Ok(Accepted {
        cookie: arguments.cookie(computer),
        notes: arguments.notes(),
    })
}

/// What the positions of a login answer hold; `None` where nothing is said.
struct Arguments(Vec<Option<String>>);

impl Arguments {
    fn of(jnlp: &Element) -> Option<Self> {
        let list = jnlp.child("application-desc")?.elements();
        let arguments = list.filter(|element| element.name == "argument");
        Some(Self(arguments.map(|element| present(&element.text())).collect()))
    }

    fn get(&self, at: usize) -> Option<&str> {
        self.0.get(at).and_then(Option::as_deref)
    }

    /// What makes the answer useless.
    fn problems(&self) -> Vec<String> {
        let needed = [("authcookie", AUTHCOOKIE), ("user", USER)];
        let missing = needed.into_iter().filter(|(_, at)| self.get(*at).is_none());
        let fixed = [
            (CONNECTION_TYPE, "connection-type", "tunnel"),
            (VERSION, "clientVer", CLIENT_VERSION),
        ];
        let other = fixed
            .into_iter()
            .filter(|(at, _, wanted)| self.get(*at) != Some(*wanted));
        missing
            .map(|(name, _)| format!("no {name}"))
            .chain(other.map(|(at, name, wanted)| {
                let found = self.get(at).unwrap_or("nothing");
                format!("{name} is {found} instead of {wanted}")
            }))
            .collect()
    }

    fn cookie(&self, computer: &str) -> Cookie {
        let fields = [
            ("authcookie", AUTHCOOKIE),
            ("portal", PORTAL),
            ("user", USER),
            ("domain", DOMAIN),
            ("preferred-ip", PREFERRED_IP),
            ("preferred-ipv6", PREFERRED_IPV6),
        ];
        let fields = fields.into_iter().fold(Parameters::new(), |cookie, (name, at)| {
            cookie.with_some(name, self.get(at))
        });
        Cookie::new(fields.with("computer", computer))
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (name, at) in [
            ("authentication-source", AUTHENTICATION_SOURCE),
            ("password-expiration-days", PASSWORD_EXPIRATION),
        ] {
            notes.extend(
                self.get(at)
                    .map(|value| format!("GlobalProtect login returned {name}={value}")),
            );
        }
        for (name, at) in [("portal", PORTAL), ("domain", DOMAIN)] {
            if self.get(at).is_none() {
                notes.push(format!("GlobalProtect login returned no {name}"));
            }
        }
        let unexpected = self.0.iter().skip(LAST_KNOWN + 1).flatten().count();
        if unexpected > 0 {
            notes.push(format!(
                "GlobalProtect login returned {unexpected} unexpected values"
            ));
        }
        notes
    }
}

/// The value of an argument, decoded; some texts stand for nothing.
fn present(text: &str) -> Option<String> {
    match text.trim() {
        "" | "(null)" | "-1" => None,
        value => Some(decode(value)),
    }
}

/// `%xx` and `+`; what is no encoding stays as it is.
fn decode(text: &str) -> String {
    let octets = percent::decode_leniently(&text.replace('+', " "));
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use culvert_wire::xml;
    use proptest::prelude::*;

    use super::*;

    fn answer(arguments: &[&str]) -> Result<Accepted, String> {
        let arguments: String = arguments
            .iter()
            .map(|text| format!("<argument>{text}</argument>"))
            .collect();
        let text = format!("<jnlp><application-desc>{arguments}</application-desc></jnlp>");
        parse(&xml::parse(text.as_bytes()).unwrap(), "vm")
    }

    #[test]
    fn vectors() {
        let text = include_str!("../../tests/vectors/login-args.txt");
        let mut seen = 0;
        let mut arguments: Vec<&str> = Vec::new();
        for line in text.lines() {
            if let Some(list) = line
                .strip_prefix("args = ")
                .filter(|list| list.contains("(null)"))
            {
                arguments = list.split(',').map(|text| text.trim_matches('∅')).collect();
            }
            if let Some(cookie) = line.strip_prefix("cookie = ") {
                seen += 1;
                let accepted = answer(&arguments).unwrap();
                assert_eq!(accepted.cookie.to_secret().expose(), cookie);
            }
        }
        assert_eq!(seen, 2);
        assert!(
            answer(&arguments[..13]).is_err_and(|error| error.contains("clientVer is nothing")),
            "the first 13 only"
        );
        arguments.resize(21, "");
        arguments.push("zzz");
        let noted = answer(&arguments).unwrap().notes;
        assert!(
            noted.iter().any(|note| note.contains("1 unexpected")),
            "{noted:?}"
        );
        (arguments[12], arguments[14]) = ("xx", "4200");
        let error = answer(&arguments).map(|_| ()).unwrap_err();
        assert!(error.contains("xx") && error.contains("4200"), "{error}");
    }

    #[test]
    fn decoding_is_tolerant() {
        assert_eq!(decode("%28a%29+b%zz%4"), "(a) b%zz%4");
    }

    proptest! {
        #[test]
        fn never_panics(arguments in prop::collection::vec("[ -~]{0,8}", 0..25)) {
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let _ = answer(&arguments);
        }
    }
}
