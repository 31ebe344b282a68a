//! Configuration files as people have them, and wrong ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use culvert_radius::config::ServerAddress;
use culvert_radius::{ClientConfig, Dictionary, MessageAuthenticator, TlsSettings, Transport};
use culvert_vocab::SecretBytes;
use proptest::prelude::*;
use tempfile::TempDir;

struct Files(TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn error(&self, name: &str) -> String {
        let error = ClientConfig::load(&self.path(name)).unwrap_err().to_string();
        error.replace(&format!("{}/", self.0.path().display()), "")
    }
}

/// The sample of freeradius-client with its legacy options.
#[test]
fn freeradius_client() {
    let files = Files::new(&[
        (
            "radiusclient.conf",
            "# General settings\n\n\
             auth_order\tradius,local\nlogin_tries\t4\nlogin_timeout\t60\nnologin /etc/nologin\n\
             issue\t/etc/radiusclient/issue\n\
             authserver \tlocalhost:1645, Radius.Example.com\nacctserver \tlocalhost\n\
             servers\t\tservers\ndictionary \t/usr/share/radiusclient/dictionary\n\
             login_radius\t/usr/sbin/login.radius\nseqfile\t\t/var/run/radius.seq\n\
             mapfile\t\t/etc/radiusclient/port-id-map\ndefault_realm\n\
             radius_timeout\t10\nradius_retries\t3\nlogin_local\t/bin/login\nbindaddr *\n",
        ),
        (
            "servers",
            "# host secret\nlocalhost/gw.example.com\ttesting123\nradius.example.com  two words # no comment\n\
             [2001:0db8::1] six\n",
        ),
    ]);
    let (config, notes) = ClientConfig::load(&files.path("radiusclient.conf")).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    let servers: Vec<_> = config
        .auth_servers
        .iter()
        .chain(&config.acct_servers)
        .map(|server| (server.host.as_str(), server.port, server.secret.expose()))
        .collect();
    assert_eq!(
        servers,
        [
            ("localhost", 1645, &b"testing123"[..]),
            ("Radius.Example.com", 1812, b"two words # no comment"),
            ("localhost", 1813, b"testing123"),
        ]
    );
    assert_eq!((config.timeout, config.retries), (Duration::from_secs(10), 3));
    assert_eq!(config.full_name("alice"), "alice");
    assert_eq!(config.bind_address, None);
}

#[test]
fn radcli() {
    let files = Files::new(&[(
        "radiusclient.conf",
        "nas-identifier my-nas\nauthserver [2001:db8::1]:1812:se:cret,192.0.2.1::other # two\n\
         acctserver 192.0.2.1:1813:other\ndefault_realm example.org\nradius_timeout 2\n\
         radius_retries 1\nradius_deadtime 0\nbindaddr 192.0.2.9\nnas-ip 2001:db8::9\nserv-type udp\n\
         require-message-authenticator yes\nnew-option x\n",
    )]);
    let (config, notes) = ClientConfig::load(&files.path("radiusclient.conf")).unwrap();
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].ends_with(":12: 'new-option' is not known"),
        "{}",
        notes[0]
    );
    let servers: Vec<_> = config
        .auth_servers
        .iter()
        .map(|server| (server.host.as_str(), server.port, server.secret.expose()))
        .collect();
    assert_eq!(
        servers,
        [
            ("2001:db8::1", 1812, &b"se:cret"[..]),
            ("192.0.2.1", 1812, b"other")
        ]
    );
    assert_eq!(config.message_authenticator, MessageAuthenticator::Required);
    assert_eq!(config.nas_identifier.as_deref(), Some("my-nas"));
    assert_eq!(config.nas_address, Some("2001:db8::9".parse().unwrap()));
    assert_eq!(config.bind_address, Some("192.0.2.9".parse().unwrap()));
    assert_eq!(config.dead_time, Duration::ZERO);
    assert_eq!(config.full_name("alice"), "alice@example.org");
    assert_eq!(config.full_name("alice@b"), "alice@b");
}

/// RadSec: one port and one secret for both kinds of questions.
#[test]
fn transports() {
    let files = Files::new(&[
        (
            "tls",
            "authserver a,b:2000:ignored\nacctserver c::s\nserv-type tls\ntls-ca-file ca\ntls-cert-file cert\n\
             tls-key-file key\ntls-verify-hostname false\nnamespace blue\n",
        ),
        ("ca", "CA"),
        ("cert", "CERT"),
        ("key", "KEY"),
        ("tcp", "authserver a::s\nacctserver a::s\nserv-type tcp\n"),
    ]);
    let (config, notes) = ClientConfig::load(&files.path("tls")).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
    let servers = |list: &[ServerAddress]| -> Vec<(String, u16)> {
        assert!(list.iter().all(|server| server.secret.expose() == b"radsec"));
        list.iter()
            .map(|server| (server.host.clone(), server.port))
            .collect()
    };
    assert_eq!(
        servers(&config.auth_servers),
        [("a".into(), 2083), ("b".into(), 2000)]
    );
    assert_eq!(config.acct_servers, config.auth_servers);
    assert_eq!(config.namespace.as_deref(), Some("blue"));
    let settings = TlsSettings {
        authorities: b"CA".to_vec(),
        certificate: b"CERT".to_vec(),
        key: SecretBytes::new(b"KEY".to_vec()),
        any_name: true,
    };
    assert_eq!(config.transport, Transport::Tls(Box::new(settings)));

    let (config, _) = ClientConfig::load(&files.path("tcp")).unwrap();
    assert_eq!(config.transport, Transport::Tcp);
    assert_eq!(
        (config.auth_servers[0].port, config.acct_servers[0].port),
        (1812, 1813)
    );
}

#[test]
fn wrong_files() {
    let long = format!("authserver {}\n", ["h::s"; 17].join(","));
    for (text, error) in [
        ("", "c: neither 'authserver' nor 'acctserver' is set"),
        (
            "authserver h\n",
            "c:1: no secret for the server 'h': there is no 'servers' file",
        ),
        ("authserver\n", "c:1: 'authserver' has no value"),
        ("\nauthserver h:0:s\n", "c:2: '0' is no port"),
        ("authserver h:99999:s\n", "c:1: '99999' is no port"),
        ("authserver [::1:s\n", "c:1: '::1:s' lacks a bracket"),
        ("authserver ::s\n", "c:1: a server without a name"),
        (
            "radius_timeout 0\n",
            "c:1: 'radius_timeout' must be a number from 1 to 86400, not '0'",
        ),
        (
            "radius_retries 0\n",
            "c:1: 'radius_retries' must be a number from 1 to 100, not '0'",
        ),
        ("bindaddr here\n", "c:1: 'here' is no IP address"),
        (
            "require-message-authenticator maybe\n",
            "c:1: 'maybe' is neither yes, no nor auto",
        ),
        ("serv-type pigeon\n", "c:1: 'pigeon' is neither udp, tcp nor tls"),
        (
            "serv-type dtls\n",
            "c:1: servers are not asked by DTLS; 'tls' protects as well",
        ),
        (
            "authserver h\nserv-type tls\n",
            "c: 'serv-type tls' needs 'tls-ca-file'",
        ),
        (
            "authserver h\nserv-type tls\ntls-ca-file c\ntls-cert-file c\n",
            "c: 'tls-cert-file' and 'tls-key-file' belong together",
        ),
        (
            "authserver h::psk@me@00\nserv-type tls\ntls-ca-file c\n",
            "c:1: the server 'h' has a pre-shared key: TLS is for certificates here",
        ),
        (
            "acctserver h::s\nserv-type tls\ntls-ca-file c\n",
            "c: 'authserver' is not set",
        ),
        (
            "tls-verify-hostname maybe\n",
            "c:1: 'maybe' is neither yes nor no",
        ),
        (
            "namespace ../a\n",
            "c:1: '../a' is no name of a network namespace",
        ),
        ("a\0b\n", "c:1: this is no text"),
        (&long, "c:1: more than 16 servers"),
    ] {
        assert_eq!(Files::new(&[("c", text)]).error("c"), error, "{text}");
    }
    let files = Files::new(&[
        ("c", "servers s\nauthserver h\n"),
        ("s", "other x\n"),
        ("t", "host\n"),
    ]);
    assert!(files.error("c").starts_with("c:2: no secret for the server 'h':"));
    assert!(files.error("none").starts_with("cannot read none:"));
    let files = Files::new(&[("c", "servers s\nauthserver h\n"), ("s", "host\n")]);
    assert_eq!(files.error("c"), "s:1: 'host' has no value");
}

#[test]
fn dictionaries() {
    let files = Files::new(&[
        (
            "dictionary",
            "# comment\n$INCLUDE dictionary.ms\n$INCLUDE dictionary\nATTRIBUTE\tUser-Name\t1\tstring\n\
             VALUE Service-Type Login-User 1\nATTRIBUTE Extended 241.1 string\n\
             VENDOR Roaring-Penguin 10055\nATTRIBUTE RP-Up 0x01 integer Roaring-Penguin\n",
        ),
        (
            "dictionary.ms",
            "VENDOR\tMicrosoft\t311\nBEGIN-VENDOR Microsoft\n\
             ATTRIBUTE MS-Primary-DNS-Server 28 ipaddr\nEND-VENDOR Microsoft\n",
        ),
        ("bad", "ATTRIBUTE x\n"),
        ("worse", "BEGIN-VENDOR Nobody\n"),
    ]);
    let dictionary = Dictionary::load(&files.path("dictionary")).unwrap();
    assert_eq!(dictionary.name(None, 1), "User-Name");
    assert_eq!(dictionary.name(Some(311), 28), "MS-Primary-DNS-Server");
    assert_eq!(dictionary.name(Some(10055), 1), "RP-Up");
    assert_eq!(dictionary.name(None, 28), "Attr-28");
    assert_eq!(dictionary.name(Some(9), 1), "Vendor-9-Attr-1");
    for (name, error) in [
        ("bad", "bad:1: 'ATTRIBUTE' needs 3 words"),
        ("worse", "worse:1: the vendor 'Nobody' is not known"),
    ] {
        let text = Dictionary::load(&files.path(name)).unwrap_err().to_string();
        assert!(text.ends_with(error), "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn never_panics(text in "((authserver|servers|bindaddr|ATTRIBUTE|VENDOR|BEGIN-VENDOR|x)[ \\t]?[\\[\\]:,.#/ a-z0-9é]{0,30}\n){0,6}") {
        let files = Files::new(&[("f", &text)]);
        let _ = ClientConfig::load(&files.path("f"));
        let _ = Dictionary::load(&files.path("f"));
    }
}
