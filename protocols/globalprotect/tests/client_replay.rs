//! The transcripts of real sessions, replayed against the client: every request must be equal to
//! that of openconnect 9.21, octet by octet.

#![allow(clippy::unwrap_used, clippy::panic)]

use culvert_globalprotect::client::{
    Client, ClientOs, Cookie, Gateway, HipAnswer, Login, LoginConfig, parse_config, parse_hip_check,
    parse_success,
};
use culvert_login::client::{Login as _, Returned, Step};
use culvert_vocab::{FieldKind, Form};
use culvert_wire::http::{Request, Response, ResponseReader};
use culvert_wire::url::ServerUrl;

const TLS: &str = include_str!("vectors/session-gateway-tls-reconnect-9.21.txt");
const ESP: &str = include_str!("vectors/session-portal-hip-esp-9.21.txt");

/// Requests and responses of a transcript, in order.
struct Transcript {
    exchanges: Vec<(String, String)>,
    next: usize,
}

impl Transcript {
    fn new(text: &str) -> Self {
        let exchanges = text
            .split("\n>>> conn ")
            .skip(1)
            .map(|exchange| {
                let (_, exchange) = exchange.split_once('\n').unwrap();
                let (request, response) = exchange.split_once("\n<<<").unwrap();
                let (_, response) = response.split_once('\n').unwrap();
                (request.to_owned(), response.to_owned())
            })
            .collect();
        Self { exchanges, next: 0 }
    }

    /// Compares a request with the next one, and gives the response.
    fn exchange(&mut self, request: &Request) -> Response {
        let (expected, response) = &self.exchanges[self.next];
        self.next += 1;
        let sent = String::from_utf8(request.to_bytes())
            .unwrap()
            .replace("\r\n", "\n");
        assert_eq!(sent.trim_end_matches('\n'), expected.trim_end_matches('\n'));
        read(response, &request.method)
    }

    fn is_over(&self) -> bool {
        self.next == self.exchanges.len()
    }
}

fn read(text: &str, method: &str) -> Response {
    if !text.starts_with("HTTP") {
        return Response::new(200, "tunnel");
    }
    let (head, body) = text.split_once("\n\n").unwrap();
    let wire = format!("{}\r\n\r\n{body}", head.replace('\n', "\r\n"));
    let mut reader = ResponseReader::new(method);
    match reader.handle_input(wire.as_bytes()).unwrap() {
        Some(response) => response,
        // The transcript ends without the last line end.
        None => reader.handle_input(b"\n").unwrap().unwrap(),
    }
}

fn client() -> Client {
    Client {
        os: ClientOs::new("linux-64"),
        computer: "host-1".into(),
        ipv6: true,
    }
}

fn login(url: &str) -> Login {
    Login::new(LoginConfig {
        server: ServerUrl::parse(url).unwrap(),
        client: client(),
        external_auth: true,
        passwords: true,
    })
}

fn fill(mut form: Form, password: &str) -> Form {
    for field in &mut form.fields {
        let value = match (&field.kind, field.name.as_str()) {
            (FieldKind::Select(choices), _) => choices[0].value.clone(),
            (FieldKind::Hidden, _) => continue,
            (_, "user") => "test".into(),
            _ => password.to_owned(),
        };
        field.value = Some(value.into());
    }
    form
}

/// Runs the login to its end.
fn log_in(transcript: &mut Transcript, mut login: Login, password: &str) -> (Gateway, Vec<String>) {
    let mut forms = Vec::new();
    let mut step = login.start();
    loop {
        step = match step.unwrap() {
            Step::Exchange(exchange) => login.handle_response(transcript.exchange(&exchange.request)),
            Step::Form(form) => {
                forms.push(form.id.clone());
                login.handle_form(fill(form, password))
            }
            other @ (Step::Browser(_) | Step::HostScan(_) | Step::Wait(_)) => panic!("{other:?}"),
            Step::Done(done) => {
                let gateway = Gateway {
                    server: done.server,
                    cookie: Cookie::parse(done.cookie.expose()).unwrap(),
                    client: client(),
                    app_version: login.portal().and_then(|portal| portal.version.clone()),
                };
                return (gateway, forms);
            }
        };
    }
}

#[test]
fn gateway_tls_reconnect() {
    let mut transcript = Transcript::new(TLS);
    let (gateway, forms) = log_in(&mut transcript, login("https://192.0.2.1/gateway"), "test");
    assert_eq!(forms, ["_login"]);
    let mut previous = None;
    for _ in 0..2 {
        let response = transcript.exchange(&gateway.config_request(previous.as_ref()));
        let granted = parse_config(&response, true).unwrap();
        assert!(granted.esp.is_err());
        let response = transcript.exchange(&gateway.hip_check_request(&granted.config));
        assert_eq!(parse_hip_check(&response), Ok(HipAnswer::NotNeeded));
        transcript.exchange(&gateway.tunnel_request(granted.tunnel_path.as_deref()));
        previous = Some(granted.config);
    }
    let response = transcript.exchange(&gateway.logout_request());
    assert_eq!(parse_success(&response), Ok(()));
    assert!(transcript.is_over());
}

#[test]
fn portal_with_host_report_and_esp() {
    let mut transcript = Transcript::new(ESP);
    let (gateway, forms) = log_in(&mut transcript, login("https://192.0.2.1/portal"), "s3cret &+%/é");
    assert_eq!(forms, ["_login", "_portal"]);
    let response = transcript.exchange(&gateway.config_request(None));
    let granted = parse_config(&response, true).unwrap();
    assert_eq!(granted.esp.as_ref().unwrap().parameters.port, 4501);
    let response = transcript.exchange(&gateway.hip_check_request(&granted.config));
    assert_eq!(parse_hip_check(&response), Ok(HipAnswer::Needed));
    let report = "<hip-report name=\"hip-report\"><md5-sum>x</md5-sum></hip-report>\n";
    let response = transcript.exchange(&gateway.hip_report_request(&granted.config, report));
    assert_eq!(parse_success(&response), Ok(()));
    let response = transcript.exchange(&gateway.logout_request());
    assert_eq!(parse_success(&response), Ok(()));
    assert!(transcript.is_over());
}

#[test]
fn arguments_of_the_script() {
    let text = include_str!("vectors/hip-script.txt");
    let second = text.split("case = ").nth(2).unwrap();
    let expected: Vec<_> = second
        .lines()
        .filter_map(|line| line.strip_prefix("argv = <")?.strip_suffix('>'))
        .collect();
    let gateway = Gateway {
        server: ServerUrl::parse("h").unwrap(),
        cookie: Cookie::parse(expected[1]).unwrap(),
        client: client(),
        app_version: None,
    };
    let body =
        "<response><ip-address>10.77.0.2</ip-address><ip-address-v6>fd77::2</ip-address-v6></response>";
    let granted = parse_config(&Response::new(200, "OK").with_body(body), true).unwrap();
    let arguments = gateway.hip_script_arguments(&granted.config);
    let arguments: Vec<_> = arguments.iter().map(|argument| argument.expose()).collect();
    assert_eq!(arguments, expected);
}

/// A login against bodies made up here: what comes out, and the forms that were asked.
fn against(url: &str, bodies: &[(&str, u16, &str)]) -> (Result<String, String>, Vec<String>) {
    let mut login = login(url);
    let mut bodies = bodies.iter();
    let mut forms = Vec::new();
    let mut step = login.start();
    loop {
        step = match step {
            Err(error) => return (Err(error.to_string()), forms),
            Ok(Step::Done(done)) => return (Ok(done.cookie.expose().to_owned()), forms),
            Ok(Step::Form(form)) => {
                forms.push(form.id.clone());
                login.handle_form(fill(form, "pw"))
            }
            Ok(Step::Browser(sign_in)) => {
                forms.push(sign_in.url);
                assert!(matches!(login.handle_browser("nonsense"), Returned::Stranger));
                match login.handle_browser(SIGNED_IN) {
                    Returned::Over { step, .. } => Ok(*step),
                    Returned::Stranger => panic!("the sign-in was not accepted"),
                }
            }
            Ok(other @ (Step::HostScan(_) | Step::Wait(_))) => panic!("{other:?}"),
            Ok(Step::Exchange(exchange)) => {
                let body = String::from_utf8(exchange.request.body.clone()).unwrap();
                if let Some((_, secret)) = body.split_once("&user=test&prelogin-cookie=") {
                    assert!(["C%2b%3d", "pw"].contains(&secret), "{body}");
                }
                let (path, status, body) = bodies.next().unwrap();
                assert!(
                    exchange.request.target.contains(path),
                    "{}",
                    exchange.request.target
                );
                login.handle_response(Response::new(*status, "x").with_body(*body))
            }
        };
    }
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
    let (result, asked) = against("h/gateway", &signed_in);
    assert!(asked[0].starts_with(page), "{asked:?}");
    assert_eq!(result, Ok(COOKIE.to_owned()));
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
    let (result, _) = against(
        "h/gateway:prelogin-cookie",
        &[("ssl-vpn/prelogin", 200, body), ("ssl-vpn/login", 200, JNLP)],
    );
    assert_eq!(result, Ok(COOKIE.to_owned()));
}

/// A code of a software token answers a challenge after a password, and no code comes after a code.
#[test]
fn codes_and_passwords_take_turns() {
    let kinds = |prelogin: &str| {
        let mut login = login("h/gateway");
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
