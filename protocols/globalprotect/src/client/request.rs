//! Requests as the reference writes them (`specs/globalprotect.md` §2.1).

use culvert_vocab::SecretString;
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;

use crate::wire::Parameters;

/// Servers send every other client to a download page.
const USER_AGENT: &str = "PAN GlobalProtect";
/// Bodies are padded to a multiple of this, by a header.
const PAD: usize = 64;

/// Operating system that the client claims to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOs {
    name: &'static str,
    version: String,
}

impl ClientOs {
    /// From the value of `--os`.
    pub fn new(os: &str) -> Self {
        let name = match os {
            "mac-intel" => "Mac",
            "apple-ios" => "iOS",
            "android" => "Android",
            "win" => "Windows",
            _ => "Linux",
        };
        Self {
            name,
            version: os.to_owned(),
        }
    }

    /// `clientos`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// `os-version`.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// What all requests tell about the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// `--os`.
    pub os: ClientOs,
    /// `--local-hostname`.
    pub computer: String,
    /// False for `--disable-ipv6`.
    pub ipv6: bool,
}

impl Client {
    pub(super) fn ipv6_support(&self) -> &'static str {
        if self.ipv6 { "yes" } else { "no" }
    }
}

/// A POST to `target`, which has no leading slash.
pub(super) fn post(server: &ServerUrl, target: &str, cookies: Option<String>, body: &Parameters) -> Request {
    post_text(server, target, cookies, &body.to_text())
}

pub(super) fn post_text(
    server: &ServerUrl,
    target: &str,
    cookies: Option<String>,
    body: &SecretString,
) -> Request {
    let body = body.expose();
    let mut request = Request::new("POST", format!("/{target}"));
    let headers = &mut request.headers;
    headers.push("Host", server.host_header());
    headers.push("User-Agent", USER_AGENT);
    if let Some(cookies) = cookies {
        headers.push("Cookie", cookies);
    }
    headers.push("X-Pad", "0".repeat(PAD * (1 + body.len() / PAD) - body.len()));
    headers.push("Content-Type", "application/x-www-form-urlencoded");
    headers.push("Content-Length", body.len().to_string());
    request.body = body.as_bytes().to_vec();
    request
}
