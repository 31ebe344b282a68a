//! A provider of OpenID Connect, played by openssl: a web server with documents, and signatures.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::process::run;
use culvert_lab::{Fixture, Process, World, wait};
use data_encoding::{BASE64URL_NOPAD, HEXUPPER};
use serde_json::{Value, json};

/// Port of the provider on the server's host.
const PORT: u16 = 8443;

/// Keys and documents, which the provider serves while it runs.
pub(super) struct Provider<'f> {
    fixture: &'f Fixture,
    discovery: String,
    process: Option<Process>,
}

impl<'f> Provider<'f> {
    /// A provider with no keys, not running; `minimum_jwk_refresh_time` is a second.
    pub(super) fn new(fixture: &'f Fixture) -> Self {
        std::fs::create_dir(fixture.path("www")).unwrap();
        let at = format!("https://{SERVER_NAME}:{PORT}");
        let discovery = json!({"issuer": at, "jwks_uri": format!("{at}/keys")}).to_string();
        fixture.write_file("www/discovery", &discovery);
        let config = json!({
            "openid_configuration_url": format!("{at}/discovery"),
            "user_name_claim": "preferred_username",
            "group_claim": "groups",
            "required_claims": {"iss": at, "aud": "vpn"},
            "minimum_jwk_refresh_time": 1,
        });
        fixture.write_file("oidc.json", &config.to_string());
        Self {
            fixture,
            discovery,
            process: None,
        }
    }

    /// Starts to serve the documents.
    pub(super) fn start(&mut self, world: &World) {
        let file = self.fixture.write_file("www/discovery.new", &self.discovery);
        std::fs::rename(file, self.fixture.path("www/discovery")).unwrap();
        self.serve(world);
    }

    /// Accepts connections and requests, and says nothing.
    pub(super) fn stall(&mut self, world: &World) {
        let pipe = self.fixture.path("www/discovery");
        std::fs::remove_file(&pipe).unwrap();
        run("mkfifo", &[&pipe.display().to_string()]);
        self.serve(world);
    }

    fn serve(&mut self, world: &World) {
        self.process = None;
        let mut command = world.server.command("openssl");
        command
            .args(["s_server", "-quiet", "-WWW", "-accept", &PORT.to_string()])
            .arg("-cert")
            .arg(self.fixture.path("server-cert.pem"))
            .arg("-key")
            .arg(self.fixture.path("server-key.pem"))
            .current_dir(self.fixture.path("www"));
        self.process = Some(Process::start(command, self.fixture.dir(), "provider", None));
        wait::until("the provider", || {
            let sockets = world
                .server
                .run("ss", &["-tlnH", "sport", "=", &PORT.to_string()]);
            (!sockets.is_empty()).then_some(())
        });
    }

    /// Is not there any more.
    pub(super) fn stop(&mut self) {
        self.process = None;
    }

    /// Replaces the document with the keys.
    pub(super) fn publish(&self, document: &str) {
        // Never half a document.
        let new = self.fixture.write_file("www/keys.new", document);
        std::fs::rename(new, self.fixture.path("www/keys")).unwrap();
    }

    /// Makes an RSA key.
    pub(super) fn key(&self, id: &str) -> Key<'f> {
        let file = self.fixture.path(&format!("{id}.key")).display().to_string();
        openssl(&["genrsa", "-out", &file, "2048"], b"");
        let modulus = openssl(&["rsa", "-in", &file, "-noout", "-modulus"], b"");
        let modulus = String::from_utf8(modulus).unwrap();
        let modulus = modulus.trim().strip_prefix("Modulus=").unwrap().to_owned();
        Key {
            id: id.to_owned(),
            file,
            modulus: HEXUPPER.decode(modulus.as_bytes()).unwrap(),
            fixture: self.fixture,
        }
    }
}

/// A key of the provider.
pub(super) struct Key<'f> {
    pub(super) id: String,
    file: String,
    modulus: Vec<u8>,
    fixture: &'f Fixture,
}

impl Key<'_> {
    /// The document with this key alone.
    pub(super) fn document(&self) -> String {
        let n = BASE64URL_NOPAD.encode(&self.modulus);
        json!({"keys": [{"kty": "RSA", "use": "sig", "kid": self.id, "n": n, "e": "AQAB"}]}).to_string()
    }

    /// A file with a token of Alice that is good for an hour, after `change`.
    pub(super) fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut header = json!({"alg": "RS256", "typ": "JWT", "kid": self.id});
        let mut claims = json!({
            "iss": format!("https://{SERVER_NAME}:{PORT}"), "aud": ["mail", "vpn"],
            "nbf": now - 10, "iat": now - 10, "exp": now + 3600,
            "preferred_username": "alice", "groups": ["staff", "ops"],
        });
        change(&mut header, &mut claims);
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        let signature = match header["alg"].as_str() {
            Some("none") => Vec::new(),
            // A key that everybody knows.
            Some("HS256") => {
                let key = format!("hexkey:{}", HEXUPPER.encode(self.document().as_bytes()));
                let sign = ["dgst", "-sha256", "-mac", "HMAC", "-macopt", &key, "-binary"];
                openssl(&sign, signed.as_bytes())
            }
            _ => openssl(&["dgst", "-sha256", "-sign", &self.file], signed.as_bytes()),
        };
        // openconnect 9.01 sends a line's end along.
        let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
        self.fixture.write_file("token", &token).display().to_string()
    }
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}
