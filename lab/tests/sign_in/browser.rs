//! Single sign-on with an external browser.

use std::fs::{self, File};
use std::io::Write;

use culvert_lab::gateway::Gateway;
use culvert_lab::{Fixture, Make, Process, World, wait};
use culvert_wire::http::Request;

use super::wrap_token::wrap_token;
use super::{COMPLETE, body, comparable, document, login, same_requests, succeeds};

const FORM: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"auth-request\" aggregate-auth-version=\"2\">\n\
    <opaque is-for=\"sg\"><tunnel-group>TG1</tunnel-group><auth-method>single-sign-on-v2</auth-method></opaque>\n\
    <auth id=\"main\"><title>Login</title><message param1=\"P1\" param2=\"P2\">Complete SSO %s and %s</message><banner></banner>\n\
    <sso-v2-login>https://vpn.test/+CSCOE+/saml/sp/login?tgname=TG1&amp;acsamlcap=v2</sso-v2-login>\n\
    <sso-v2-login-final>https://vpn.test/+CSCOE+/saml_ac_login.html</sso-v2-login-final>\n\
    <sso-v2-token-cookie-name>acSamlv2Token</sso-v2-token-cookie-name>\n\
    <sso-v2-error-cookie-name>acSamlv2Error</sso-v2-error-cookie-name>\n\
    <sso-v2-browser-mode>external</sso-v2-browser-mode>\n\
    <form><input type=\"sso\" name=\"sso-token\"></input></form></auth></config-auth>";
const PAGE: &str = "https://vpn.test/+CSCOE+/saml/sp/login?tgname=TG1&acsamlcap=v2";

struct Lab {
    gateway: Gateway,
    fixture: Fixture,
    world: World,
}

impl Lab {
    /// A gateway that wants a sign-in and leaves the wrapped token in the file `blob`.
    fn new() -> Self {
        Self::with_form(FORM.to_owned())
    }

    fn with_form(form: String) -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let blob = fixture.path("blob");
        let gateway = Gateway::start(&world, &fixture, move |request| {
            if body(request).contains("type=\"init\"") {
                let key = request.headers.get("X-AnyConnect-STRAP-DH-Pubkey").unwrap();
                let token = wrap_token(key, "Abc123TOKENxyz0987");
                let token = token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
                fs::write(&blob, token).unwrap();
                return document(&form);
            }
            document(COMPLETE)
        });
        Self {
            gateway,
            fixture,
            world,
        }
    }

    fn path(&self, name: &str) -> String {
        self.fixture.path(name).display().to_string()
    }

    /// What a browser brings to the client.
    fn visit(&self, target: &str) -> String {
        let url = format!("http://[::1]:29786{target}");
        let mut command = self.world.client.command("curl");
        let output = command.args(["-sig", "--max-time", "20", &url]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn blob(&self) -> String {
        fs::read_to_string(self.fixture.path("blob")).unwrap()
    }
}

/// The program gets the page as its only argument and comes back with the token, after two
/// requests that have nothing to do with it.
fn with_program(make: Make) -> (Vec<Request>, String) {
    let lab = Lab::new();
    let (blob, answers, page) = (lab.path("blob"), lab.path("answers"), lab.path("page"));
    let browser = format!(
        "printf '%s|' \"$@\" > {page}\necho noise\nfor target in /favicon.ico '/api/sso/!!' \"/api/sso/$(cat {blob})?return=https%3A%2F%2Fvpn.test%2Fdone%3Fa%3Db\"; do\n\
         for try in 1 2 3 4 5 6 7 8 9 10; do curl -sig \"http://[::1]:29786$target\" >> {answers} && break; sleep 0.2; done\ndone\n: > {answers}.all"
    );
    let browser = lab.fixture.write_script("browser", &browser);
    let arguments = ["--external-browser", browser.to_str().unwrap()];
    let mut client = login(make, &lab.world, &lab.fixture, &arguments, None);
    succeeds(&mut client);
    assert_eq!(fs::read_to_string(&page).unwrap(), format!("{PAGE}|"));
    // 9.01 mixes it with the result.
    let mixed = client.stdout().contains("noise");
    assert_eq!(mixed, make == Make::Real, "{}", client.output());
    wait::until("the last answer", || {
        lab.fixture.path("answers.all").exists().then_some(())
    });
    let answers = fs::read_to_string(&answers).unwrap();
    (lab.gateway.requests(), answers)
}

#[test]
fn both_clients_send_the_browsers_token() {
    let (real, real_answers) = with_program(Make::Real);
    let (ours, our_answers) = with_program(Make::Culvert);
    same_requests(&real, &ours);
    assert!(comparable(&ours[1]).contains("<sso-token>Abc123TOKENxyz0987</sso-token>"));
    assert_eq!(our_answers, real_answers);
    assert_eq!(our_answers.matches("404 Not Found").count(), 2);
    assert!(
        our_answers.contains("302 Found") && our_answers.contains("Location: https://vpn.test/done?a=b\r\n")
    );
}

/// No program: the page is named, and whatever browser comes is served. A token of somebody else
/// changes nothing, nor does a connection that says nothing.
#[test]
fn without_a_program_any_browser_will_do() {
    let lab = Lab::new();
    let mut client = login(Make::Culvert, &lab.world, &lab.fixture, &["--non-inter"], None);
    client.wait_for(PAGE);
    client.wait_for("Complete SSO P1 and P2");
    let mut silent = lab.world.client.command("bash");
    silent.args(["-c", "exec 3<>/dev/tcp/::1/29786; echo open; read -u 3"]);
    let mut silent = Process::start(silent, lab.fixture.dir(), "silent", None);
    silent.wait_for("open");
    let stranger = wrap_token(
        "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAhfmF/C2RDkoJ4+WmZ5pojpPLBUr321s32bluAKC1O0ZSn3ry5dxLS3aPKhaqHZaVvRfx1hZllLyiXxlMG5XlA==",
        "Abc123",
    );
    let stranger = stranger
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    assert!(lab.visit(&format!("/api/sso/{stranger}")).contains("404"));
    let good = lab.visit(&format!("/api/sso/{}", lab.blob()));
    assert!(
        good.starts_with("HTTP/1.1 200 OK\r\n") && good.contains("Success"),
        "{good}"
    );
    succeeds(&mut client);
}

/// The browser is on another machine: the user copies the address that it cannot open.
#[test]
fn the_address_can_be_pasted() {
    let lab = Lab::new();
    let pipe = lab.path("typed");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let program = Make::Culvert.program("openconnect").display().to_string();
    let script = format!(
        "exec {program} --cafile {} --resolve vpn.test:192.0.2.1 --cookieonly https://vpn.test/ < {pipe}",
        lab.path("ca.pem")
    );
    let script = lab.fixture.write_script("client", &script);
    let command = lab.world.client.command(script);
    let mut client = Process::start(command, lab.fixture.dir(), "client", None);
    let mut keyboard = File::options().write(true).open(&pipe).unwrap();
    client.wait_for("paste it here:");
    writeln!(keyboard, "what?\nhttp://localhost:29786/api/sso/{}", lab.blob()).unwrap();
    succeeds(&mut client);
    assert!(
        client.stderr().contains("That is not the result of the sign-in"),
        "{}",
        client.output()
    );
}

/// What a browser inside the client would do: a program brings the cookie instead.
#[test]
fn a_program_stands_in_for_a_browser_inside_the_client() {
    let lab = Lab::with_form(FORM.replace("<sso-v2-browser-mode>external</sso-v2-browser-mode>\n", ""));
    let browser = lab
        .fixture
        .write_script("browser", "echo Opening \"$1\"\necho acSamlv2Token=COOKIE0987");
    let arguments = ["--non-inter", "--external-browser", browser.to_str().unwrap()];
    succeeds(&mut login(
        Make::Culvert,
        &lab.world,
        &lab.fixture,
        &arguments,
        None,
    ));
    let reply = comparable(&lab.gateway.requests()[1]);
    assert!(reply.contains("<sso-token>COOKIE0987</sso-token>"), "{reply}");
    // Nobody can bring it.
    let mut alone = login(Make::Culvert, &lab.world, &lab.fixture, &["--non-inter"], None);
    assert_eq!(alone.exit_code(), 1);
    assert!(alone.stderr().contains("No SSO handler"), "{}", alone.output());
}
