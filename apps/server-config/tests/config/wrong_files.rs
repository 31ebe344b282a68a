//! What wrong files get: the text, and file and line where one line is to blame.

use std::path::Path;

use crate::common::{BASE, parse, with, without};
use culvert_server_config::{Config, ConfigError};

fn error(result: Result<(Config, Vec<culvert_server_config::Note>), ConfigError>, text: &str) -> ConfigError {
    match result {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

/// Lines added after the seven lines of the base; the first of them is line 8.
#[test]
fn wrong_lines_are_named_with_file_and_number() {
    let long = format!("banner = {}", "x".repeat(2040));
    for (lines, number, message) in [
        ("nonsense", 8, "neither option, section nor comment, or too long"),
        (
            "dpd = 1\n\n# x\n[open",
            11,
            "neither option, section nor comment, or too long",
        ),
        (&long, 8, "neither option, section nor comment, or too long"),
        (
            "[vhost:a]\ntcp-port = 1",
            9,
            "'tcp-port' cannot be set inside a virtual host section",
        ),
        ("[vhost:]", 8, "virtual host name is illegal ''"),
        (
            "listen-clear-file = /x",
            8,
            "the 'listen-clear-file' option was removed in ocserv 1.1.2",
        ),
        ("rekey-method = foo", 8, "unknown rekey method 'foo'"),
        ("syslog-facility = foo", 8, "unknown syslog facility: foo"),
        ("udp-port = 70000", 8, "invalid value of 'udp-port': 70000"),
        (
            "route = 10.0.0.0",
            8,
            "route '10.0.0.0' is missing a /prefix, use address/prefix",
        ),
        (
            "route = default\nroute = 10.0.0.0/99",
            9,
            "route '10.0.0.0/99' has an invalid IPv4 prefix",
        ),
        (
            "no-route = fd00::/200",
            8,
            "route 'fd00::/200' has an invalid IPv6 prefix",
        ),
        ("dns = dns.example", 8, "invalid DNS server address 'dns.example'"),
        ("nbns = x", 8, "invalid NBNS server address 'x'"),
        ("ipv4-network = 10.0.0/8", 8, "invalid IPv4 network '10.0.0/8'"),
        ("ipv6-network = fd00::/5", 8, "invalid IPv6 prefix: 5"),
        (
            "ipv6-network = fd00::/64\nipv6-prefix = 200",
            9,
            "invalid IPv6 prefix: 200",
        ),
        ("select-group = a[", 8, "error parsing a["),
        (
            "ipv6-network = fd00::/64\nipv6-subnet-prefix = 200",
            9,
            "invalid IPv6 subnet prefix: 200",
        ),
        (
            "restrict-user-to-ports = !tcp(1)",
            8,
            "cannot parse restrict-user-to-ports: no bracket following negation",
        ),
        ("kkdcp = a", 8, "Cannot parse kkdcp string: a"),
        (
            "tls-priorities = NORMAL:-FOO:%COMPAT",
            8,
            "error in TLS priority string: -FOO:%COMPAT",
        ),
        ("auth = \"plain[passwd=/x\"", 8, "error parsing [passwd=/x"),
        (
            "auth = pam",
            8,
            "vhost:default: you cannot mix multiple authentication methods of pam type",
        ),
        (
            "auth = \"radius[config=/r]\"",
            8,
            "vhost:default: you cannot mix multiple authentication methods of radius type",
        ),
        (
            "enable-auth = pam",
            8,
            "vhost:default: you cannot mix multiple password authentication methods",
        ),
        (
            "enable-auth = ldap",
            8,
            "vhost:default: unknown or unsupported auth method: ldap",
        ),
        (
            "acct = foo",
            8,
            "vhost:default: unknown or unsupported accounting method: foo",
        ),
        (
            "enable-auth = gssapi\nenable-auth = certificate\nenable-auth = gssapi\nenable-auth = certificate",
            11,
            "vhost:default: you cannot enable more than 4 authentication methods",
        ),
    ] {
        let error = error(with(lines), lines);
        assert_eq!(
            (error.message.as_str(), error.line),
            (message, Some(number)),
            "{lines}"
        );
        assert_eq!(
            error.to_string(),
            format!("error: {message}\nerror: config file error in line {number} (test.conf)")
        );
    }
}

/// The table of `specs/server-auth.md` §1.2.
#[test]
fn every_combination_of_methods() {
    const PASSWORDS: [&str; 3] = ["\"plain[passwd=/x]\"", "pam", "\"radius[config=/x]\""];
    const TOKENS: [&str; 2] = ["gssapi", "\"oidc[config=/x]\""];
    let base = without("auth");
    let read = |lines: &str| parse(&format!("{base}cert-user-oid = 2.5.4.3\nca-cert = /x\n{lines}"));
    let accepted = |lines: &str| {
        let (config, _) = read(lines).unwrap_or_else(|error| panic!("{lines}: {error}"));
        config.hosts().next().map(|host| host.auth.clone()).unwrap()
    };
    let refused = |lines: &str| error(read(lines), lines).message;
    let all = || PASSWORDS.iter().chain(&TOKENS);
    for one in all() {
        assert_eq!(accepted(&format!("auth = {one}")).required.len(), 1);
        for lines in [
            format!("auth = certificate\nauth = {one}"),
            format!("auth = {one}\nauth = certificate"),
        ] {
            assert_eq!(accepted(&lines).required.len(), 2, "{lines}");
        }
        assert_eq!(
            accepted(&format!("auth = {one}\nenable-auth = certificate"))
                .alternatives
                .len(),
            1
        );
        assert_eq!(
            accepted(&format!("auth = certificate\nenable-auth = {one}"))
                .alternatives
                .len(),
            1
        );
        for other in all() {
            let text = refused(&format!("auth = {one}\nauth = {other}"));
            assert!(
                text.starts_with("vhost:default: you cannot mix multiple authentication methods of "),
                "{text}"
            );
        }
    }
    for one in PASSWORDS {
        for token in TOKENS {
            for lines in [
                format!("auth = {one}\nenable-auth = certificate\nenable-auth = {token}"),
                format!("auth = {token}\nenable-auth = {one}\nenable-auth = certificate"),
            ] {
                assert_eq!(accepted(&lines).alternatives.len(), 2, "{lines}");
            }
        }
        for other in PASSWORDS {
            for lines in [
                format!("auth = {one}\nenable-auth = {other}"),
                format!("auth = certificate\nenable-auth = {one}\nenable-auth = {other}"),
            ] {
                assert_eq!(
                    refused(&lines),
                    "vhost:default: you cannot mix multiple password authentication methods",
                    "{lines}"
                );
            }
        }
    }
    for acct in ["pam", "\"radius[config=/x]\""] {
        for one in all() {
            accepted(&format!("auth = {one}\nacct = {acct}"));
        }
    }
}

#[test]
fn the_first_wrong_line_counts() {
    let lines = "route = x\nrekey-method = foo\nsyslog-facility = bar";
    assert_eq!(error(with(lines), lines).line, Some(8));
    let lines = "rekey-method = foo\nroute = x";
    assert_eq!(error(with(lines), lines).message, "unknown rekey method 'foo'");
}

/// Every row of §19, in its order: a file with all faults gets the first row's text, and each file
/// has one fault less.
#[test]
fn checks_of_the_whole_are_made_in_their_order() {
    let long_banner = "x".repeat(257);
    let faults: Vec<(&str, &str, String, &str)> = vec![
        (
            "socket-file",
            "",
            String::new(),
            "the 'socket-file' configuration option must be specified!",
        ),
        ("tcp-port", "", String::new(), "the tcp-port option is mandatory!"),
        (
            "server-key",
            "",
            String::new(),
            "the 'server-cert' and 'server-key' configuration options must be specified!",
        ),
        (
            "",
            "server-cert = /second",
            String::new(),
            "the specified number of keys doesn't match the certificates",
        ),
        (
            "ipv4-network",
            "",
            String::new(),
            "no ipv4-network or ipv6-network options set.",
        ),
        ("", "banner = ", long_banner, "banner size is too long"),
        (
            "",
            "enable-auth = certificate",
            String::new(),
            "a certificate is requested by the option 'cert-user-oid' is not set",
        ),
        (
            "",
            "cisco-svc-client-compat = true\nudp-port = 444",
            String::new(),
            " cisco-svc-client-compat option requires udp-port = 443",
        ),
        (
            "device",
            "",
            String::new(),
            "the 'device' configuration option must be specified!",
        ),
        (
            "",
            "match-tls-dtls-ciphers = true",
            String::new(),
            "'match-tls-dtls-ciphers' cannot be applied when 'dtls-legacy' or 'cisco-client-compat' is on",
        ),
        (
            "",
            "dns = local",
            String::new(),
            "the 'local' DNS keyword is no longer supported.",
        ),
        (
            "",
            "config-per-user = /x\nacct = radius[config=/r,groupconfig=true]",
            String::new(),
            "specified config-per-user or config-per-group but supplemental config is 'radius'",
        ),
    ];
    for first in 0..faults.len() {
        let mut text = String::from(BASE);
        for (removed, added, more, _) in &faults[first..] {
            if !removed.is_empty() {
                text = text
                    .lines()
                    .filter(|line| !line.starts_with(removed))
                    .map(|line| format!("{line}\n"))
                    .collect();
            }
            text.push_str(&format!("{added}{more}\n"));
        }
        let error = error(parse(&text), &text);
        assert_eq!(error.message, faults[first].3, "{text}");
    }
}

#[test]
fn checks_that_exclude_others() {
    for (text, message) in [
        (
            without("auth"),
            "the 'auth' configuration option was not specified!",
        ),
        (
            format!("{}enable-auth = gssapi\n", without("auth")),
            "no authentication method was specified!",
        ),
        (
            format!("{}ipv4-network = 10.0.0.0\n", without("ipv4-network")),
            "no mask found for IPv4 network.",
        ),
        (
            format!("{BASE}ipv6-network = fd00::\n"),
            "no prefix found for IPv6 network.",
        ),
        (
            format!("{BASE}auth = certificate\ncert-user-oid = CN\n"),
            "the option 'cert-user-oid' has a unsupported value",
        ),
        (
            format!("{BASE}ipv6-network = fd00::/64\nipv6-subnet-prefix = 64\n"),
            "the subnet prefix (64) cannot be smaller or equal to network's (64)",
        ),
        (
            without("server-cert"),
            "the 'server-cert' and 'server-key' configuration options must be specified!",
        ),
        (
            format!("{BASE}tcp-port = 0\n"),
            "the tcp-port option is mandatory!",
        ),
    ] {
        assert_eq!(error(parse(&text), &text).message, message);
    }
}

#[test]
fn faults_of_virtual_hosts_carry_their_name() {
    for (lines, message) in [
        (
            "[vhost:a]\nserver-key = /k\nserver-key = /l",
            "vhost:a: the specified number of keys doesn't match the certificates",
        ),
        (
            "[vhost:a]\ndns = local",
            "vhost:a: the 'local' DNS keyword is no longer supported.",
        ),
        (
            "[vhost:a]\nauth = certificate",
            "vhost:a: a certificate is requested by the option 'cert-user-oid' is not set",
        ),
        (
            "[vhost:a]\nauth = foo",
            "vhost:a: unknown or unsupported auth method: foo",
        ),
    ] {
        assert_eq!(error(with(lines), lines).message, message);
    }
}

#[test]
fn the_default_host_is_checked_before_virtual_ones() {
    let lines = "[vhost:a]\nenable-auth = gssapi\n[]\nbanner = ";
    let text = format!("{lines}{}", "x".repeat(257));
    assert_eq!(error(with(&text), &text).message, "banner size is too long");
}

#[test]
fn a_failed_check_still_has_the_notes() {
    let text = without("device");
    let error = error(parse(&text), &text);
    assert_eq!(
        error.to_string(),
        "error: the 'device' configuration option must be specified!"
    );
    assert_eq!(
        error.notes.first().map(ToString::to_string).as_deref(),
        Some("note: vhost:default: setting 'plain' as primary authentication method")
    );
}

#[test]
fn loading_asks_the_machine() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let load = |lines: &str| {
        let file = |name: &str| directory.path().join(name);
        for name in ["cert.pem", "key.pem"] {
            std::fs::write(file(name), "").expect("writable");
        }
        let base = BASE.replace("/etc/ocserv/", &format!("{}/", directory.path().display()));
        std::fs::write(file("ocserv.conf"), format!("{base}{lines}\n")).expect("writable");
        Config::load(&file("ocserv.conf"))
    };
    assert!(load("run-as-user = root\nrun-as-group = root").is_ok());
    assert_eq!(
        error(load("run-as-user = no-such-user"), "").message,
        "unknown user: no-such-user"
    );
    assert_eq!(
        error(load("run-as-group = no-such-group"), "").message,
        "unknown group: no-such-group"
    );
    assert_eq!(
        error(load("user-profile = /no/such"), "").message,
        "cannot open file '/no/such'"
    );
    for name in ["server-key", "pin-file", "srk-pin-file"] {
        let wrong = error(load(&format!("{name} = /no/such")), "");
        assert_eq!(
            (wrong.message.as_str(), wrong.line),
            ("cannot open file '/no/such'", Some(8)),
            "{name}"
        );
    }
    let missing = Path::new("/no/such.conf");
    assert_eq!(
        error(Config::load(missing), "").to_string(),
        "error: cannot access config file: /no/such.conf"
    );
}
