//! The answers (`specs/globalprotect.md` §4, §5.4, §5.5, §6, §10, §15, §17.1). Every value of the
//! client is escaped.

use culvert_vocab::SessionId;
use culvert_wire::form;
use culvert_wire::http::Response;
use culvert_wire::xml::Element;

use super::request::{ClientInfo, session_text};
use crate::wire::CLIENT_VERSION;

/// What clients take for no domain.
pub(super) const NO_DOMAIN: &str = "(empty_domain)";
/// Arguments of a login's answer.
const ARGUMENTS: usize = 21;

/// Which of the two a client talks to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interface {
    Portal,
    Gateway,
}

pub(super) fn text(name: &str, text: &str) -> Element {
    Element::new(name).with_text(text)
}

/// A document with the headers that clients expect.
pub(super) fn document(root: &Element) -> Response {
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n");
    root.write_to(&mut body);
    page(200, "OK", "application/xml; charset=UTF-8", body)
}

fn page(status: u16, reason: &str, content_type: &str, body: String) -> Response {
    Response::new(status, reason)
        .with_header("Content-Type", content_type)
        .with_header("Content-Length", body.len().to_string())
        .with_header("Connection", "keep-alive")
        .with_header("Cache-Control", "no-store, no-cache, must-revalidate")
        .with_header("Pragma", "no-cache")
        .with_header("X-Frame-Options", "DENY")
        .with_header("Strict-Transport-Security", "max-age=31536000")
        .with_body(body)
}

pub(super) fn not_found() -> Response {
    page(404, "Not Found", "text/html", String::new())
}

pub(super) fn prelogin(message: &str) -> Response {
    document(
        &Element::new("prelogin-response")
            .with_child(text("status", "Success"))
            .with_child(Element::new("ccusername"))
            .with_child(text("autosubmit", "false"))
            .with_child(Element::new("msg"))
            .with_child(Element::new("newmsg"))
            .with_child(text("authentication-message", message))
            .with_child(text("username-label", "Username"))
            .with_child(text("password-label", "Password"))
            .with_child(text("panos-version", "1"))
            .with_child(Element::new("region")),
    )
}

/// Wrong credentials: the client asks again.
pub(super) fn wrong_credentials(interface: Interface) -> Response {
    let header = match interface {
        Interface::Portal => "x-private-pan-globalprotect",
        Interface::Gateway => "X-Private-Pan-Sslvpn",
    };
    page(512, "Custom error", "text/html", String::new()).with_header(header, "auth-failed")
}

pub(super) fn error(message: &str) -> Response {
    document(
        &Element::new("response")
            .with_attribute("status", "error")
            .with_child(text("error", message)),
    )
}

/// A second factor is wanted; `context` names the login.
pub(super) fn challenge(user: &str, context: &SessionId, message: &str) -> Response {
    document(
        &Element::new("challenge")
            .with_child(text("user", user))
            .with_child(text("inputstr", session_text(context).expose()))
            .with_child(text("respmsg", message)),
    )
}

/// The portal's configuration: this server is the only gateway, and the session stands for the
/// password there.
pub(super) fn policy(portal: &str, host: &str, session: &SessionId) -> Response {
    let entry = Element::new("entry")
        .with_attribute("name", host)
        .with_child(
            Element::new("priority-rule").with_child(
                Element::new("entry")
                    .with_attribute("name", "Any")
                    .with_child(text("priority", "1")),
            ),
        )
        .with_child(text("priority", "1"))
        .with_child(text("manual", "yes"))
        .with_child(text("description", portal));
    let gateways = Element::new("gateways")
        .with_child(text("cutoff-time", "5"))
        .with_child(Element::new("external").with_child(Element::new("list").with_child(entry)));
    document(
        &Element::new("policy")
            .with_child(text("portal-name", portal))
            .with_child(text("portal-config-version", CLIENT_VERSION))
            .with_child(text("client-role", "global-protect-full"))
            .with_child(text("connect-method", "on-demand"))
            .with_child(text("refresh-config", "yes"))
            .with_child(text("refresh-config-interval", "24"))
            .with_child(text("use-sso", "no"))
            .with_child(gateways)
            .with_child(text("portal-userauthcookie", session_text(session).expose()))
            .with_child(text("portal-prelogonuserauthcookie", "empty")),
    )
}

/// The answer to a login at the gateway.
pub(super) fn login(portal: &str, user: &str, session: &SessionId) -> Response {
    let encoded = |value: &str| {
        let pair = form::encode([("x", value)]);
        pair.trim_start_matches("x=").to_owned()
    };
    let mut arguments = vec![String::new(); ARGUMENTS];
    let session = session_text(session);
    // Clients take the persistent cookie for the server's identity; it is no secret.
    let persistent = "0".repeat(40);
    for (at, value) in [
        (0, "(null)"),
        (1, session.expose()),
        (2, &persistent),
        (3, &encoded(portal)),
        (4, &encoded(user)),
        (5, "culvert"),
        (6, "vsys1"),
        (7, &encoded(NO_DOMAIN)),
        (8, "(null)"),
        (12, "tunnel"),
        (13, "-1"),
        (14, CLIENT_VERSION),
        (19, "4"),
        (20, "unknown"),
    ] {
        if let Some(argument) = arguments.get_mut(at) {
            value.clone_into(argument);
        }
    }
    let list = arguments
        .iter()
        .fold(Element::new("application-desc"), |list, argument| {
            list.with_child(text("argument", argument))
        });
    document(&Element::new("jnlp").with_child(list))
}

/// Whether a report about the host is wanted.
pub(super) fn hip_report_needed(needed: bool) -> Response {
    let needed = if needed { "yes" } else { "no" };
    document(&success().with_child(text("hip-report-needed", needed)))
}

pub(super) fn hip_report_accepted() -> Response {
    document(&success())
}

fn success() -> Element {
    Element::new("response").with_attribute("status", "success")
}

/// The session is over.
pub(super) fn logged_out(portal: &str, user: &str, client: &ClientInfo) -> Response {
    document(
        &success()
            .with_child(text("portal", portal))
            .with_child(text("domain", NO_DOMAIN))
            .with_child(text("user", user))
            .with_child(text("computer", client.computer.as_deref().unwrap_or_default())),
    )
}

/// The TLS tunnel is refused.
pub(super) fn tunnel_refusal() -> Response {
    let mut response = page(502, "Bad Gateway", "text/html", String::new());
    response.headers.push("Connection", "close");
    response
}
