//! `show users`, `show user`, `show id`.

use super::*;

#[test]
fn show_users() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[alice(now - 1), test_user(now - 19)])]);
        (
            out(&server.occtl("show users")),
            captured("occtl show users").to_owned(),
        )
    });
}

#[test]
fn show_users_json() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[alice(now - 1), test_user(now - 19)])]);
        let ours = out(&server.occtl("-j show users"));
        // both users are of the same minute in the capture
        let ours = as_captured(&as_captured(&ours, now - 1), now - 19);
        (
            without_new_lines(&ours),
            captured("occtl -j show users").to_owned(),
        )
    });
}

#[test]
fn show_user() {
    within_one_second(|now| {
        let server = Server::answering(vec![users(&[test_user(now - 19)])]);
        let ours = as_captured(&out(&server.occtl("show user test")), now - 19);
        assert_eq!(server.requests.recv(), Ok(Request::User("test".into())));
        (
            without_new_lines(&ours),
            captured("occtl show user test").to_owned(),
        )
    });
}

#[test]
fn show_user_with_limits_and_lists() {
    let connection = Connection {
        rx_limit: Some(40_000),
        tx_limit: Some(2_500_000),
        dns: vec!["10.20.0.53".into(), "fd55::53".into()],
        default_route: true,
        routes: vec![],
        restricted_to_ports: vec!["tcp(443)".into(), "icmp()".into()],
        cstp_compression: Some("lzs".into()),
        ..test_user(now())
    };
    let server = Server::answering(vec![
        users(std::slice::from_ref(&connection)),
        users(&[connection]),
    ]);
    let text = out(&server.occtl("show id 6656"));
    for line in [
        "\tLimit RX: 40.0 kB/s   Limit TX: 2.5 MB/s\n",
        "\tCSTP compression: lzs\n",
        "\n\tDNS: 10.20.0.53\n\t\tfd55::53\n\tRoutes: defaultroute\n",
        "\tRestricted to ports: tcp(443), icmp()\n",
    ] {
        assert!(text.contains(line), "{line:?} not in {text}");
    }
    let json = out(&server.occtl("-j show id 6656"));
    let parsed: serde_json::Value = serde_json::from_str(&json).expect("valid JSON");
    assert_eq!(parsed[0]["Routes"], "defaultroute");
    assert_eq!(parsed[0]["Restricted to ports"][0], "tcp(443)");
    assert_eq!(json.matches("\"Routes\"").count(), 1);
    assert_eq!(server.requests.recv(), Ok(Request::Id(6656)));
}

#[test]
fn users_that_are_not_there() {
    let server = Server::answering(vec![vec![Reply::End], vec![Reply::End]]);
    let text = server.occtl("show user nosuch");
    assert_eq!(
        (out(&text).as_str(), text.status.code()),
        (captured("occtl show user nosuch"), Some(2))
    );
    let json = server.occtl("-j show id 999999");
    assert_eq!((out(&json).as_str(), json.status.code()), ("[\n]\n", Some(2)));
}

#[test]
fn hostile_names_stay_text_and_valid_json() {
    let hostile = Connection {
        username: Some("a\"b\\c\u{1b}[31m\né".into()),
        hostname: Some("\u{7}\",\"x\":\"".into()),
        dns: vec!["\"], [\"".into()],
        ..test_user(now())
    };
    let server = Server::answering(vec![users(std::slice::from_ref(&hostile)); 3]);
    for line in ["show users", "show user x"] {
        let text = out(&server.occtl(line));
        assert!(
            !text.chars().any(|c| c.is_control() && c != '\n' && c != '\t'),
            "{text:?}"
        );
        assert!(text.contains("a\"b\\c[31mé"), "{text}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&out(&server.occtl("-j show users"))).expect("valid JSON");
    assert_eq!(json[0]["Username"].as_str(), hostile.username.as_deref());
    assert_eq!(json[0]["Hostname"].as_str(), hostile.hostname.as_deref());
    assert_eq!(
        json[0]["DNS"][0].as_str(),
        hostile.dns.first().map(String::as_str)
    );
}
