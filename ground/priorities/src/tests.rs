use super::*;
use proptest::prelude::*;

fn joined<'a>(names: impl Iterator<Item = &'a str>, prefix: &str) -> String {
    let names: Vec<String> = names.map(|name| format!("{prefix}{name}")).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}

/// Our evaluation in the words of `gnutls-cli --list`.
fn describe(text: &str) -> Result<String, String> {
    let p = TlsPriorities::parse(text)?;
    let tls_order = ["TLS1.3", "TLS1.2", "TLS1.1", "TLS1.0", "DTLS1.2", "DTLS1.0"];
    let protocols = tls_order.into_iter().filter(|version| p.allows_protocol(version));
    Ok(format!(
        "Protocols: {}\nCiphers: {}\nMACs: {}\nKey Exchange Algorithms: {}\nGroups: {}\n",
        joined(protocols, "VERS-"),
        joined(p.ciphers(), ""),
        joined(p.macs(), ""),
        joined(p.key_exchanges(), ""),
        joined(p.groups(), "GROUP-"),
    ))
}

/// The vector file holds, per string, what GnuTLS 3.7.9 makes of it.
#[test]
fn evaluates_as_gnutls_does() {
    let vectors = include_str!("../tests/vectors/gnutls-priority-strings.txt");
    // nothing that rustls could offer is left in this one; GnuTLS has AES-CBC
    let only_cbc =
        "NONE:%SERVER_PRECEDENCE:%COMPAT:+VERS-TLS-ALL:+SIGN-ALL:+COMP-ALL:+RSA:+SHA1:+AES-256-CBC";
    let mut checked = 0;
    for section in vectors.split("=== ").skip(1) {
        let (text, body) = section.split_once('\n').expect("title line");
        if text == only_cbc {
            assert!(TlsPriorities::parse(text).is_err());
            continue;
        }
        checked += 1;
        if let Some(error) = body.strip_prefix("Syntax error at: ") {
            let expected = format!("error in TLS priority string: {}", error.trim_end());
            assert_eq!(describe(text), Err(expected), "{text}");
            continue;
        }
        let ours = describe(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        for line in ours.lines() {
            let (category, _) = line.split_once(':').expect("category");
            let theirs = body.lines().find(|line| line.starts_with(category));
            if category == "Key Exchange Algorithms" && text.contains("-VERS-ALL:+VERS-TLS1.3:%") {
                // GnuTLS drops the key exchanges of TLS 1.2 when only TLS 1.3 is left
                assert_eq!(theirs, Some("Key Exchange Algorithms: none"), "{text}");
            } else if category == "Protocols" {
                let sorted = |line: &str| {
                    let mut names: Vec<_> = line[11..].split(", ").map(str::to_owned).collect();
                    names.sort();
                    names
                };
                assert_eq!(theirs.map(sorted), Some(sorted(line)), "{text}");
            } else {
                assert_eq!(theirs, Some(line), "{text}");
            }
        }
    }
    assert_eq!(checked, 32);
}

#[test]
fn case_does_not_matter_and_flags_are_kept() {
    let p = TlsPriorities::parse("normal:%server_precedence:-vers-tls1.3").expect("valid");
    assert!(p.server_precedence() && !p.allows_protocol("TLS1.3") && p.allows_protocol("TLS1.2"));
    assert!(!TlsPriorities::parse("NORMAL").expect("valid").server_precedence());
}

#[test]
fn defaults_are_what_their_texts_say() {
    for cisco in [false, true] {
        let default = TlsPriorities::default_for(cisco);
        assert_eq!(TlsPriorities::parse(default.as_str()), Ok(default));
    }
}

#[test]
fn wrong_strings_name_the_rest_from_the_bad_item() {
    for (text, rest) in [
        ("", ""),
        (":NORMAL", ":NORMAL"),
        ("NORMAL:", ""),
        ("NORMAL:AES-128-GCM", "AES-128-GCM"),
        ("NORMAL:-SECURE256:+AEAD", "-SECURE256:+AEAD"),
        ("NORMAL:%NO_STATUS_REQUEST", "%NO_STATUS_REQUEST"),
        ("NORMAL:%FORCE_SESSION_HASH", "%FORCE_SESSION_HASH"),
        ("+NORMAL", "+NORMAL"),
    ] {
        let expected = format!("error in TLS priority string: {rest}");
        assert_eq!(TlsPriorities::parse(text).err(), Some(expected), "{text}");
    }
    for text in [
        "NONE",
        "NORMAL:-VERS-ALL",
        "NORMAL:-CIPHER-ALL",
        "NORMAL:-MAC-ALL",
        "NORMAL:-VERS-TLS-ALL",
        "NORMAL:-VERS-TLS1.3:-ECDHE-RSA:-ECDHE-ECDSA",
        "NORMAL:-GROUP-ALL:+GROUP-X448",
    ] {
        let error = TlsPriorities::parse(text).expect_err(text);
        assert!(
            error.starts_with(&format!("error in TLS priority string: {text} (it leaves no")),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_honoured_is_named() {
    for (text, named) in [
        ("NORMAL:%SERVER_PRECEDENCE:%COMPAT", ""),
        (
            "PERFORMANCE:%SERVER_PRECEDENCE:-VERS-TLS1.0:-VERS-TLS1.1:-3DES-CBC",
            "",
        ),
        (
            "NONE:+VERS-TLS-ALL:+CIPHER-ALL:+KX-ALL:+MAC-ALL:+SIGN-ALL:+GROUP-ALL:+COMP-ALL",
            "",
        ),
        (
            "NORMAL:+VERS-TLS1.1:+ARCFOUR-128:+RSA",
            "+VERS-TLS1.1 +ARCFOUR-128 +RSA",
        ),
        ("normal:+curve-x448:+group-x25519:-sign-rsa-sha1", "+curve-x448"),
        ("NORMAL:-SIGN-RSA-PSS-RSAE-SHA256", "-SIGN-RSA-PSS-RSAE-SHA256"),
        ("NORMAL:-ECDHE-RSA", "only ECDHE-ECDSA in TLS 1.2"),
        ("NORMAL:-VERS-TLS1.2:-ECDHE-RSA", ""),
    ] {
        let priorities = TlsPriorities::parse(text).expect(text);
        assert_eq!(priorities.not_honoured().join(" "), named, "{text}");
    }
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC{0,60}", items in "([+!%:-](VERS-|TLS1.2|ALL|AEAD|é)){0,5}") {
        let _ = TlsPriorities::parse(&text);
        let _ = TlsPriorities::parse(&format!("NORMAL{items}"));
    }
}
