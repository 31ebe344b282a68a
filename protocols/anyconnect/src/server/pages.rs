//! Responses of the front-end, header by header as ocserv sends them
//! (`specs/anyconnect.md` §5.1, §5.3, §5.5).

use culvert_vocab::{HttpScheme, SecretString, SessionId};
use culvert_wire::http::{Headers, Response};
use culvert_wire::xml::escape;
use data_encoding::HEXUPPER;

use super::config::{FrontEndConfig, Profile};
use super::router::StaticFile;

const XML: &str = "text/xml; charset=utf-8";
const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
const VERSION: &str = "<version who=\"sg\">0.1(1)</version>\n";
const EXPIRED: &str = "expires=Thu, 01 Jan 1970 22:00:00 GMT; path=/";
const GROUP_LIST: &str = "<select name=\"group_list\" label=\"Group:\">\n";
const AUTHENTICATE: &str = "WWW-Authenticate";
const NOT_FOUND: &str = "<html><body><h1>404 Not Found</h1></body></html>\r\n";

/// The text of a password prompt that says nothing.
pub(super) const ASK_PASSWORD: &str = "Please enter your password.";

/// Which fields a form asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask<'a> {
    /// User name, password and group.
    Login {
        /// Group chosen so far.
        group: Option<&'a str>,
        /// The URL forces the group: no other may be chosen.
        forced: bool,
    },
    /// One of these groups.
    Group { groups: &'a [String] },
    /// A password, the first (0) or a further one.
    Password { message: &'a str, number: u8 },
}

/// A form, with the cookie that lets the login go on over another connection.
pub(super) fn form(config: &FrontEndConfig, v3: bool, ask: Ask<'_>, context: Option<&SessionId>) -> Response {
    let cookie = match context {
        Some(context) => format!(
            "webvpncontext={}; Max-Age={}; Secure; HttpOnly",
            context.to_cookie().expose(),
            config.cookie_timeout.as_secs()
        ),
        None => format!("webvpncontext=; {EXPIRED}; Secure; HttpOnly"),
    };
    let body = form_document(config, v3, ask);
    let response = Response::new(200, "OK")
        .with_header("Set-Cookie", cookie)
        .with_header("Content-Type", XML)
        .with_header("Content-Length", body.len().to_string())
        .with_header("X-Transcend-Version", "1");
    include(config, response).with_body(body)
}

fn form_document(config: &FrontEndConfig, v3: bool, ask: Ask<'_>) -> String {
    let mut body = DECLARATION.to_owned();
    if !v3 {
        body.push_str("<config-auth client=\"vpn\" type=\"auth-request\">\n");
        body.push_str(VERSION);
    }
    let first = !matches!(ask, Ask::Password { .. });
    let id = if v3 && !first { "passwd" } else { "main" };
    body.push_str(&format!("<auth id=\"{id}\">\n"));
    if let (true, Some(banner)) = (first, &config.pre_login_banner) {
        body.push_str(&format!("<banner>{}</banner>", escape(banner)));
    }
    let message = match ask {
        Ask::Login { .. } => "Please enter your username and password.",
        Ask::Group { .. } => "Please select your group.",
        Ask::Password { message, .. } => message,
    };
    let query = match &config.form_query {
        Some(query) => format!("?{}", escape(query.expose())),
        None => String::new(),
    };
    body.push_str(&format!(
        "<message>{}</message>\n<form method=\"post\" action=\"/auth{query}\">\n",
        escape(message)
    ));
    match ask {
        Ask::Login { group, forced } => {
            body.push_str("<input type=\"text\" name=\"username\" label=\"Username:\" />\n");
            body.push_str("<input type=\"password\" name=\"password\" label=\"Password:\" />\n");
            body.push_str(&group_list(config, group, forced));
        }
        Ask::Group { groups } => body.push_str(&choice_of_groups(config, groups)),
        Ask::Password { number: 0, .. } => {
            body.push_str("<input type=\"password\" name=\"password\" label=\"Password:\" />\n");
        }
        Ask::Password { number, .. } => body.push_str(&format!(
            "<input type=\"password\" name=\"secondary_password\" label=\"Password{number}:\" />\n"
        )),
    }
    body.push_str("</form></auth>\n");
    if !v3 {
        body.push_str("</config-auth>");
    }
    body
}

fn option(value: &str, label: &str) -> String {
    format!("<option value=\"{}\">{}</option>\n", escape(value), escape(label))
}

/// The groups of a certificate.
fn choice_of_groups(config: &FrontEndConfig, groups: &[String]) -> String {
    let mut list = GROUP_LIST.to_owned();
    for name in groups {
        let listed = config.groups.iter().find(|group| group.name == *name);
        list.push_str(&option(name, listed.map_or(name, |group| &group.label)));
    }
    list.push_str("</select>\n");
    list
}

/// The chosen group comes first, because Cisco's clients expect it there.
fn group_list(config: &FrontEndConfig, chosen: Option<&str>, forced: bool) -> String {
    if config.groups.is_empty() && !(forced && chosen.is_some()) {
        return String::new();
    }
    let mut list = GROUP_LIST.to_owned();
    match (chosen, &config.default_group) {
        (Some(chosen), _) => {
            let label = config
                .groups
                .iter()
                .find(|group| group.name == chosen)
                .map_or(chosen, |group| &group.label);
            list.push_str(&option(chosen, label));
        }
        (None, Some(default)) => list.push_str(&format!("<option>{}</option>\n", escape(default))),
        (None, None) => {}
    }
    if !forced {
        for group in config
            .groups
            .iter()
            .filter(|group| Some(group.name.as_str()) != chosen)
        {
            list.push_str(&option(&group.name, &group.label));
        }
    }
    list.push_str("</select>\n");
    list
}

/// The login has succeeded: the cookies, and what the client may fetch.
pub(super) fn success(config: &FrontEndConfig, v3: bool, session: &SessionId) -> Response {
    let cookie = session.to_cookie();
    let body = success_document(config, v3);
    let response = Response::new(200, "OK")
        .with_header("Connection", "Keep-Alive")
        .with_header("Content-Type", XML)
        .with_header("Content-Length", body.len().to_string())
        .with_header("X-Transcend-Version", "1")
        .with_header(
            "Set-Cookie",
            format!("webvpncontext={}; Secure; HttpOnly", cookie.expose()),
        )
        .with_header(
            "Set-Cookie",
            format!("webvpn={}; Secure; HttpOnly", cookie.expose()),
        )
        .with_header("Set-Cookie", format!("webvpnc=; {EXPIRED}; Secure; HttpOnly"));
    include(config, response)
        .with_header(
            "Set-Cookie",
            format!("webvpnc={}; path=/; Secure; HttpOnly", manifest_cookie(config)),
        )
        .with_body(body)
}

fn manifest_cookie(config: &FrontEndConfig) -> String {
    let certificate = HEXUPPER.encode(&config.certificate_sha1);
    let mut value = format!("bu:/&p:t&iu:1/&sh:{certificate}");
    if let Some(profile) = &config.profile {
        value.push_str(&format!(
            "&lu:/+CSCOT+/translation-table?textdomain%3DAnyConnect%26type%3Dmanifest&fu:profiles%2F{}&fh:{}",
            profile.file,
            HEXUPPER.encode(&profile.sha1)
        ));
    }
    value
}

fn success_document(config: &FrontEndConfig, v3: bool) -> String {
    let banner = match &config.banner {
        Some(banner) => format!("<banner>{}</banner>", escape(banner)),
        None => String::new(),
    };
    let auth = format!("<auth id=\"success\">\n<title>SSL VPN Service</title>{banner}</auth>");
    if v3 {
        return format!("{DECLARATION}{auth}\n");
    }
    let manifest = config.profile.as_ref().map(profile_manifest).unwrap_or_default();
    format!(
        "{DECLARATION}<config-auth client=\"vpn\" type=\"complete\">\n{VERSION}{auth}{manifest}</config-auth>\n"
    )
}

fn profile_manifest(profile: &Profile) -> String {
    format!(
        "\n<config client=\"vpn\" type=\"private\"><vpn-profile-manifest><vpn rev=\"1.0\">\
         <file type=\"profile\" service-type=\"user\"><uri>/profiles/{}</uri><hash type=\"sha1\">{}</hash></file>\
         </vpn></vpn-profile-manifest>\n</config>",
        escape(&profile.file),
        HEXUPPER.encode(&profile.sha1)
    )
}

/// A file that never changes.
pub(super) fn static_file(config: &FrontEndConfig, file: &StaticFile) -> Response {
    content(config, file.content_type, file.body.as_bytes())
}

/// The client profile.
pub(super) fn profile(config: &FrontEndConfig, profile: &Profile) -> Response {
    content(config, "text/xml", &profile.content)
}

fn content(config: &FrontEndConfig, content_type: &str, body: &[u8]) -> Response {
    let response = Response::new(200, "OK")
        .with_header("Connection", "Keep-Alive")
        .with_header("Content-Type", content_type)
        .with_header("X-Transcend-Version", "1")
        .with_header("Content-Length", body.len().to_string());
    include(config, response).with_body(body)
}

/// Answer to a telephone that has not logged in.
pub(super) fn phone_start(config: &FrontEndConfig) -> Response {
    let response = Response::new(200, "OK")
        .with_header("Content-Length", "0")
        .with_header("Set-Cookie", format!("webvpn=; {EXPIRED}; secure"))
        .with_header("Set-Cookie", "webvpnlogin=1; secure")
        .with_header("X-Transcend-Version", "1");
    include(config, response)
}

/// Answer to a telephone that has.
pub(super) fn phone_success(session: &SessionId) -> Response {
    Response::new(200, "OK")
        .with_header("Connection", "Keep-Alive")
        .with_header("Content-Length", "0")
        .with_header(
            "Set-Cookie",
            format!("webvpn={}; secure", session.to_cookie().expose()),
        )
        .with_header("X-Transcend-Version", "1")
}

/// No such page; the connection ends.
pub(super) fn not_found() -> Response {
    Response::new(404, "Not found")
        .with_header("Content-Length", NOT_FOUND.len().to_string())
        .with_header("Connection", "close")
        .with_body(NOT_FOUND)
}

/// The login failed; the connection ends.
pub(super) fn unauthorized(reason: &str) -> Response {
    Response::new(401, reason).with_header("Content-Length", "0")
}

/// Asks for HTTP authentication.
pub(super) fn challenge(config: &FrontEndConfig) -> Response {
    let mut response = Response::new(401, "Unauthorized");
    if !config.without_form {
        response = response.with_header("X-HTTP-Auth-Support", "fallback");
    }
    for scheme in &config.http {
        response = response.with_header(AUTHENTICATE, scheme.name());
    }
    response.with_header("Content-Length", "0")
}

/// Goes on with HTTP authentication.
pub(super) fn next_challenge(scheme: HttpScheme, token: &SecretString) -> Response {
    Response::new(401, "Unauthorized")
        .with_header(AUTHENTICATE, format!("{scheme} {}", token.expose()))
        .with_header("Content-Length", "0")
}

/// Adds the server's last word in HTTP authentication.
pub(super) fn prove(response: Response, scheme: HttpScheme, token: &SecretString) -> Response {
    response.with_header(AUTHENTICATE, format!("{scheme} {}", token.expose()))
}

/// Adds the configured header lines.
fn include(config: &FrontEndConfig, mut response: Response) -> Response {
    push_raw_lines(&mut response.headers, &config.included_headers);
    response
}

/// Appends raw `Name: value` lines; what has no colon is no header.
pub(super) fn push_raw_lines(headers: &mut Headers, lines: &[String]) {
    for (name, value) in lines.iter().filter_map(|line| line.split_once(':')) {
        headers.push(name.trim(), value.trim());
    }
}
