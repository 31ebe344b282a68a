//! GlobalProtect against a gateway that the test plays: reports about the host, sign-in with a
//! browser, the choice of a gateway, a login in two phases.

use std::fs;

use culvert_lab::gateway::Gateway;
use culvert_lab::{Fixture, Make, World};
use culvert_wire::http::{Request, Response};

use super::{body, document, login};

const JNLP: &str = "<jnlp><application-desc><argument>(null)</argument><argument>0123456789abcdef0123456789abcdef</argument>\
    <argument>ffffffffffffffffffffffffffffffffffffffff</argument><argument>GW-N</argument><argument>test</argument>\
    <argument>LDAP-auth</argument><argument>vsys1</argument><argument>%28empty_domain%29</argument><argument>(null)</argument>\
    <argument></argument><argument></argument><argument></argument><argument>tunnel</argument><argument>-1</argument>\
    <argument>4100</argument></application-desc></jnlp>";
const POLICY: &str = "<policy><portal-name>P1</portal-name><version>6.1.2-83      </version><gateways><external><list>\
    <entry name=\"unprio.test\"><description>Nowhere</description></entry>\
    <entry name=\"far.test\"><description>Berlin</description><priority-rule><entry name=\"DE\"><priority>1</priority></entry>\
    <entry name=\"Any\"><priority>5</priority></entry></priority-rule></entry>\
    <entry name=\"vpn.test\"><description>US West</description><priority-rule><entry name=\"US\"><priority>2</priority></entry></priority-rule></entry>\
    </list></external></gateways></policy>";
const SAML: &str = "<prelogin-response><region>US</region><saml-auth-method>REDIRECT</saml-auth-method>\
    <saml-request>aHR0cHM6Ly9pZHAuZXhhbXBsZS8=</saml-request></prelogin-response>";
/// `<saml-username>test</saml-username><prelogin-cookie>C+=</prelogin-cookie>`
const CALLBACK: &str = "globalprotectcallback:PHNhbWwtdXNlcm5hbWU+dGVzdDwvc2FtbC11c2VybmFtZT48cHJlbG9naW4tY29va2llPkMrPTwvcHJlbG9naW4tY29va2llPg==";

/// Logs everybody in, wants a report about the host, and grants no tunnel.
fn gateway(world: &World, fixture: &Fixture, prelogin: &'static str) -> Gateway {
    Gateway::start(world, fixture, move |request| {
        let target = request.target.split('?').next().unwrap_or_default();
        document(match target {
            "/global-protect/prelogin.esp" | "/ssl-vpn/prelogin.esp" => prelogin,
            "/global-protect/getconfig.esp" => POLICY,
            "/ssl-vpn/login.esp" => JNLP,
            "/ssl-vpn/getconfig.esp" => {
                "<response status=\"success\"><ip-address>10.77.0.2</ip-address><ip-address-v6>fd77::2</ip-address-v6>\
                 <ssl-tunnel-url>/ssl-tunnel-connect.sslvpn</ssl-tunnel-url><mtu>1400</mtu><timeout>3600</timeout></response>"
            }
            "/ssl-vpn/hipreportcheck.esp" => {
                "<response status=\"success\"><hip-report-needed>yes</hip-report-needed></response>"
            }
            "/ssl-vpn/hipreport.esp" | "/ssl-vpn/logout.esp" => "<response status=\"success\"/>",
            _ => return Response::new(502, "Bad Gateway").with_header("Connection", "close"),
        })
    })
}

const PRELOGIN: &str = "<prelogin-response><region>US</region></prelogin-response>";

/// A session up to the refused tunnel: what the program was given, and all requests.
fn report(make: Make, script: &str) -> (i32, String, Vec<Request>) {
    let (world, fixture) = (World::new(), Fixture::new());
    let gateway = gateway(&world, &fixture, PRELOGIN);
    let wrapper = fixture.write_script("hip", script);
    let arguments = [
        "--protocol=gp",
        "--usergroup=gateway",
        "--user=test",
        "--passwd-on-stdin",
        "--printcookie",
        "--local-hostname=pc",
        "--force-trojan=100",
        "--csd-wrapper",
        wrapper.to_str().unwrap(),
    ];
    let mut client = login(make, &world, &fixture, &arguments, Some("pw\n"));
    let code = client.exit_code();
    let seen = fs::read_to_string(fixture.path("hip.seen")).unwrap_or_default();
    (code, seen, gateway.requests())
}

fn reports(requests: &[Request]) -> Vec<String> {
    let reports = requests.iter();
    reports
        .filter(|request| request.target == "/ssl-vpn/hipreport.esp")
        .map(body)
        .collect()
}

/// Everything of a request that must be the same with both clients. The Debian one is older: it has
/// no body in prelogin and another version.
fn essence(request: &Request) -> String {
    let mut text = format!("{} {}\n", request.method, request.target);
    let is_prelogin = request.target.contains("prelogin.esp");
    for (name, value) in request.headers.iter() {
        let length = request.body.len();
        match name {
            "X-Pad" => assert_eq!(value, "0".repeat(64 * (1 + length / 64) - length)),
            "Content-Length" => assert_eq!(value, length.to_string()),
            "Content-Type" if is_prelogin => {}
            _ => text.push_str(&format!("{name}: {value}\n")),
        }
    }
    if !is_prelogin {
        text.push_str(&body(request).replace("app-version=5.1.5-8", "app-version=6.3.0-33"));
    }
    text
}

#[test]
fn both_clients_send_the_programs_report() {
    let script =
        "printf '<%s>\\n' \"$@\" > $0.seen; echo '<hip-report name=\"hip-report\">a&amp;b</hip-report>'";
    let (real, real_seen, real_requests) = report(Make::Real, script);
    let (ours, our_seen, our_requests) = report(Make::Culvert, script);
    assert_eq!((ours, our_seen.as_str()), (real, real_seen.as_str()));
    assert!(
        our_seen.contains("<--md5>\n") && our_seen.contains("<--client-ipv6>\n<fd77::2>\n"),
        "{our_seen}"
    );
    assert_eq!(reports(&our_requests), reports(&real_requests));
    assert_eq!(reports(&our_requests).len(), 1);
    let essences = |requests: &[Request]| requests.iter().map(essence).collect::<Vec<_>>();
    assert_eq!(essences(&our_requests), essences(&real_requests));
}

#[test]
fn a_program_that_fails_ends_the_session() {
    for make in [Make::Real, Make::Culvert] {
        let (code, _, requests) = report(make, "echo '<hip-report/>'; exit 1");
        assert_eq!((code, reports(&requests).len()), (1, 0), "{make:?}");
        let mut targets = requests.iter().map(|request| request.target.as_str());
        assert!(
            targets.any(|target| target == "/ssl-vpn/hipreportcheck.esp"),
            "{make:?}"
        );
        assert!(targets.all(|target| target == "/ssl-vpn/logout.esp"), "{make:?}");
    }
}

#[test]
fn a_program_stands_in_for_the_browser() {
    let (world, fixture) = (World::new(), Fixture::new());
    let gateway = gateway(&world, &fixture, SAML);
    let browser = fixture.write_script("browser", &format!("echo page \"$1\" >&2\necho {CALLBACK}"));
    let browser = browser.display().to_string();
    let arguments = [
        "--protocol=gp",
        "--usergroup=gateway",
        "--external-browser",
        &browser,
        "-vv",
        "--dump-http-traffic",
    ];
    let mut client = login(Make::Culvert, &world, &fixture, &arguments, None);
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert!(
        client.stderr().contains("page https://idp.example/"),
        "{}",
        client.output()
    );
    // What the program gave and the gateway answered are secrets.
    let said = client.stderr();
    for secret in ["0123456789abcdef", "C%2b%3d"] {
        assert!(said.contains("<elided>") && !said.contains(secret), "{said}");
    }
    assert!(
        client.stdout().starts_with("authcookie=0123456789abcdef"),
        "{}",
        client.output()
    );
    let login_request = gateway.requests().pop().unwrap();
    assert!(
        body(&login_request).ends_with("&user=test&prelogin-cookie=C%2b%3d"),
        "{login_request:?}"
    );
    // Without one, and with nobody to paste it, the page is named as by the real client.
    let arguments = ["--protocol=gp", "--usergroup=gateway"];
    for make in [Make::Real, Make::Culvert] {
        let mut client = super::login(make, &world, &fixture, &arguments, None);
        assert_eq!(client.exit_code(), 1, "{}", client.output());
        let named = "SAML REDIRECT authentication is required via https://idp.example/";
        assert!(client.output().contains(named), "{}", client.output());
    }
}

/// The list is in order of priority for the client's region and is kept; the chosen gateway gets
/// the credentials; what the first phase prints is enough for the second.
#[test]
fn a_gateway_of_the_portal_in_two_phases() {
    let (world, fixture) = (World::new(), Fixture::new());
    let gateway = gateway(&world, &fixture, PRELOGIN);
    let kept = fixture.path("gateways.xml").display().to_string();
    let arguments = [
        "--protocol=gp",
        "--user=test",
        "--passwd-on-stdin",
        "--authgroup=us",
        "--authenticate",
        "-x",
        &kept,
    ];
    let mut client = login(Make::Culvert, &world, &fixture, &arguments, Some("pw\n"));
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    let said = client.stderr();
    let place = |text: &str| said.find(text).unwrap_or_else(|| panic!("no {text}: {said}"));
    assert!(place("US West (vpn.test) [priority 2]") < place("Berlin (far.test) [priority 5]"));
    assert!(place("Berlin") < place("Nowhere (unprio.test) [unprioritized]"));
    let list = fs::read_to_string(&kept).unwrap();
    assert!(
        list.contains("<HostAddress>vpn.test/global-protect</HostAddress>"),
        "{list}"
    );
    assert!(list.find("US West") < list.find("Berlin"), "{list}");
    let result = client.stdout();
    let value = |name: &str| {
        let mut lines = result.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix("='"));
        line.and_then(|value| value.strip_suffix('\''))
            .unwrap_or_else(|| panic!("no {name}: {result}"))
    };
    assert_eq!(
        (value("HOST"), value("CONNECT_URL")),
        ("192.0.2.1", "https://vpn.test/")
    );
    let (_, cookie) = value("COOKIE").split_once('=').unwrap();
    let authcookie = cookie.split('&').next().unwrap();
    for make in [Make::Real, Make::Culvert] {
        let before = gateway.requests().len();
        let mut command = world.client.command(make.program("openconnect"));
        command
            .args([
                "--protocol=gp",
                "--cookie",
                value("COOKIE"),
                "--servercert",
                value("FINGERPRINT"),
            ])
            .args(["--resolve", value("RESOLVE"), "--no-dtls", value("CONNECT_URL")]);
        let finished = culvert_lab::Process::start(command, fixture.dir(), "second", None).finish();
        let requests = gateway.requests().split_off(before);
        let config = requests
            .iter()
            .find(|request| request.target == "/ssl-vpn/getconfig.esp");
        let config = config.map(body).unwrap_or_default();
        assert!(
            config.contains(&format!("&authcookie={authcookie}&")),
            "{make:?}: {config}"
        );
        assert!(finished.code == 1 || finished.code == 2, "{finished:?}");
    }
}
