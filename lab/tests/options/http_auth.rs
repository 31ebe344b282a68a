//! A gateway that asks for HTTP authentication, played by `openssl s_server`.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Child, Stdio};

use culvert_lab::{Client, Fixture, Make, Process, World, wait};

const CHALLENGE: &str = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 0\r\n\r\n";

/// Ends with the test, however that ends.
struct Gateway(Child);

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped_already = self.0.wait();
    }
}

/// `--token-mode=oidc`, with further `options`: the token is sent when the gateway asks for it, once.
fn bearer_token(options: &[&str]) {
    let (world, fixture) = (World::new(), Fixture::new());
    let path = |name: &str| fixture.path(name).display().to_string();
    let mut command = world.server.command("openssl");
    command
        .args(["s_server", "-quiet", "-accept", "443"])
        .args(["-cert", &path("server-cert.pem"), "-key", &path("server-key.pem")])
        .stdin(Stdio::piped())
        .stdout(File::create(fixture.path("gateway.out")).unwrap());
    let mut gateway = Gateway(command.spawn().unwrap());
    let mut say = gateway.0.stdin.take().unwrap();
    wait::until("the gateway", || {
        let sockets = world.server.run("ss", &["-tlnH", "sport", "=", "443"]);
        (!sockets.is_empty()).then_some(())
    });

    let (ca, token) = (path("ca.pem"), path("token"));
    fs::write(&token, "t0ken.of.alice\n").unwrap();
    let secret = format!("@{token}");
    let mut arguments = vec![
        "--cafile",
        &ca,
        "--token-mode=oidc",
        "--token-secret",
        &secret,
        "--cookieonly",
    ];
    arguments.extend(options);
    let command = Client::bare(Make::Culvert, &world, &arguments);
    let mut client = Process::start(command, fixture.dir(), "client", None);
    let received = |text: &str| {
        wait::until(&format!("the gateway to receive '{text}'"), || {
            let said = fs::read_to_string(fixture.path("gateway.out")).unwrap();
            said.contains(text).then_some(said)
        })
    };
    let first = received("</config-auth>");
    assert!(!first.contains("Authorization"), "{first}");
    write!(say, "{CHALLENGE}").unwrap();
    received("POST / HTTP/1.1\r\nAuthorization: Bearer t0ken.of.alice\r\nHost: vpn.test\r\n");
    write!(say, "{CHALLENGE}").unwrap();
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    let stderr = client.stderr();
    assert!(
        stderr.contains("\nNo more authentication methods to try\n")
            && stderr.contains(
                "\nAttempting HTTP Bearer authentication to server 'vpn.test'\nPOST https://vpn.test/\n"
            )
            && stderr.ends_with("Failed to complete authentication\n"),
        "{stderr}"
    );
    assert!(!client.output().contains("t0ken"), "{}", client.output());
    let all = fs::read_to_string(fixture.path("gateway.out")).unwrap();
    assert_eq!(all.matches("Authorization").count(), 1, "{all}");
}

#[test]
fn our_client_sends_its_bearer_token() {
    bearer_token(&[]);
    bearer_token(&["--http-auth=digest,BEARER"]);
}
