//! Configurations with one mistake each: what both servers say about it, ours with file and line.

use culvert_lab::{Fixture, Make};

use super::host::check;

/// What the real server does with the file.
#[derive(Debug, PartialEq, Eq)]
enum Real {
    /// It ends with an error.
    Refuses,
    /// It has nothing against it.
    Accepts,
}
use Real::{Accepts, Refuses};

/// A mistake: the lines behind a good configuration, the one of them that is to blame (from 1; 0 for
/// the whole), what our server says of it, and what the real one does. `DIR` is the folder of the files.
const MISTAKES: &[(&str, usize, &str, Real)] = &[
    ("nonsense", 1, "neither option, section nor comment", Refuses),
    (
        "rekey-method = sometimes",
        1,
        "unknown rekey method 'sometimes'",
        Refuses,
    ),
    (
        "auth = pam",
        1,
        "cannot mix multiple authentication methods of pam type",
        Refuses,
    ),
    (
        "enable-auth = pam",
        1,
        "cannot mix multiple password authentication methods",
        Refuses,
    ),
    (
        "enable-auth = ldap",
        1,
        "unknown or unsupported auth method: ldap",
        Refuses,
    ),
    (
        "auth = plain[passwd=DIR/ocpasswd",
        1,
        "error parsing [passwd=",
        Refuses,
    ),
    (
        "auth = plain",
        1,
        "plain: no password or OTP file specified",
        Refuses,
    ),
    (
        "auth = certificate",
        0,
        "a certificate is requested by the option 'cert-user-oid' is not set",
        Refuses,
    ),
    (
        "auth = certificate\ncert-user-oid = CN",
        2,
        "the option 'cert-user-oid' has a unsupported value",
        Refuses,
    ),
    (
        "acct = foo",
        1,
        "unknown or unsupported accounting method: foo",
        Refuses,
    ),
    (
        "config-per-user = DIR\nacct = radius[config=/r,groupconfig=true]",
        1,
        "specified config-per-user or config-per-group but supplemental config is 'radius'",
        Refuses,
    ),
    ("tcp-port = 0", 1, "the tcp-port option is mandatory!", Refuses),
    (
        "udp-port = 70000",
        1,
        "invalid value of 'udp-port': 70000",
        Accepts,
    ),
    (
        "run-as-user = no-such-user",
        1,
        "unknown user: no-such-user",
        Refuses,
    ),
    (
        "run-as-group = no-such-group",
        1,
        "unknown group: no-such-group",
        Refuses,
    ),
    (
        "chroot-dir = /no/such",
        1,
        "chroot-dir '/no/such' is no directory",
        Accepts,
    ),
    (
        "server-key = DIR/server-key.pem",
        1,
        "number of keys doesn't match the certificates",
        Refuses,
    ),
    (
        "server-cert = /no/such\nserver-key = DIR/server-key.pem",
        1,
        "cannot open file '/no/such'",
        Refuses,
    ),
    ("pin-file = /no/such", 1, "cannot open file '/no/such'", Accepts),
    (
        "tls-priorities = NORMAL:-FOO",
        1,
        "error in TLS priority string: -FOO",
        Refuses,
    ),
    (
        "match-tls-dtls-ciphers = true",
        1,
        "'match-tls-dtls-ciphers' cannot be applied",
        Refuses,
    ),
    (
        "user-profile = /no/such",
        1,
        "cannot open file '/no/such'",
        Refuses,
    ),
    (
        "ipv4-network = 10.0.0/8",
        1,
        "invalid IPv4 network '10.0.0/8'",
        Accepts,
    ),
    ("ipv6-network = fd00::/5", 1, "invalid IPv6 prefix: 5", Accepts),
    (
        "ipv6-subnet-prefix = 64",
        1,
        "the subnet prefix (64) cannot be smaller or equal",
        Refuses,
    ),
    (
        "route = 10.0.0.0",
        1,
        "route '10.0.0.0' is missing a /prefix",
        Refuses,
    ),
    (
        "no-route = fd00::/200",
        1,
        "route 'fd00::/200' has an invalid IPv6 prefix",
        Accepts,
    ),
    (
        "dns = local",
        1,
        "the 'local' DNS keyword is no longer supported.",
        Refuses,
    ),
    (
        "dns = dns.example",
        1,
        "invalid DNS server address 'dns.example'",
        Accepts,
    ),
    (
        "restrict-user-to-ports = !tcp(1)",
        1,
        "no bracket following negation",
        Refuses,
    ),
    ("kkdcp = a", 1, "Cannot parse kkdcp string: a", Refuses),
    (
        "listen-clear-file = /x",
        1,
        "the 'listen-clear-file' option was removed",
        Refuses,
    ),
    ("[vhost:]", 1, "virtual host name is illegal ''", Accepts),
    (
        "[vhost:a]\ntcp-port = 1",
        2,
        "'tcp-port' cannot be set inside a virtual host section",
        Refuses,
    ),
    ("tcp-port = -1", 1, "invalid value of 'tcp-port': -1", Accepts),
    ("mtu = 65536", 1, "invalid value of 'mtu': 65536", Accepts),
    (
        "tls-priorities = NORMAL:",
        1,
        "error in TLS priority string: ",
        Refuses,
    ),
    (
        "tls-priorities = NORMAL::%COMPAT",
        1,
        "error in TLS priority string: :%COMPAT",
        Refuses,
    ),
    (
        "tls-priorities = NORMAL:-VERS-ALL",
        1,
        "it leaves no protocol version",
        Refuses,
    ),
    (
        "tls-priorities = @SYSTEM",
        1,
        "error in TLS priority string: @SYSTEM",
        Refuses,
    ),
    (
        "ipv4-network = 10.0.0.0/33",
        1,
        "invalid IPv4 network '10.0.0.0/33'",
        Refuses,
    ),
    (
        "ipv6-network = fd00::/129",
        1,
        "invalid IPv6 prefix: 129",
        Refuses,
    ),
    ("ipv6-prefix = 200", 1, "invalid IPv6 prefix: 200", Refuses),
    (
        "ipv6-subnet-prefix = 129",
        1,
        "invalid IPv6 subnet prefix: 129",
        Refuses,
    ),
    (
        "dns = 8.8.8.8, 1.1.1.1",
        1,
        "invalid DNS server address '8.8.8.8, 1.1.1.1'",
        Accepts,
    ),
    ("nbns = x", 1, "invalid NBNS server address 'x'", Accepts),
    (
        "route = 10.0.0.0/33",
        1,
        "route '10.0.0.0/33' has an invalid IPv4 prefix",
        Refuses,
    ),
    (
        "route = 10.0.0.0/255.0.255.0",
        1,
        "has an invalid IPv4 netmask",
        Accepts,
    ),
    (
        "route = 10.0.0.0/8;reboot",
        1,
        "has an invalid IPv4 prefix",
        Accepts,
    ),
    ("route = $(id)", 1, "route '$(id)' is missing a /prefix", Accepts),
    (
        "no-route = default",
        1,
        "route 'default' is missing a /prefix",
        Accepts,
    ),
    (
        "restrict-user-to-ports = foo(1)",
        1,
        "unknown protocol on restrict-user-to-ports",
        Refuses,
    ),
    (
        "restrict-user-to-ports = tcp(443",
        1,
        "expected closing parenthesis",
        Refuses,
    ),
    (
        "restrict-user-to-ports = tcp 443",
        1,
        "expected parenthesis",
        Refuses,
    ),
    (
        "restrict-user-to-ports = tcp(1) udp(2)",
        1,
        "expected comma or end of line",
        Refuses,
    ),
    (
        "restrict-user-to-ports = tcp(99999)",
        1,
        "port number 99999 is too large",
        Accepts,
    ),
    ("auth = plain[foo=1]", 1, "unknown option 'foo'", Refuses),
    (
        "enable-auth = gssapi[tgt-freshness-time=0]",
        1,
        "Invalid value for 'tgt-freshness-time': 0",
        Refuses,
    ),
    ("enable-auth = gssapi[keytab", 1, "error parsing [keytab", Refuses),
    ("acct = radius", 1, "No radius configuration specified: ", Refuses),
    (
        "kkdcp = /K R foo@127.0.0.1:88",
        1,
        "cannot handle protocol foo@127.0.0.1:88",
        Refuses,
    ),
    (
        "kkdcp = /K R udp@127.0.0.1",
        1,
        "No server port specified in: 127.0.0.1",
        Refuses,
    ),
    ("select-group = a[", 1, "error parsing a[", Refuses),
    (
        "camouflage = true",
        1,
        "'camouflage' requires 'camouflage_secret'",
        Accepts,
    ),
    ("[vhost:a", 1, "neither option, section nor comment", Refuses),
    (
        "[vhost:a]\nauth = foo",
        2,
        "vhost:a: unknown or unsupported auth method: foo",
        Refuses,
    ),
];

#[test]
fn each_mistake_is_named_with_file_and_line() {
    let fixture = Fixture::new();
    let good = fixture.ocserv_conf(&[]).lines().count();
    let dir = fixture.dir().display().to_string();
    for (lines, guilty, message, real) in MISTAKES {
        let lines = lines.replace("DIR", &dir) + "\n";
        let theirs = check(Make::Real, &fixture, &lines);
        let does = if theirs.code == 0 { Accepts } else { Refuses };
        assert_eq!(does, *real, "{lines}: {}", theirs.stderr);
        let ours = check(Make::Culvert, &fixture, &lines);
        assert_eq!(ours.code, 1, "{lines}: {}", ours.stderr);
        let mut errors = ours.stderr.lines().filter(|line| line.starts_with("error: "));
        let what = errors.next().unwrap_or_default();
        assert!(what.contains(message), "{lines}: {}", ours.stderr);
        let place = format!(
            "error: config file error in line {} ({})",
            good + guilty,
            fixture.path("bad.conf").display()
        );
        let named = errors.next();
        assert_eq!(named, (*guilty > 0).then_some(place.as_str()), "{}", ours.stderr);
    }
}

/// What only may be a mistake is a warning; the server starts.
#[test]
fn doubts_are_warnings() {
    let fixture = Fixture::new();
    let line = fixture.ocserv_conf(&[]).lines().count() + 1;
    for (lines, warning) in [
        (
            "no-such-option = 1",
            "skipping unknown option 'no-such-option'".to_owned(),
        ),
        (
            "log-level = many",
            format!("option 'log-level' in line {line}: 'many' is taken as 0"),
        ),
        (
            "deny-roaming = on",
            format!("option 'deny-roaming' in line {line}: 'on' is taken as false"),
        ),
        (
            "banner =",
            format!("option 'banner' in line {line} has no value; ignored"),
        ),
        (
            "session-control = true",
            "the option 'session-control' is deprecated".to_owned(),
        ),
        (
            "connect-script = /no/such",
            format!("option 'connect-script' in line {line}: cannot open file '/no/such'"),
        ),
        (
            "ocsp-response = /no/such",
            format!("option 'ocsp-response' in line {line}: cannot open file '/no/such'"),
        ),
        ("[foo]\nbar = 1", "skipping unknown section 'foo'".to_owned()),
    ] {
        let ours = check(Make::Culvert, &fixture, &format!("{lines}\n"));
        let expected = format!("warning: {warning}");
        assert!(
            ours.code == 0 && ours.stderr.lines().any(|line| line == expected),
            "{lines}: {}",
            ours.stderr
        );
    }
}
