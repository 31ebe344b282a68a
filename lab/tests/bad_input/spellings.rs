//! Every option with values that are spelt in odd ways: what the real server takes without a word, ours
//! takes, too, and says so.

use culvert_lab::{Fixture, Make};
use culvert_server_config::table::{Kind, Meaning, OPTIONS, OptionInfo};

use super::host::check;

/// What a server says about lines at the end of a good configuration, without what it says of that one.
fn says(make: Make, fixture: &Fixture, lines: &str) -> Vec<String> {
    let usual = check(make, fixture, "").stderr;
    let said = check(make, fixture, lines);
    assert_eq!(said.code, 0, "{make:?}: {lines}{}", said.stderr);
    let mut rest: Vec<_> = said.stderr.lines().map(str::to_owned).collect();
    for line in usual.lines() {
        if let Some(at) = rest.iter().position(|other| other == line) {
            rest.remove(at);
        }
    }
    rest.retain(|line| !line.starts_with("warning: skipping unknown option"));
    rest
}

/// Options of their own that may stand in the main file, have values of this kind and none of `others`.
fn options(kind: Kind, others: &'static [&'static str]) -> impl Iterator<Item = &'static OptionInfo> {
    let plain = move |option: &&OptionInfo| {
        option.kind == kind && option.meaning == Meaning::Own && !others.contains(&option.name)
    };
    OPTIONS.iter().filter(plain)
}

/// Checks each option of `kind` with `value` (all in one file): the real server is silent, ours says
/// how it has taken each.
fn taken_as(kind: Kind, others: &'static [&'static str], value: &str, taken: Option<&str>) {
    let fixture = Fixture::new();
    let first = fixture.ocserv_conf(&[]).lines().count() + 1;
    let mut lines = String::new();
    let mut expected = Vec::new();
    for (number, option) in options(kind, others).enumerate() {
        lines += &format!("{} = {value}\n", option.name);
        if let Some(taken) = taken {
            expected.push(format!(
                "warning: option '{}' in line {}: '{value}' is taken as {taken}",
                option.name,
                first + number
            ));
        }
    }
    assert!(lines.lines().count() > 20, "{lines}");
    assert_eq!(says(Make::Culvert, &fixture, &lines), expected);
    assert_eq!(says(Make::Real, &fixture, &lines), Vec::<String>::new());
}

/// What switches more than itself on is left out: [`super::configuration`] has it.
const CONSEQUENCES: &[&str] = &[
    "cisco-client-compat",
    "cisco-svc-client-compat",
    "match-tls-dtls-ciphers",
    "camouflage",
];

#[test]
fn booleans() {
    for value in ["true", "TRUE", "Yes", "\"yes\""] {
        taken_as(Kind::Bool, CONSEQUENCES, value, None);
    }
    for value in ["false", "no"] {
        taken_as(Kind::Bool, &[], value, None);
    }
    for value in ["1", "on", "truely"] {
        taken_as(Kind::Bool, &[], value, Some("false"));
    }
}

/// Numbers that have to be in a range are left out: [`super::configuration`] has them.
const RANGES: &[&str] = &["tcp-port", "udp-port", "mtu", "ipv6-prefix", "ipv6-subnet-prefix"];

#[test]
fn numbers() {
    taken_as(Kind::Number, RANGES, "600", None);
    taken_as(Kind::Number, RANGES, "10s", Some("10"));
    taken_as(Kind::Number, RANGES, "many", Some("0"));
    taken_as(Kind::Number, RANGES, "-1", Some("4294967295"));
}
