//! Throw-away files: certificate authority, server certificate, password file, configuration.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::process::write_script;

/// Name of the server in its certificate; no DNS knows it.
pub const SERVER_NAME: &str = "vpn.test";
/// A user of the password file, member of `staff` and `admins`.
pub const USER: &str = "alice";
/// Password of every user of the password file.
pub const PASSWORD: &str = "wonderland 7";
/// `PASSWORD` as SHA-256 crypt, what `ocpasswd` writes.
const HASH: &str = "$5$FF9OqbbHTnNMAwpg$a8AtBcc7Opu4d66xXrYLczB1OYRdZizywVYlYbBMRc8";

/// IPv4 network inside the tunnel.
pub const INNER_V4: &str = "10.99.1.0/24";
/// The server's IPv4 address inside the tunnel.
pub const INNER_SERVER_V4: &str = "10.99.1.1";
/// [`INNER_SERVER_V4`] as an address.
pub fn inner_server() -> IpAddr {
    INNER_SERVER_V4.parse().unwrap()
}

/// IPv6 network inside the tunnel.
pub const INNER_V6: &str = "fd99:1::/64";
/// The server's IPv6 address inside the tunnel.
pub const INNER_SERVER_V6: &str = "fd99:1::1";

/// A folder with everything a server and its clients need. World-readable, because workers of the
/// real ocserv reach their sockets through it as `nobody`; removed when dropped.
#[derive(Debug)]
pub struct Fixture {
    dir: PathBuf,
    _owner: Option<tempfile::TempDir>,
}

impl Fixture {
    /// Makes the files in a fresh temporary folder.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn new() -> Self {
        let owner = tempfile::Builder::new().prefix("culvert-lab-").tempdir().unwrap();
        let fixture = Self {
            dir: owner.path().to_owned(),
            _owner: Some(owner),
        };
        fixture.write();
        fixture
    }

    /// Makes the files in `dir`, where they stay.
    ///
    /// # Panics
    /// They cannot be written.
    pub fn keep_in(dir: &Path) -> Self {
        fs::create_dir_all(dir).unwrap();
        let fixture = Self {
            dir: fs::canonicalize(dir).unwrap(),
            _owner: None,
        };
        fixture.write();
        fixture
    }

    fn write(&self) {
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755)).unwrap();
        self.write_certificates();
        let users = [(USER, "staff,admins"), ("bob", "*")];
        let lines: String = users
            .iter()
            .map(|(user, groups)| format!("{user}:{groups}:{HASH}\n"))
            .collect();
        self.write_file("ocpasswd", &lines);
        self.write_file("password", &format!("{PASSWORD}\n"));
    }

    fn write_certificates(&self) {
        let ca_key = KeyPair::generate().unwrap();
        let mut ca = CertificateParams::default();
        ca.distinguished_name
            .push(DnType::CommonName, "Culvert laboratory CA");
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let ca_certificate = ca.self_signed(&ca_key).unwrap();
        let issuer = Issuer::from_params(&ca, &ca_key);

        let key = KeyPair::generate().unwrap();
        let mut server = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
        server.distinguished_name.push(DnType::CommonName, SERVER_NAME);
        let certificate = server.signed_by(&key, &issuer).unwrap();

        self.write_file("ca.pem", &ca_certificate.pem());
        self.write_file("server-cert.pem", &certificate.pem());
        self.write_file("server-key.pem", &key.serialize_pem());
        fs::set_permissions(self.path("server-key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Writes a file in the folder and gives its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Writes an executable script and gives its path.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write_script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        write_script(&path, body);
        path
    }

    /// Runs openssl in the folder, with blank-separated arguments, and gives its standard output.
    ///
    /// # Panics
    /// It is not installed, or fails.
    pub fn openssl(&self, arguments: &str) -> String {
        let words: Vec<&str> = arguments.split_ascii_whitespace().collect();
        self.openssl_words(&words)
    }

    /// [`Self::openssl`] with arguments that are empty or contain blanks.
    ///
    /// # Panics
    /// See there.
    pub fn openssl_words(&self, arguments: &[&str]) -> String {
        let output = Command::new("openssl")
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .output()
            .expect("openssl is needed: see scripts/setup");
        assert!(
            output.status.success(),
            "openssl {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// An ordinary server configuration that both makes of ocserv read, without any option of `overrides`,
    /// followed by `overrides`.
    pub fn ocserv_conf(&self, overrides: &[(&str, &str)]) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        let defaults = [
            ("auth", format!("plain[passwd={}]", path("ocpasswd"))),
            ("tcp-port", "443".to_owned()),
            ("udp-port", "443".to_owned()),
            ("run-as-user", "nobody".to_owned()),
            ("run-as-group", "nogroup".to_owned()),
            ("socket-file", path("ocserv.sock")),
            ("occtl-socket-file", path("occtl.sock")),
            ("use-occtl", "true".to_owned()),
            ("use-utmp", "false".to_owned()),
            ("pid-file", path("ocserv.pid")),
            ("server-cert", path("server-cert.pem")),
            ("server-key", path("server-key.pem")),
            ("device", "vpns".to_owned()),
            ("ipv4-network", INNER_V4.to_owned()),
            ("ipv6-network", INNER_V6.to_owned()),
            ("dns", "10.99.1.1".to_owned()),
            ("default-domain", "corp.test".to_owned()),
            ("route", "10.99.1.0/24".to_owned()),
            ("route", "fd99:1::/64".to_owned()),
            ("banner", "Welcome to the laboratory".to_owned()),
            ("keepalive", "300".to_owned()),
            ("dpd", "20".to_owned()),
            ("cookie-timeout", "300".to_owned()),
            ("max-ban-score", "0".to_owned()),
        ];
        let overridden = |name: &str| overrides.iter().any(|(other, _)| *other == name);
        let kept = defaults
            .iter()
            .filter(|(name, _)| !overridden(name))
            .map(|(name, value)| (*name, value.as_str()));
        kept.chain(overrides.iter().copied())
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect()
    }
}

impl Default for Fixture {
    fn default() -> Self {
        Self::new()
    }
}
