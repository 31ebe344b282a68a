//! Logins, with answers made up here.

use culvert_globalprotect::client::{Login, LoginConfig};
use culvert_login::client::{Login as _, Returned, Step};
use culvert_vocab::FieldKind;
use culvert_wire::http::Response;
use culvert_wire::url::ServerUrl;

use super::{client, fill, login_at};

/// What comes of a login.
struct Outcome {
    /// The cookie.
    result: Result<String, String>,
    /// Names of the forms that were asked, and pages to sign in at.
    asked: Vec<String>,
    /// Bodies of the requests.
    sent: Vec<String>,
}

/// A login against these answers, in this order: part of the target, status, body.
fn log_in(url: &str, answers: &[(&str, u16, &str)]) -> Outcome {
    let mut login = login_at(url);
    let mut answers = answers.iter();
    let (mut asked, mut sent) = (Vec::new(), Vec::new());
    let mut step = login.start();
    let result = loop {
        step = match step {
            Err(error) => break Err(error.to_string()),
            Ok(Step::Done(done)) => break Ok(done.cookie.expose().to_owned()),
            Ok(Step::Form(form)) => {
                asked.push(form.id.clone());
                login.handle_form(fill(form, "pw"))
            }
            Ok(Step::Browser(sign_in)) => {
                asked.push(sign_in.url);
                assert!(matches!(login.handle_browser("nonsense"), Returned::Stranger));
                match login.handle_browser(SIGNED_IN) {
                    Returned::Over { step, .. } => Ok(*step),
                    Returned::Stranger => panic!("the sign-in was not accepted"),
                }
            }
            Ok(other @ (Step::HostScan(_) | Step::Wait(_))) => panic!("{other:?}"),
            Ok(Step::Exchange(exchange)) => {
                let request = exchange.request;
                sent.push(String::from_utf8(request.body).unwrap());
                let (path, status, body) = answers.next().unwrap();
                assert!(request.target.contains(path), "{}", request.target);
                login.handle_response(Response::new(*status, "x").with_body(*body))
            }
        };
    };
    assert!(result.is_err() || answers.next().is_none(), "too few requests");
    Outcome { result, asked, sent }
}

fn against(url: &str, answers: &[(&str, u16, &str)]) -> (Result<String, String>, Vec<String>) {
    let Outcome { result, asked, .. } = log_in(url, answers);
    (result, asked)
}

const SIGNED_IN: &str = "globalprotectcallback:PHNhbWwtdXNlcm5hbWU+dGVzdDwvc2FtbC11c2VybmFtZT48cHJlbG9naW4tY29va2llPkMrPTwvcHJlbG9naW4tY29va2llPg==";
const PRELOGIN: &str = "<prelogin-response/>";
const NO_PORTAL: &str = "<prelogin-response><status>Error</status><msg>GlobalProtect portal does not exist</msg></prelogin-response>";
const NO_GATEWAY: &str = "<prelogin-response><status>Error</status><msg>GlobalProtect gateway does not exist</msg></prelogin-response>";
const JNLP: &str = "<jnlp><application-desc><argument/><argument>aa</argument><argument/><argument>GW</argument><argument>test</argument>\
    <argument/><argument/><argument/><argument/><argument/><argument/><argument/><argument>tunnel</argument><argument/>\
    <argument>4100</argument></application-desc></jnlp>";
const CHALLENGE: &str = "<challenge><inputstr>ab12</inputstr><respmsg>Code</respmsg></challenge>";
const POLICY: &str =
    "<policy><gateways><external><list><entry name=\"gw.example\"/></list></external></gateways></policy>";
const COOKIE: &str = "authcookie=aa&portal=GW&user=test&computer=host-1";

#[test]
fn either_interface_is_found() {
    let (result, forms) = against(
        "h",
        &[
            ("global-protect/prelogin", 200, NO_PORTAL),
            ("ssl-vpn/prelogin", 200, PRELOGIN),
            ("ssl-vpn/login", 200, JNLP),
        ],
    );
    assert_eq!(
        (result, forms),
        (Ok(COOKIE.to_owned()), vec!["_login".to_owned()])
    );
    let (result, _) = against(
        "h",
        &[
            ("global-protect/prelogin", 200, NO_PORTAL),
            ("ssl-vpn/prelogin", 200, NO_GATEWAY),
        ],
    );
    let text = "Server is neither a GlobalProtect portal nor a gateway.";
    assert_eq!(result, Err(text.to_owned()));
}

#[test]
fn wrong_credentials_are_asked_again_and_challenges_answered() {
    let (result, forms) = against(
        "h/gateway",
        &[
            ("ssl-vpn/prelogin", 200, PRELOGIN),
            ("ssl-vpn/login", 512, "no"),
            ("ssl-vpn/login", 200, CHALLENGE),
            ("ssl-vpn/login", 512, "no"),
            ("ssl-vpn/login", 200, JNLP),
        ],
    );
    assert_eq!(result, Ok(COOKIE.to_owned()));
    assert_eq!(forms, ["_login", "_login", "_challenge", "_challenge"]);
}

#[test]
fn the_gateway_asks_again_when_the_portals_credentials_do_not_do() {
    let (result, forms) = against(
        "h/portal",
        &[
            ("global-protect/prelogin", 200, PRELOGIN),
            ("global-protect/getconfig", 200, POLICY),
            ("ssl-vpn/login", 512, "no"),
            ("ssl-vpn/prelogin", 200, PRELOGIN),
            ("ssl-vpn/login", 200, JNLP),
        ],
    );
    assert_eq!(result, Ok(COOKIE.to_owned()));
    assert_eq!(forms, ["_login", "_portal", "_login"]);
    // A one-time code cannot be repeated.
    let (result, _) = against(
        "h/portal",
        &[
            ("global-protect/prelogin", 200, PRELOGIN),
            ("global-protect/getconfig", 200, CHALLENGE),
            ("global-protect/getconfig", 200, POLICY),
            ("ssl-vpn/prelogin", 200, PRELOGIN),
            ("ssl-vpn/login", 200, JNLP),
        ],
    );
    assert_eq!(result, Ok(COOKIE.to_owned()));
}

#[test]
fn endless_rounds_end() {
    let mut bodies = vec![("ssl-vpn/prelogin", 200, PRELOGIN)];
    bodies.extend([("ssl-vpn/login", 200, CHALLENGE); 100]);
    let (result, forms) = against("h/gateway", &bodies);
    assert!(result.is_err_and(|error| error.contains("again and again")));
    assert!(forms.len() < 30);
    let mut bodies = vec![("ssl-vpn/prelogin", 200, PRELOGIN)];
    bodies.extend([("ssl-vpn/login", 512, "no"); 100]);
    assert!(against("h/gateway", &bodies).0.is_err());
}

#[test]
fn a_browser_sign_in_is_explained() {
    let body = "<prelogin-response><saml-auth-method>REDIRECT</saml-auth-method><saml-request>aHR0cHM6Ly9pZHAuZXhhbXBsZS8=</saml-request></prelogin-response>";
    let page = "https://idp.example/";
    let signed_in = [("ssl-vpn/prelogin", 200, body), ("ssl-vpn/login", 200, JNLP)];
    let outcome = log_in("h/gateway", &signed_in);
    assert_eq!(outcome.asked, [page]);
    assert_eq!(outcome.result, Ok(COOKIE.to_owned()));
    assert!(
        outcome.sent[1].ends_with("&user=test&prelogin-cookie=C%2b%3d"),
        "{:?}",
        outcome.sent
    );
    // The gateway behind a portal wants a sign-in of its own, unless the portal gave a cookie.
    let policy = |cookie: &str| {
        format!(
            "<policy>{cookie}<gateways><external><list><entry name=\"g\"/></list></external></gateways></policy>"
        )
    };
    let (without, with) = (
        policy(""),
        policy("<portal-userauthcookie>PC</portal-userauthcookie>"),
    );
    let portal = [
        ("global-protect/prelogin", 200, body),
        ("global-protect/getconfig", 200, &without),
    ];
    let (result, asked) = against("h", &[&portal[..], &signed_in].concat());
    assert_eq!((result.is_ok(), asked.len()), (true, 3), "{asked:?}");
    let portal = [
        ("global-protect/prelogin", 200, body),
        ("global-protect/getconfig", 200, &with),
    ];
    let (result, asked) = against("h", &[&portal[..], &signed_in[1..]].concat());
    assert_eq!((result.is_ok(), asked.len()), (true, 2), "{asked:?}");
    // A cookie that the gateway refuses stands for nothing: no password is asked for.
    let refused = [portal[0], portal[1], ("ssl-vpn/login", 512, "")];
    let (result, asked) = against("h", &[&refused[..], &signed_in].concat());
    assert_eq!((result.is_ok(), asked.len()), (true, 3), "{asked:?}");
    assert!(asked[2].starts_with(page), "{asked:?}");
    // One that is refused is asked for again.
    let refused = [signed_in[0], ("ssl-vpn/login", 512, "")];
    let (result, asked) = against("h/gateway", &[&refused[..], &signed_in].concat());
    assert_eq!((result.is_ok(), asked.len()), (true, 2), "{asked:?}");
    let mut refusing = Login::new(LoginConfig {
        server: ServerUrl::parse("h/gateway").unwrap(),
        client: client(),
        external_auth: false,
        passwords: true,
    });
    refusing.start().unwrap();
    let error = refusing
        .handle_response(Response::new(200, "OK").with_body(body))
        .unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("SAML REDIRECT authentication is required via https://idp.example/"),
        "{error}"
    );
    // Done elsewhere, its result goes into the field that the user names.
    let outcome = log_in(
        "h/gateway:prelogin-cookie",
        &[("ssl-vpn/prelogin", 200, body), ("ssl-vpn/login", 200, JNLP)],
    );
    assert_eq!(outcome.result, Ok(COOKIE.to_owned()));
    assert!(
        outcome.sent[1].ends_with("&user=test&prelogin-cookie=pw"),
        "{:?}",
        outcome.sent
    );
}

/// A code of a software token answers a challenge after a password, and no code comes after a code.
#[test]
fn codes_and_passwords_take_turns() {
    let kinds = |prelogin: &str| {
        let mut login = login_at("h/gateway");
        login.start().unwrap();
        let mut body = prelogin;
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let response = Response::new(200, "OK").with_body(body);
            let Step::Form(form) = login.handle_response(response).unwrap() else {
                panic!("no form");
            };
            kinds.push(form.fields[1].kind.clone());
            login.handle_form(fill(form, "x")).unwrap();
            body = CHALLENGE;
        }
        kinds
    };
    use FieldKind::{Password, Token};
    assert_eq!(kinds(PRELOGIN), [Password, Token, Password]);
    let label = "<prelogin-response><password-label>Passcode</password-label></prelogin-response>";
    assert_eq!(kinds(label), [Token, Password, Token]);
}

/// Only prelogin may be somewhere else, never without TLS, and a new host gets no cookies.
#[test]
fn redirects() {
    let redirect = |to: &str| Response::new(302, "Found").with_header("Location", to);
    let sent = |step: Step| match step {
        Step::Exchange(exchange) => {
            let request = exchange.request;
            assert_eq!(
                (request.method.as_str(), &request.body[..]),
                ("POST", &b"cas-support=yes"[..])
            );
            assert_eq!(request.headers.get("Host"), Some(&*exchange.server.host_header()));
            let cookie = request.headers.get("Cookie").map(str::to_owned);
            (exchange.server.host_header(), request.target, cookie)
        }
        other => panic!("{other:?}"),
    };
    let to = |host: &str, target: &str, cookie: Option<&str>| {
        (host.to_owned(), target.to_owned(), cookie.map(str::to_owned))
    };
    let standard = "tmp=tmp&clientVer=4100&clientos=Linux";
    let mut login = login_at("h");
    login.start().unwrap();
    let first = redirect("here.esp?x").with_header("Set-Cookie", "a=b; path=/");
    let step = login.handle_response(first).unwrap();
    assert_eq!(sent(step), to("h", "/global-protect/here.esp?x", Some("a=b")));
    let step = login
        .handle_response(redirect("https://other:8443/y/z.esp"))
        .unwrap();
    assert_eq!(sent(step), to("other:8443", "/y/z.esp", None));
    let step = login.handle_response(redirect("/")).unwrap();
    assert_eq!(
        sent(step),
        to(
            "other:8443",
            &format!("/global-protect/prelogin.esp?{standard}"),
            None
        )
    );
    login.handle_response(redirect("/portal.esp")).unwrap();
    let nowhere = Response::new(200, "OK").with_body(NO_PORTAL);
    let step = login.handle_response(nowhere).unwrap();
    assert_eq!(
        sent(step),
        to("other:8443", &format!("/ssl-vpn/prelogin.esp?{standard}"), None)
    );
    let error = login.handle_response(redirect("http://other/x.esp")).unwrap_err();
    assert!(error.to_string().contains("http://other/x.esp"), "{error}");

    let mut login = login_at("h");
    login.start().unwrap();
    let followed = (0..100).take_while(|_| login.handle_response(redirect("/x.esp")).is_ok());
    assert_eq!(followed.count(), 10);

    let mut login = login_at("h/gateway");
    login.start().unwrap();
    let Step::Form(form) = login
        .handle_response(Response::new(200, "OK").with_body(PRELOGIN))
        .unwrap()
    else {
        panic!("no form");
    };
    login.handle_form(fill(form, "pw")).unwrap();
    let error = login
        .handle_response(redirect("https://other/ssl-vpn/login.esp"))
        .unwrap_err();
    assert_eq!(error.to_string(), "Unexpected 302 result from server");
}

#[test]
fn a_portal_that_knows_no_gateway() {
    for policy in [
        "<policy/>",
        "<policy><has-config>no</has-config><user-group-loaded>yes</user-group-loaded>\
            <portal-userauthcookie>empty</portal-userauthcookie></policy>",
        "<policy><gateways><external><list><entry name=\"not a host\"/></list></external></gateways></policy>",
    ] {
        let (result, _) = against(
            "h/portal",
            &[
                ("global-protect/prelogin", 200, PRELOGIN),
                ("global-protect/getconfig", 200, policy),
            ],
        );
        let text = "GlobalProtect portal configuration lists no gateway servers.";
        assert_eq!(result, Err(text.to_owned()));
    }
}

/// What the portal gave and what was answered there goes to the gateway, which may ask for more
/// (`specs/globalprotect.md` §5.3).
#[test]
fn challenges_at_portal_and_gateway() {
    let policy = |cookie: &str| POLICY.replace("<policy>", &format!("<policy>{cookie}"));
    let with = policy("<portal-userauthcookie>P%C</portal-userauthcookie>");
    let portal = [
        ("global-protect/prelogin", 200, PRELOGIN),
        ("global-protect/getconfig", 200, CHALLENGE),
        ("global-protect/getconfig", 200, &with),
    ];
    let other = CHALLENGE.replace("ab12", "cd34");
    let gateway = [
        ("ssl-vpn/login", 200, other.as_str()),
        ("ssl-vpn/login", 512, ""),
        ("ssl-vpn/login", 200, JNLP),
    ];
    let outcome = log_in("h/portal", &[&portal[..], &gateway].concat());
    assert_eq!(outcome.result, Ok(COOKIE.to_owned()));
    let forms = ["_login", "_challenge", "_portal", "_challenge", "_challenge"];
    assert_eq!(outcome.asked, forms);
    let cookie = "&portal-userauthcookie=P%25C&";
    for (at, input) in [(3, "ab12"), (4, "cd34"), (5, "cd34")] {
        let sent = &outcome.sent[at];
        let end = format!("{cookie}inputStr={input}&user=test&passwd=pw");
        assert!(
            sent.contains("&server=gw.example&") && sent.ends_with(&end),
            "{sent}"
        );
    }
    assert!(
        outcome.sent[..3]
            .iter()
            .all(|sent| !sent.contains("userauthcookie"))
    );
    // `empty` is no cookie, and without one the answer of a challenge is worth nothing elsewhere.
    let without = policy("<portal-userauthcookie>empty</portal-userauthcookie>");
    let portal = [portal[0], portal[1], ("global-protect/getconfig", 200, &without)];
    let gateway = [("ssl-vpn/prelogin", 200, PRELOGIN), ("ssl-vpn/login", 200, JNLP)];
    let outcome = log_in("h/portal", &[&portal[..], &gateway].concat());
    assert_eq!(outcome.result, Ok(COOKIE.to_owned()));
    assert!(outcome.sent.iter().all(|sent| !sent.contains("userauthcookie")));
    assert!(!outcome.sent[4].contains("inputStr"), "{}", outcome.sent[4]);
    // Any other refusal of the gateway ends the login.
    let refused = "<response status=\"error\"><error>Invalid computer</error></response>";
    let gateway = [("ssl-vpn/login", 200, refused)];
    let (result, _) = against(
        "h/portal",
        &[&portal[..2], &[("getconfig", 200, &*with)], &gateway].concat(),
    );
    assert_eq!(result, Err("Invalid computer".to_owned()));
}
