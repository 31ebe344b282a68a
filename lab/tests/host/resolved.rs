//! The real systemd-resolved: it is told about the tunnel's servers and domains, and has forgotten
//! them after every kind of end.

use culvert_lab::client::DEVICE;
use culvert_lab::process::kill;
use culvert_lab::{Make, Resolved, wait};

use crate::Scene;

/// `resolvectl dns|domain|default-route` for the tunnel's device, without its `Link N (tunlab): `.
fn setting(resolved: &Resolved, what: &str) -> Option<String> {
    let text = resolved.ask(&[what, DEVICE])?;
    let (_, value) = text.trim_end().split_once(": ")?;
    Some(value.to_owned())
}

/// Waits until the service has these settings for the tunnel's device.
fn expect(resolved: &Resolved, client: &str, expected: [&str; 3]) {
    let mut last = [const { None }; 3];
    let settled = wait::poll_within(wait::PATIENCE, || {
        last = ["dns", "domain", "default-route"].map(|what| setting(resolved, what));
        let settled = (0..3).all(|index| last[index].as_deref() == Some(expected[index]));
        settled.then_some(())
    });
    assert!(settled.is_some(), "{expected:?}, not {last:?}\n{client}");
}

/// Waits until the service knows nothing of the tunnel any more.
fn expect_nothing(resolved: &Resolved) {
    wait::until("systemd-resolved without the tunnel's settings", || {
        let all = resolved.ask(&["dns"])? + &resolved.ask(&["domain"])?;
        let gone = ["10.99.1.1", "fd99:1::1", "corp.test", "int.test"]
            .iter()
            .all(|word| !all.contains(word));
        gone.then_some(())
    });
}

const DNS: [(&str, &str); 2] = [("dns", "10.99.1.1"), ("dns", "fd99:1::1")];

/// Without split DNS the tunnel's servers answer everything; `/etc/resolv.conf` stays untouched.
fn all_names(server: Make, end: impl Fn(&mut culvert_lab::Process)) {
    let scene = Scene::new(server, &DNS);
    let before = scene.network();
    let resolved = Resolved::start(&scene.world.client, &scene.fixture);
    let mut client = scene.connect(Some(&resolved), &[]);
    let expected = ["10.99.1.1 fd99:1::1", "corp.test ~.", "yes"];
    expect(&resolved, &client.output(), expected);
    assert_eq!(scene.network().1, before.1);
    end(&mut client);
    expect_nothing(&resolved);
    wait::until("the old routes", || (scene.network() == before).then_some(()));
    assert_eq!(scene.world.client.interfaces(), ["lo", "eth0"]);
}

fn ends_on(signal: &str) -> impl Fn(&mut culvert_lab::Process) {
    move |client| {
        client.signal(signal);
        assert_eq!(client.exit_code(), 0, "{}", client.output());
    }
}

#[test]
fn all_names_until_sigint() {
    all_names(Make::Real, ends_on("INT"));
}

#[test]
fn all_names_until_sighup() {
    all_names(Make::Culvert, ends_on("HUP"));
}

#[test]
fn all_names_until_sigkill() {
    all_names(Make::Real, |client| {
        kill(client.pid(), "9");
        client.wait();
    });
}

/// With split DNS only the domains of the tunnel go to its servers; also for a client that gives
/// up its privileges, and when the server ends the session.
#[test]
fn split_names_until_the_server_ends() {
    let overrides = [&DNS[..], &[("split-dns", "int.test"), ("split-dns", "lab.test")]].concat();
    let scene = Scene::new(Make::Culvert, &overrides);
    let resolved = Resolved::start(&scene.world.client, &scene.fixture);
    let mut client = scene.connect(Some(&resolved), &["--setuid", "nobody"]);
    let expected = ["10.99.1.1 fd99:1::1", "corp.test ~int.test ~lab.test", "no"];
    expect(&resolved, &client.output(), expected);
    scene.server.process.signal("TERM");
    assert_eq!(client.exit_code(), 1, "{}", client.output());
    expect_nothing(&resolved);
}

/// The name service switch names systemd-resolved, but nobody is on the bus: resolv.conf it is.
#[test]
fn without_the_service_the_file_is_used() {
    let scene = Scene::new(Make::Real, &DNS);
    let before = scene.network();
    let mut resolved = Resolved::start(&scene.world.client, &scene.fixture);
    resolved.service.signal("TERM");
    resolved.service.wait();
    let mut client = scene.connect(Some(&resolved), &[]);
    wait::until("the tunnel's name server", || {
        scene.network().1.contains("nameserver 10.99.1.1\n").then_some(())
    });
    client.signal("INT");
    assert_eq!(client.exit_code(), 0, "{}", client.output());
    assert_eq!(scene.network(), before);
}
