use culvert_lab::Make;

use crate::Scene;
use crate::files::{issue, make_key};

/// The server knows the root only: the client has to send the authority in between, wherever it
/// finds it.
#[test]
fn intermediate_authorities() {
    let scene = Scene::new(&[("auth", "certificate")]);
    let fixture = &scene.fixture;
    for name in ["between", "alice"] {
        make_key(fixture, name, "EC -pkeyopt ec_paramgen_curve:P-256");
    }
    issue(
        fixture,
        "between",
        "client-ca",
        60,
        "basicConstraints=critical,CA:TRUE",
    );
    issue(fixture, "alice", "between", 60, "extendedKeyUsage=clientAuth");
    let read = |name: &str| std::fs::read_to_string(fixture.path(name)).unwrap();
    fixture.write_file(
        "chain.pem",
        &[read("client-ca.pem"), read("between.pem"), read("alice.pem")].concat(),
    );
    fixture.write_file("authorities.pem", &[read("ca.pem"), read("between.pem")].concat());
    fixture.openssl(
        "pkcs12 -export -inkey alice.key -in alice.pem -certfile between.pem -passout pass:x -out alice.p12",
    );
    for (arguments, sends) in [
        (&["-c", "alice.pem"][..], false),
        (&["-c", "chain.pem"], true),
        (&["-c", "alice.pem", "--cafile", "authorities.pem"], true),
        (&["-c", "alice.p12", "-p", "x"], true),
    ] {
        let arguments = [arguments, &["-k", "alice.key", "-v"]].concat();
        for client in [Make::Real, Make::Culvert] {
            let login = scene.log_in(client, &arguments, "");
            let said: Vec<&str> = login
                .stderr
                .lines()
                .filter(|line| line.contains("client certificate '") || line.contains("supporting CA"))
                .collect();
            let mut expected = vec!["Using client certificate 'alice'"];
            expected.extend(sends.then_some("Adding supporting CA 'between'"));
            assert_eq!(said, expected, "{client:?} {arguments:?}: {}", login.stderr);
            assert_eq!(
                login.code == 0,
                sends,
                "{client:?} {arguments:?}: {}",
                login.stderr
            );
        }
    }
}
