use super::*;
use proptest::prelude::*;

fn plain(passwd: Option<&str>, otp: Option<&str>) -> AuthMethod {
    AuthMethod::Plain {
        passwd: passwd.map(PathBuf::from),
        otp: otp.map(PathBuf::from),
        otp_pin: false,
    }
}

#[test]
fn methods_with_their_options() {
    let radius = |groupconfig| Radius {
        config: "/r.conf".into(),
        groupconfig,
        nas_identifier: None,
        group_separator: GroupSeparator::Semicolon,
        override_interim_updates: false,
        pools: None,
        filter_id: false,
        required: false,
    };
    for (value, method) in [
        ("plain[passwd=/etc/p]", plain(Some("/etc/p"), None)),
        (
            "Plain [ PASSWD = /etc/p , otp=/etc/o ]",
            plain(Some("/etc/p"), Some("/etc/o")),
        ),
        ("plain[otp=/etc/o]", plain(None, Some("/etc/o"))),
        (
            "plain[otp=/etc/o,otp-pin=true]",
            AuthMethod::Plain {
                passwd: None,
                otp: Some("/etc/o".into()),
                otp_pin: true,
            },
        ),
        ("plain[/etc/p]", plain(Some("/etc/p"), None)),
        ("plain[./p]", plain(Some("./p"), None)),
        (
            "pam",
            AuthMethod::Pam {
                gid_min: None,
                service: "ocserv".into(),
                session: false,
                tty: None,
            },
        ),
        (
            "pam[gid-min=1000,service=vpn,session=true,tty=ocserv]",
            AuthMethod::Pam {
                gid_min: Some(1000),
                service: "vpn".into(),
                session: true,
                tty: Some("ocserv".into()),
            },
        ),
        (
            "radius[config=/r.conf,groupconfig=true]",
            AuthMethod::Radius(radius(true)),
        ),
        ("radius[/r.conf,groupconfig]", AuthMethod::Radius(radius(true))),
        ("radius[/r.conf]", AuthMethod::Radius(radius(false))),
        ("certificate", AuthMethod::Certificate),
        (
            "oidc[config=/o.json,extra=1]",
            AuthMethod::Oidc {
                config: "/o.json".into(),
            },
        ),
        (
            "gssapi[keytab=/k,require-local-user-map=false,tgt-freshness-time=360,gid-min=5]",
            AuthMethod::Gssapi {
                keytab: Some("/k".into()),
                require_local_user_map: false,
                tgt_freshness: Some(Duration::from_secs(360)),
                gid_min: Some(5),
            },
        ),
    ] {
        assert_eq!(AuthMethod::parse(value), Ok(method), "{value}");
    }
    let full = AuthMethod::parse(
        "radius[config=/r,nas-identifier=vpn,group-separator=comma,filter-id=yes,acct-required=true]",
    );
    assert_eq!(
        full,
        Ok(AuthMethod::Radius(Radius {
            config: "/r".into(),
            groupconfig: false,
            nas_identifier: Some("vpn".into()),
            group_separator: GroupSeparator::Comma,
            override_interim_updates: false,
            pools: None,
            filter_id: true,
            required: true,
        }))
    );
}

#[test]
fn wrong_methods_are_refused() {
    for (value, message) in [
        ("plain", "plain: no password or OTP file specified"),
        ("plain[]", "plain: no password or OTP file specified"),
        ("plain[passwd=/p", "error parsing [passwd=/p"),
        ("plain[passwd]", "error parsing [passwd]"),
        ("plain[passwd=/p]x", "error parsing [passwd=/p]x"),
        ("plain[foo=1]", "unknown option 'foo'"),
        (
            "plainX[passwd=/p]",
            "unknown or unsupported auth method: plainX[passwd=/p]",
        ),
        ("ldap", "unknown or unsupported auth method: ldap"),
        ("", "unknown or unsupported auth method: "),
        ("radius", "No radius configuration specified: []"),
        (
            "radius[config=/r,group-separator=x]",
            "unknown group-separator value 'x'; use 'semicolon' or 'comma'",
        ),
        ("radius[/r,foo]", "unknown option 'foo'"),
        (
            "gssapi[tgt-freshness-time=0]",
            "Invalid value for 'tgt-freshness-time': 0",
        ),
        (
            "gssapi[tgt-freshness-time=x]",
            "Invalid value for 'tgt-freshness-time': x",
        ),
        ("pam[gid-min=-1]", "Invalid value for 'gid-min': -1"),
        ("pam[service=../x]", "Invalid value for 'service': ../x"),
        ("certificate[x=1]", "unknown option 'x'"),
        ("oidc", "oidc: no configuration file specified"),
        (
            "pam[a=1,b=2,c=3,d=4,e=5,f=6]",
            "error parsing [a=1,b=2,c=3,d=4,e=5,f=6]: more than 5 options",
        ),
    ] {
        assert_eq!(AuthMethod::parse(value), Err(message.to_owned()), "{value}");
    }
}

#[test]
fn accounting_methods() {
    assert_eq!(AccountingMethod::parse("pam"), Ok(AccountingMethod::Pam));
    assert_eq!(
        AccountingMethod::parse("radius[config=/r]").map(|m| m.name()),
        Ok("radius")
    );
    assert_eq!(
        AccountingMethod::parse("plain"),
        Err("unknown or unsupported accounting method: plain".to_owned())
    );
}

#[test]
fn certificates_are_required_only_when_nothing_else_lets_in() {
    let config = |required: &[AuthMethod], alternatives: &[AuthMethod]| AuthConfig {
        required: required.to_vec(),
        alternatives: alternatives.to_vec(),
    };
    let certificate = AuthMethod::Certificate;
    let password = plain(Some("/p"), None);
    let both = config(&[password.clone(), certificate.clone()], &[]);
    assert_eq!(both.certificate_request(false), CertificateRequest::Required);
    assert_eq!(both.certificate_request(true), CertificateRequest::Optional);
    let either = config(
        std::slice::from_ref(&password),
        std::slice::from_ref(&certificate),
    );
    assert_eq!(either.certificate_request(false), CertificateRequest::Optional);
    assert_eq!(
        config(&[password], &[]).certificate_request(false),
        CertificateRequest::No
    );
}

proptest! {
    #[test]
    fn never_panics(value in "(plain|pam|radius|gssapi|oidc|x)?[\\[\\]=, a-z/.é]{0,40}") {
        let _ = AuthMethod::parse(&value);
        let _ = AccountingMethod::parse(&value);
    }
}
