use culvert_lab::fixture::USER;
use culvert_lab::{Fixture, Make, PASSWORD};

use crate::Scene;
use crate::files::make_user;

/// Certificate and password, both wanted. The first line of standard input opens the key, whoever
/// it was meant for, as with the real client.
#[test]
fn certificate_and_password() {
    let users = Fixture::new();
    let plain = format!("plain[passwd={}]", users.path("ocpasswd").display());
    let scene = Scene::new(&[("auth", "certificate"), ("auth", &plain)]);
    make_user(&scene.fixture, USER, 90);
    scene
        .fixture
        .openssl("pkcs8 -topk8 -in alice.key -passout pass:opensesame -out locked");
    let arguments = ["-c", "alice.pem", "-k", "locked", "-u", USER, "--passwd-on-stdin"];
    for client in [Make::Real, Make::Culvert] {
        let both = format!("opensesame\n{PASSWORD}\n");
        let login = scene.log_in(client, &arguments, &both);
        assert_eq!(login.code, 0, "{client:?}: {}", login.stderr);
        let wrong = scene.log_in(client, &arguments, "opensesame\nwrong\n");
        assert_eq!(wrong.code, 1, "{client:?}: {}", wrong.stderr);
        let alone = scene.log_in(
            client,
            &["-u", USER, "--passwd-on-stdin"],
            &format!("{PASSWORD}\n"),
        );
        assert_eq!(alone.code, 1, "{client:?}: {}", alone.stderr);
    }
}
