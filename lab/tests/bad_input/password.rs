//! Wrong passwords and unknown groups.

use culvert_lab::{Make, PASSWORD};

use crate::Scene;

fn three_wrong_passwords(client: Make, server: Make) {
    let mut scene = Scene::new(server);
    let input = format!("wrong 1\nwrong 2\nwrong 3\n{PASSWORD}");
    let login = scene.login(client, &["--cookieonly"], &input);
    assert_eq!(login.code, 1, "{}", login.stderr);
    assert_eq!(login.stdout, "");
    assert_eq!(
        login.stderr.matches("Login failed.").count(),
        2,
        "{}",
        login.stderr
    );
    assert!(
        login.stderr.contains("Failed to complete authentication"),
        "{}",
        login.stderr
    );
    scene.is_undisturbed();
}

#[test]
fn real_client_is_refused_by_the_real_server_after_three_wrong_passwords() {
    three_wrong_passwords(Make::Real, Make::Real);
}

#[test]
fn our_client_is_refused_by_the_real_server_after_three_wrong_passwords() {
    three_wrong_passwords(Make::Culvert, Make::Real);
}

#[test]
fn real_client_is_refused_by_our_server_after_three_wrong_passwords() {
    three_wrong_passwords(Make::Real, Make::Culvert);
}

#[test]
fn our_client_is_refused_by_our_server_after_three_wrong_passwords() {
    three_wrong_passwords(Make::Culvert, Make::Culvert);
}

/// The real server refuses the right password after a wrong one; ours does not.
#[test]
fn our_server_takes_the_right_password_after_a_wrong_one() {
    let mut scene = Scene::new(Make::Culvert);
    for client in [Make::Real, Make::Culvert] {
        let login = scene.login(client, &["--cookieonly"], &format!("wrong\n{PASSWORD}"));
        assert_eq!(login.code, 0, "{}", login.stderr);
        assert!(login.stdout.contains("webvpn="), "{}", login.stdout);
    }
    scene.is_undisturbed();
}

#[test]
fn our_server_says_the_same_about_unknown_users() {
    let mut scene = Scene::new(Make::Culvert);
    let known = scene.login(Make::Real, &["--cookieonly"], "wrong\nwrong\nwrong");
    let unknown = scene.login(
        Make::Real,
        &["--cookieonly", "--user", "nobody"],
        "wrong\nwrong\nwrong",
    );
    assert_eq!((known.code, unknown.code), (1, 1), "{}", unknown.stderr);
    assert_eq!(known.stderr, unknown.stderr);
    scene.is_undisturbed();
}

fn unknown_group(client: Make, server: Make) {
    let mut scene = Scene::with(
        server,
        &[("select-group", "staff"), ("select-group", "admins")],
        |_| (),
    );
    let alice = ["--cookieonly", "--user", "alice", "--authgroup"];
    let login = scene.login(
        client,
        &[&alice[..], &["nosuch", "--non-inter"]].concat(),
        PASSWORD,
    );
    assert_eq!(login.code, 1, "{}", login.stderr);
    // Our client names the group at once, as 9.21 does; ocserv 1.1.6 then offers it, whatever it is.
    assert!(
        login.stderr.contains("Auth choice \"nosuch\" not available") || login.stderr.contains("401"),
        "{}",
        login.stderr
    );
    let login = scene.login(client, &[&alice[..], &["admins"]].concat(), PASSWORD);
    assert_eq!(login.code, 0, "{}{}", login.stderr, scene.server.log());
    // A group that exists, but not for this user.
    let login = scene.login(client, &["--cookieonly", "--authgroup", "admins"], PASSWORD);
    assert_eq!((login.code, login.stdout.as_str()), (1, ""), "{}", login.stderr);
    scene.is_undisturbed();
}

#[test]
fn real_client_with_an_unknown_group_at_the_real_server() {
    unknown_group(Make::Real, Make::Real);
}

#[test]
fn our_client_with_an_unknown_group_at_the_real_server() {
    unknown_group(Make::Culvert, Make::Real);
}

#[test]
fn real_client_with_an_unknown_group_at_our_server() {
    unknown_group(Make::Real, Make::Culvert);
}

#[test]
fn our_client_with_an_unknown_group_at_our_server() {
    unknown_group(Make::Culvert, Make::Culvert);
}
