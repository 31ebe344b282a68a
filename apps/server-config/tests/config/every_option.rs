//! Every option of the table: documented in the sample file, read, and kept.

use culvert_server_config::table::{self, Meaning, Scope};

use crate::common::{BASE, parse, texts, with};

const SAMPLE: &str = include_str!("../../../../docs/sample.ocserv.conf");

/// The sample with all its options active.
fn everything() -> String {
    let activated = SAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => option,
        _ => line,
    });
    activated
        .filter(|line| !line.starts_with("user-only:"))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_table_has_the_options_of_ocserv_a_spelling_and_ours() {
    let ours = [
        "worker-processes",
        "protocols",
        "host-reports",
        "cert-rebind",
        "username-case",
    ];
    assert_eq!(
        table::OPTIONS.len(),
        135 + 1 + ours.len(),
        "all names that ocserv 1.5 knows, append-global-routes and {ours:?}"
    );
    for (index, option) in table::OPTIONS.iter().enumerate() {
        assert!(
            !table::OPTIONS[..index]
                .iter()
                .any(|other| other.name == option.name),
            "{} twice",
            option.name
        );
        let present = match option.meaning {
            Meaning::AliasOf(name) | Meaning::ReplacedBy { option: name, .. } => name,
            _ => continue,
        };
        assert_eq!(
            table::find(present).map(|present| present.meaning),
            Some(Meaning::Own)
        );
    }
}

#[test]
fn the_sample_names_every_option() {
    for option in table::OPTIONS {
        let line = match (option.scope, option.meaning) {
            (_, Meaning::Removed(_)) => format!("# No longer possible: {}", option.name),
            (Scope::UserOnly, _) => format!("#user-only: {} = ", option.name),
            _ => format!("{} = ", option.name),
        };
        let named = SAMPLE
            .lines()
            .any(|text| text.starts_with(&line) || text.starts_with(&format!("#{line}")));
        assert!(named, "{} is not in the sample", option.name);
    }
}

#[test]
fn the_sample_is_right_as_it_stands_and_with_everything_switched_on() {
    let (config, notes) = parse(SAMPLE).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        texts(&notes)
            .iter()
            .all(|note| !note.contains("unknown") && !note.contains("is taken as"))
    );
    assert_eq!(config.vhosts.len(), 0);

    let (config, notes) = parse(&everything()).unwrap_or_else(|error| panic!("{error}"));
    let doubts: Vec<_> = texts(&notes)
        .into_iter()
        .filter(|note| note.starts_with("warning:"))
        .collect();
    assert_eq!(doubts, ["warning: the option 'session-control' is deprecated"]);
    assert_eq!(config.vhosts.len(), 1);
}

/// Values one of which changes each option from its default.
const VALUES: &[&str] = &[
    "true",
    "false",
    "7",
    "/some/path",
    "10.9.0.0/16",
    "fd00::/48",
    "192.0.2.1",
    "ssl",
    "local0",
    "name",
    "lower",
    "lzs:lz4",
    "0x10",
    "tcp(1)",
    "SECURE128",
    "pam",
    "certificate",
    "anyconnect globalprotect",
    "anyconnect, globalprotect",
    "/KdcProxy R tcp@h:1",
];

/// Lines without which an option has no say.
fn context(option: &str) -> &'static str {
    match option {
        "server-cert" => "server-key = /second\n",
        "server-key" => "server-cert = /second\n",
        "auth" | "enable-auth" => "cert-user-oid = 2.5.4.3\n",
        "ipv4-netmask" => "ipv4-network = 10.0.0.0\nipv4-netmask = 255.255.255.0\n",
        "ipv6-prefix" => "ipv6-network = fd00::\nipv6-prefix = 48\n",
        "match-tls-dtls-ciphers" => "dtls-legacy = false\n",
        "camouflage" => "camouflage_secret = s\n",
        "cisco-svc-client-compat" => "udp-port = 443\n",
        _ => "",
    }
}

/// An option that is parsed and then forgotten would leave the configuration as it was.
#[test]
fn every_option_is_kept_in_the_configuration() {
    for option in table::OPTIONS {
        let kept =
            matches!(option.meaning, Meaning::Own | Meaning::AliasOf(_)) && option.scope != Scope::UserOnly;
        if !kept {
            continue;
        }
        let context = context(option.name);
        let before = parse(&format!("{BASE}{context}")).map(|(config, _)| config).ok();
        let mut values = VALUES.to_vec();
        values.extend(["255.255.0.0", "64", "443", "4000"]);
        let changes = values.iter().any(|value| {
            let changed = with(&format!("{context}{} = {value}", option.name));
            changed.is_ok_and(|(config, _)| Some(config) != before)
        });
        assert!(changes, "{} is not kept", option.name);
    }
}

#[test]
fn configurations_survive_serialisation() {
    let all = everything();
    let (config, _) = parse(&all).unwrap_or_else(|error| panic!("{error}"));
    let bytes = postcard::to_stdvec(&config).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(postcard::from_bytes(&bytes), Ok(config));
}
