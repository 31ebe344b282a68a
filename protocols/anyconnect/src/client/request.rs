//! Requests of the login phase: headers in order, documents, form bodies
//! (`specs/anyconnect.md` §2.2, §3.1, §3.3).

use culvert_vocab::{Form, SecretString};
use culvert_wire::form;
use culvert_wire::http::Request;
use culvert_wire::url::ServerUrl;
use culvert_wire::xml::Element;

use super::login_form::{group_value, reply_name};
use super::login_steps::LoginConfig;
use super::second_certificate::{SecondProof, auth_element};

const XML: &str = "application/xml; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";

/// What varies between the requests of a login.
pub(super) struct Context<'a> {
    pub(super) config: &'a LoginConfig,
    /// Where the request goes.
    pub(super) server: &'a ServerUrl,
    /// Value of the `Cookie` header.
    pub(super) cookies: Option<String>,
    /// Documents, not urlencoded forms.
    pub(super) xml: bool,
    /// Authentication in HTTP headers is still offered.
    pub(super) http_auth: bool,
}

impl Context<'_> {
    /// A request with this body, which may be empty; `None`: without body and without the headers
    /// of one.
    pub(super) fn request(&self, method: &str, body: Option<&SecretString>) -> Request {
        let config = self.config;
        let mut request = Request::new(method, self.server.request_target());
        let headers = &mut request.headers;
        headers.push("Host", self.server.host_header());
        headers.push("User-Agent", &config.user_agent);
        if let Some(cookies) = &self.cookies {
            headers.push("Cookie", cookies);
        }
        headers.push("Accept", "*/*");
        headers.push("Accept-Encoding", "identity");
        headers.push("X-Transcend-Version", "1");
        if self.xml {
            headers.push("X-Aggregate-Auth", "1");
        }
        if self.http_auth {
            headers.push("X-Support-HTTP-Auth", "true");
        }
        if let Some(keys) = &config.strap {
            headers.push("X-AnyConnect-STRAP-Pubkey", keys.signing().public_key());
            headers.push("X-AnyConnect-STRAP-DH-Pubkey", keys.dh_public());
        }
        config.platform.push_headers(headers, &config.version);
        let Some(body) = body.map(|body| body.expose().as_bytes()) else {
            return request;
        };
        headers.push("X-Pad", padding(body.len()));
        headers.push("Content-Type", if self.xml { XML } else { FORM });
        headers.push("Content-Length", body.len().to_string());
        request.body = body.to_vec();
        request
    }
}

/// Zeros that bring the length of body and padding to a multiple of 64.
fn padding(len: usize) -> String {
    "0".repeat(64 * (1 + len / 64) - len)
}

/// The document that begins a login.
pub(super) fn init_document(
    config: &LoginConfig,
    certificate_failed: bool,
    group: Option<&str>,
) -> SecretString {
    let mut root = document(config, "init")
        .with_child(Element::new("group-access").with_text(config.server.to_string()));
    if certificate_failed {
        root = root.with_child(Element::new("client-cert-fail"));
    }
    if let Some(group) = group {
        root = root.with_child(Element::new("group-select").with_text(group));
    }
    write(&root)
}

/// The document that answers a form.
pub(super) fn reply_document(
    config: &LoginConfig,
    opaque: Option<&Element>,
    form: &Form,
    scan_token: Option<&SecretString>,
) -> SecretString {
    let mut auth = Element::new("auth");
    for field in &form.fields {
        let Some(name) = reply_name(&field.name) else {
            continue;
        };
        let value = field.value.as_ref().map_or("", SecretString::expose);
        auth = auth.with_child(Element::new(name).with_text(value));
    }
    let mut root = document(config, "auth-reply");
    if let Some(opaque) = opaque {
        root = root.with_child(opaque.clone());
    }
    root = root.with_child(auth);
    if let Some(group) = group_value(form) {
        root = root.with_child(Element::new("group-select").with_text(group));
    }
    if let Some(token) = scan_token {
        root = root.with_child(Element::new("host-scan-token").with_text(token.expose()));
    }
    write(&root)
}

/// The document that proves possession of the second certificate.
pub(super) fn second_certificate_document(
    config: &LoginConfig,
    opaque: Option<&Element>,
    proof: &SecondProof,
) -> SecretString {
    let mut root = document(config, "auth-reply")
        .with_child(Element::new("session-token"))
        .with_child(Element::new("session-id"));
    if let Some(opaque) = opaque {
        root = root.with_child(opaque.clone());
    }
    write(&root.with_child(auth_element(proof)))
}

/// The urlencoded body that answers a form.
pub(super) fn reply_form(form: &Form) -> SecretString {
    let fields = form.fields.iter().map(|field| {
        let value = field.value.as_ref().map_or("", SecretString::expose);
        (field.name.as_str(), value)
    });
    form::encode(fields).into()
}

fn document(config: &LoginConfig, kind: &str) -> Element {
    let mut device = Element::new("device-id");
    for (name, value) in config.platform.device_attributes() {
        device = device.with_attribute(name, value);
    }
    let mut root = Element::new("config-auth")
        .with_attribute("client", "vpn")
        .with_attribute("type", kind)
        .with_attribute("aggregate-auth-version", "2")
        .with_child(
            Element::new("version")
                .with_attribute("who", "vpn")
                .with_text(&config.version),
        )
        .with_child(device.with_text(config.platform.name()));
    let mut methods = Vec::new();
    if config.external_auth {
        methods.extend(["single-sign-on-v2", "single-sign-on-external-browser"]);
    }
    if config.second_certificate.is_some() {
        methods.push("multiple-cert");
    }
    if !methods.is_empty() {
        let methods = methods.into_iter();
        let methods = methods.map(|name| Element::new("auth-method").with_text(name));
        root = root.with_child(methods.fold(Element::new("capabilities"), Element::with_child));
    }
    root
}

fn write(root: &Element) -> SecretString {
    let mut text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned();
    root.write_to(&mut text);
    text.push('\n');
    text.into()
}
