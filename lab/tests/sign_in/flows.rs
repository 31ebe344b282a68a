//! Logins of the real client and ours with the same gateway and the same input: what they ask,
//! say, send and print.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use culvert_lab::fixture::SERVER_NAME;
use culvert_lab::gateway::Gateway;
use culvert_lab::net::SERVER_V4;
use culvert_lab::{Fixture, Make, Process, World};
use culvert_wire::http::Response;

use crate::{comparable, document};

const NAME: &str = "<input type='text' name='username' label='Username:'/>";
const PASSWORD: &str = "<input type='password' name='password' label='Password:'/>";

/// What the gateway answers, in order, and what the user does.
struct Flow {
    name: &'static str,
    answers: Vec<Response>,
    arguments: &'static [&'static str],
    input: &'static str,
    /// The user's server has this path.
    path: &'static str,
}

fn flow(name: &'static str, answers: Vec<Response>, arguments: &'static [&'static str]) -> Flow {
    Flow {
        name,
        answers,
        arguments,
        input: "joe\nsecret\n",
        path: "",
    }
}

impl Flow {
    fn typed(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }
}

fn whole(content: &str) -> Response {
    document(&format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"auth-request\">\
         <version who=\"sg\">0.1(1)</version>{content}</config-auth>"
    ))
}

/// A form with these fields.
fn form(fields: &str) -> Response {
    shown("<message>Please enter.</message>", fields)
}

fn shown(texts: &str, fields: &str) -> Response {
    whole(&format!(
        "<auth id='main'>{texts}<form method='post' action='/auth'>{fields}</form></auth>"
    ))
}

fn login_form() -> Response {
    form(&format!("{NAME}{PASSWORD}"))
}

fn done() -> Response {
    whole("<auth id='success'><title>SSL VPN Service</title></auth>")
        .with_header("Set-Cookie", "webvpn=ABCDEF; Secure; HttpOnly")
}

fn refusal(status: u16) -> Response {
    Response::new(status, "No").with_body("no")
}

fn elsewhere(location: &str) -> Response {
    Response::new(302, "Found").with_header("Location", location)
}

fn groups() -> Response {
    form(&format!(
        "{NAME}{PASSWORD}<select name='group_list' label='Group:'><option value='a' selected='true'>Alpha</option>\
         <option value='b'>Beta</option><option value='ab'>Alphabet</option></select>"
    ))
}

fn texts_and_retries() -> Vec<Flow> {
    let again = || {
        let texts = "<banner>Be &lt;good&gt;</banner><message param1='one' param2='two'>%s, %s, %s, %d</message>\
             <error param1='x'>Login failed: %s.</error>";
        shown(texts, &format!("{NAME}{PASSWORD}"))
    };
    let twice = "joe\nsecret\njoe\nother\n";
    vec![
        flow("plain", vec![login_form(), done()], &[]),
        flow("-vvv", vec![login_form(), done()], &["-vvv"]),
        flow("--authenticate", vec![login_form(), done()], &["--authenticate"]).at("group/x?y"),
        flow("--timestamp", vec![login_form(), done()], &["--timestamp"]),
        flow("error", vec![login_form(), again(), done()], &[]).typed(twice),
        flow("error -q", vec![login_form(), again(), done()], &["-q"]).typed(twice),
        flow(
            "the user's name is sent again",
            vec![login_form(), again(), done()],
            &["-u", "me", "--passwd-on-stdin"],
        )
        .typed("first\nsecond\n"),
        flow("nobody to ask", vec![login_form()], &["--non-inter"]),
        flow(
            "answers but no terminal",
            vec![login_form(), done()],
            &["--non-inter", "--passwd-on-stdin", "-u", "me"],
        )
        .typed("secret\n"),
        flow("no passwords", vec![login_form()], &["--no-passwd"]),
        flow(
            "nothing to ask",
            vec![shown("<message>Go away</message>", "")],
            &[],
        ),
        flow(
            "nothing to ask, but an answer is wanted",
            vec![shown("<authentication-complete/>", ""), done()],
            &[],
        ),
    ]
}

fn fields() -> Vec<Flow> {
    let colour = "<select name='color' label='Colour:'><option value='r'>Red</option><option value='g'>Green</option></select>";
    let select = || form(&format!("{NAME}{PASSWORD}{colour}"));
    let second = "<select name='group_list' label='Group:'><option value='a' second-auth='1' secondary_username='jim' \
         secondary_username_editable='false'>A</option></select>";
    let second = || {
        form(&format!(
            "{second}{NAME}{PASSWORD}<input type='text' name='secondary_username' label='Second:' second-auth='1'/>\
             <input type='password' name='secondary_password' label='Second password:' second-auth='1'/>"
        ))
    };
    let challenge = |fields: &str| {
        whole(&format!(
            "<auth id='challenge'><message>More.</message><form method='post' action='more'>{fields}</form></auth>"
        ))
    };
    let change = "<input type='password' name='new_password' label='New:'/><input type='password' name='verify_password' label='Again:'/>";
    let pin = "<input type='password' name='whichpin' label='PIN:'/><input type='password' name='verify_pin' label='Again:'/>";
    let three = "joe\nsecret\nthree\nthree\n";
    vec![
        flow("select", vec![select(), done()], &[]).typed("green\njoe\nsecret\n"),
        flow("select -F", vec![select(), done()], &["-F", "main:color=Green"]),
        flow(
            "select wrong -F",
            vec![select(), done()],
            &["-F", "main:color=Blue"],
        )
        .typed("Red\njoe\nsecret\n"),
        flow(
            "all -F",
            vec![login_form(), done()],
            &["-F", "main:username=x", "-F", "main:password=y"],
        )
        .typed(""),
        flow(
            "answer",
            vec![
                login_form(),
                challenge("<input type='password' name='answer' label='Answer:'/>"),
                done(),
            ],
            &[],
        )
        .typed("joe\nsecret\n42\n"),
        flow("new password", vec![login_form(), challenge(change), done()], &[]).typed(three),
        flow("new PIN", vec![login_form(), challenge(pin), done()], &[]).typed(three),
        flow("markup", vec![login_form(), done()], &[]).typed("j<&>\"'\ns a%+~\u{e9}\n"),
        flow(
            "markup without XML",
            vec![login_form(), done()],
            &["--no-xmlpost"],
        )
        .typed("j<&>\"'\ns a%+~.-_\u{e9}\n"),
        flow("second user name", vec![second(), second(), done()], &[])
            .typed("joe\nsecret\nthird\n")
            .at("auth"),
        flow(
            "hidden and nested",
            vec![
                form(&format!(
                    "{NAME}<p/>{PASSWORD}<input type='hidden' name='h' value='1&amp;2'/><select name='none'/>"
                )),
                done(),
            ],
            &[],
        ),
        flow("group", vec![groups(), groups(), done()], &[])
            .typed("Beta\njoe\nsecret\n")
            .at("auth"),
        flow("group that was selected", vec![groups(), groups(), done()], &[])
            .typed("Alpha\njoe\nsecret\n")
            .at("auth"),
        flow("group in steps", vec![groups(), groups(), done()], &[])
            .typed("Al\nnone\nb\njoe\nsecret\n")
            .at("auth"),
        flow(
            "group -F",
            vec![groups(), groups(), done()],
            &["-F", "main:group_list=alphab"],
        )
        .at("auth"),
    ]
}

fn odd_servers() -> Vec<Flow> {
    let wants_certificate = || whole("<client-cert-request></client-cert-request>");
    let cookies = || {
        login_form()
            .with_header("Set-Cookie", "a=1; path=/")
            .with_header("Set-Cookie", "b=x=y")
    };
    let opaque = format!(
        "<opaque is-for='sg'><tunnel-group>X</tunnel-group><hash>1&amp;2</hash></opaque>\
         <auth id='main'><form method='post' action='/auth'>{NAME}{PASSWORD}</form></auth>"
    );
    vec![
        flow("403", vec![refusal(403)], &[]),
        flow(
            "certificate",
            vec![wants_certificate(), login_form(), done()],
            &[],
        ),
        flow(
            "host scan",
            vec![whole(
                "<host-scan><host-scan-ticket>T</host-scan-ticket><host-scan-token>K</host-scan-token>\
            <host-scan-base-uri>/b</host-scan-base-uri><host-scan-wait-uri>/w</host-scan-wait-uri></host-scan>\
            <auth id='main'><form method='post' action='/auth'/></auth>",
            )],
            &[],
        ),
        flow(
            "cookies",
            vec![
                cookies(),
                login_form().with_header("Set-Cookie", "a=; path=/"),
                done(),
            ],
            &[],
        )
        .typed("joe\nsecret\njoe\nother\n"),
        flow("opaque", vec![whole(&opaque), done()], &[]),
        flow(
            "closing",
            vec![login_form().with_header("Connection", "close"), done()],
            &["-v"],
        ),
        flow(
            "new connections",
            vec![login_form().with_header("Connection", "close"), refusal(500)],
            &[],
        ),
        flow(
            "redirected answer",
            vec![login_form(), elsewhere("/other"), login_form(), done()],
            &[],
        )
        .typed("joe\nsecret\njoe\nother\n"),
        flow("mobile", vec![login_form(), done()], &["--os=android"]),
    ]
}

/// What a program leaves behind, but for what is random or its own: keys, times, key exchange.
fn said(text: &str) -> String {
    let mut all = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        for (from, to) in [
            ("openconnect_strapkey=", ";"),
            ("-(ECDHE-", ")"),
            ("[20", "]"),
            ("Pubkey: ", "\n"),
        ] {
            if let Some((before, after)) = line.split_once(from) {
                let rest = after.split_once(to).map_or("", |(_, rest)| rest);
                line = format!("{before}{from}*{rest}");
            }
        }
        all.push_str(&line);
        all.push('\n');
    }
    all
}

struct Table {
    world: World,
    fixture: Fixture,
    gateway: Gateway,
    answers: Arc<Mutex<VecDeque<Response>>>,
}

impl Table {
    fn new() -> Self {
        let (world, fixture) = (World::new(), Fixture::new());
        let answers: Arc<Mutex<VecDeque<Response>>> = Arc::default();
        let left = Arc::clone(&answers);
        let gateway = Gateway::start(&world, &fixture, move |_| {
            left.lock().unwrap().pop_front().unwrap_or_else(|| refusal(500))
        });
        Self {
            world,
            fixture,
            gateway,
            answers,
        }
    }

    /// Everything about one login.
    fn run(&self, make: Make, flow: &Flow) -> String {
        *self.answers.lock().unwrap() = flow.answers.clone().into();
        let before = self.gateway.requests().len();
        let mut command = self.world.client.command(make.program("openconnect"));
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("--cafile")
            .arg(self.fixture.path("ca.pem"))
            .args(["--resolve", &format!("{SERVER_NAME}:{SERVER_V4}")])
            .args(["--useragent", "Test", "--version-string", "v1", "--cookieonly"])
            .args(flow.arguments)
            .arg(format!("https://{SERVER_NAME}/{}", flow.path));
        let finished = Process::start(command, self.fixture.dir(), "flow", Some(flow.input)).finish();
        let requests = self.gateway.requests();
        let requests: Vec<_> = requests[before..].iter().map(comparable).collect();
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}--- requests\n{}",
            finished.code,
            said(&finished.stdout),
            said(&finished.stderr),
            requests.join("\n\n")
        )
    }
}

#[test]
fn logins_of_both() {
    let table = Table::new();
    let mut differences = Vec::new();
    for flow in [texts_and_retries(), fields(), odd_servers()]
        .into_iter()
        .flatten()
    {
        let [real, ours] = [Make::Real, Make::Culvert].map(|make| table.run(make, &flow));
        if real != ours {
            differences.push(format!("=== {}\nREAL {real}\nOURS {ours}", flow.name));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
