//! The transcripts of real sessions: every request must be equal to that of openconnect 9.21, octet by
//! octet.

use culvert_globalprotect::client::{
    Cookie, Gateway, HipAnswer, Login, parse_config, parse_hip_check, parse_success,
};
use culvert_login::client::{Login as _, Step};
use culvert_wire::http::{Request, Response, ResponseReader};
use culvert_wire::url::ServerUrl;

use super::{client, fill, login_at};

const TLS: &str = include_str!("../vectors/session-gateway-tls-reconnect-9.21.txt");
const ESP: &str = include_str!("../vectors/session-portal-hip-esp-9.21.txt");

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
    let (gateway, forms) = log_in(&mut transcript, login_at("https://192.0.2.1/gateway"), "test");
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
    let (gateway, forms) = log_in(
        &mut transcript,
        login_at("https://192.0.2.1/portal"),
        "s3cret &+%/é",
    );
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
    let text = include_str!("../vectors/hip-script.txt");
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
