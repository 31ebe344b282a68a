use super::*;
use proptest::prelude::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Id {
    Verbose,
    Quiet,
    Mtu,
    KeepAlive,
    NoPasswd,
    NoProxy,
    Protocol,
}

const TABLE: &[OptionSpec<Id>] = &[
    OptionSpec::flag(Id::Verbose, Some('v'), "verbose"),
    OptionSpec::flag(Id::Quiet, Some('q'), "quiet"),
    OptionSpec::required(Id::Mtu, Some('m'), "mtu"),
    OptionSpec::optional(Id::KeepAlive, Some('k'), "tcp-keepalive"),
    OptionSpec::flag(Id::NoPasswd, None, "no-passwd"),
    OptionSpec::flag(Id::NoProxy, None, "no-proxy"),
    OptionSpec::required(Id::Protocol, None, "protocol"),
    OptionSpec::required(Id::Protocol, None, "protocols"),
];

fn parse(arguments: &[&str]) -> Result<Vec<Item<Id>>, Error> {
    Parser::new(TABLE, arguments.iter().map(OsString::from)).collect()
}

fn option(id: Id) -> Item<Id> {
    Item::Option { id, value: None }
}

fn valued(id: Id, value: &str) -> Item<Id> {
    Item::Option {
        id,
        value: Some(value.into()),
    }
}

fn positional(text: &str) -> Item<Id> {
    Item::Positional(text.into())
}

#[test]
fn short_options_bundle_and_take_glued_or_separate_values() {
    assert_eq!(
        parse(&["-vvq"]),
        Ok(vec![option(Id::Verbose), option(Id::Verbose), option(Id::Quiet)])
    );
    assert_eq!(
        parse(&["-vm1400"]),
        Ok(vec![option(Id::Verbose), valued(Id::Mtu, "1400")])
    );
    assert_eq!(parse(&["-m", "1400"]), Ok(vec![valued(Id::Mtu, "1400")]));
    assert_eq!(parse(&["-m", "-v"]), Ok(vec![valued(Id::Mtu, "-v")]));
    assert_eq!(parse(&["-m=1"]), Ok(vec![valued(Id::Mtu, "=1")]));
}

#[test]
fn long_options_take_glued_or_separate_values() {
    assert_eq!(parse(&["--mtu=1400"]), Ok(vec![valued(Id::Mtu, "1400")]));
    assert_eq!(parse(&["--mtu", "1400"]), Ok(vec![valued(Id::Mtu, "1400")]));
    assert_eq!(parse(&["--mtu="]), Ok(vec![valued(Id::Mtu, "")]));
    assert_eq!(parse(&["--mtu", "--"]), Ok(vec![valued(Id::Mtu, "--")]));
    assert_eq!(parse(&["--mtu=a=b"]), Ok(vec![valued(Id::Mtu, "a=b")]));
}

#[test]
fn optional_values_must_be_glued() {
    assert_eq!(
        parse(&["--tcp-keepalive", "5"]),
        Ok(vec![option(Id::KeepAlive), positional("5")])
    );
    assert_eq!(
        parse(&["--tcp-keepalive=5"]),
        Ok(vec![valued(Id::KeepAlive, "5")])
    );
    assert_eq!(
        parse(&["-k", "5"]),
        Ok(vec![option(Id::KeepAlive), positional("5")])
    );
    assert_eq!(parse(&["-k5"]), Ok(vec![valued(Id::KeepAlive, "5")]));
}

#[test]
fn positionals_mix_with_options_until_two_dashes() {
    assert_eq!(
        parse(&["a", "-v", "-", "--", "-q", "--"]),
        Ok(vec![
            positional("a"),
            option(Id::Verbose),
            positional("-"),
            positional("-q"),
            positional("--")
        ])
    );
}

#[test]
fn unambiguous_abbreviations_are_accepted() {
    assert_eq!(parse(&["--verb"]), Ok(vec![option(Id::Verbose)]));
    assert_eq!(parse(&["--no-pa"]), Ok(vec![option(Id::NoPasswd)]));
    assert_eq!(
        parse(&["--proto=gp"]),
        Ok(vec![valued(Id::Protocol, "gp")]),
        "aliases are one option"
    );
    assert_eq!(
        parse(&["--protocol=gp"]),
        Ok(vec![valued(Id::Protocol, "gp")]),
        "exact beats prefix"
    );
}

#[test]
fn values_are_kept_byte_for_byte() {
    let raw = OsString::from_vec(b"-m\xff\xfe".to_vec());
    let items: Result<Vec<_>, _> = Parser::new(TABLE, [raw]).collect();
    let value = Some(OsString::from_vec(b"\xff\xfe".to_vec()));
    assert_eq!(items, Ok(vec![Item::Option { id: Id::Mtu, value }]));
}

#[test]
fn messages_are_those_of_glibc() {
    let cases: &[(&[&str], &str)] = &[
        (&["--bogus"], "unrecognized option '--bogus'"),
        (&["--bogus=1"], "unrecognized option '--bogus=1'"),
        (&["-z"], "invalid option -- 'z'"),
        (&["-vz"], "invalid option -- 'z'"),
        (&["--mtu"], "option '--mtu' requires an argument"),
        (&["--mt"], "option '--mtu' requires an argument"),
        (&["-m"], "option requires an argument -- 'm'"),
        (
            &["--no-p"],
            "option '--no-p' is ambiguous; possibilities: '--no-passwd' '--no-proxy'",
        ),
        (
            &["--no-p=x"],
            "option '--no-p=x' is ambiguous; possibilities: '--no-passwd' '--no-proxy'",
        ),
        (&["--verb=x"], "option '--verbose' doesn't allow an argument"),
    ];
    for (arguments, message) in cases {
        let error = parse(arguments).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some(*message), "{arguments:?}");
    }
}

#[test]
fn iteration_goes_on_after_an_error() {
    let items: Vec<_> = Parser::new(TABLE, ["-zv", "--nope", "-q"].map(OsString::from)).collect();
    assert_eq!(
        items,
        vec![
            Err(Error::InvalidShort('z')),
            Ok(option(Id::Verbose)),
            Err(Error::UnrecognizedLong("nope".into())),
            Ok(option(Id::Quiet)),
        ]
    );
}

proptest! {
    #[test]
    fn never_panics_and_always_ends(arguments in prop::collection::vec(
        prop::collection::vec(prop_oneof![Just(b'-'), Just(b'='), any::<u8>()], 0..8), 0..8,
    )) {
        let bytes: usize = arguments.iter().map(Vec::len).sum();
        let count = arguments.len();
        let items = Parser::new(TABLE, arguments.into_iter().map(OsString::from_vec)).count();
        prop_assert!(items <= bytes + count);
    }
}
