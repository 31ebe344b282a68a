//! `show ip bans`, `show ip ban points`, `show iroutes`, and lists without entries.

use super::*;

#[test]
fn bans_and_points() {
    let bans = |until| {
        let banned = Ban {
            ip: "198.51.100.2".parse().expect("an address"),
            score: 48,
            banned_until: Some(until),
        };
        let points = Ban {
            ip: "2001:db8::".parse().expect("an address"),
            score: 3,
            banned_until: None,
        };
        vec![Reply::Ban(banned), Reply::Ban(points), Reply::End]
    };
    within_one_second(|now| {
        let ours = out(&Server::answering(vec![bans(now)]).occtl("show ip bans"));
        // the first capture is of an empty list
        let (_, captured) = VECTORS.rsplit_once("=== occtl show ip bans\n").expect("captured");
        let captured = captured.split("=== ").next().expect("text");
        (as_captured(&ours, now), captured.replace("18:59", "18:27"))
    });
    let server = Server::answering(vec![bans(now()), bans(now()), bans(now() + 100)]);
    assert_eq!(
        out(&server.occtl("show ip ban points")),
        "            IP          score\n  198.51.100.2             48\n    2001:db8::              3\n"
    );
    let points = serde_json::from_str::<serde_json::Value>(&out(&server.occtl("-j show ip ban points")));
    assert_eq!(points.expect("valid JSON").as_array().map(Vec::len), Some(2));
    let banned = serde_json::from_str::<serde_json::Value>(&out(&server.occtl("-j show ip bans")));
    assert_eq!(banned.expect("valid JSON")[0]["Score"], 48);
}

#[test]
fn iroutes() {
    let alice = Connection {
        id: 3556,
        device: Some("vpns0".into()),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 77),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        iroutes: vec!["172.16.5.0/255.255.255.0".into(), "fd55::/64".into()],
        ..alice(now())
    };
    let server = Server::answering(vec![users(std::slice::from_ref(&alice)), users(&[alice])]);
    assert_eq!(
        out(&server.occtl("show iroutes")),
        captured("occtl show iroutes   (one user with two iroutes)")
    );
    let json: serde_json::Value =
        serde_json::from_str(&out(&server.occtl("-j show iroutes"))).expect("valid JSON");
    assert_eq!(json[0]["iRoutes"][1], "fd55::/64");
}

#[test]
fn empty_lists() {
    for (line, request) in [
        ("show users", Request::Users),
        ("show ip bans", Request::Bans),
        ("show ip ban points", Request::Bans),
        ("show sessions all", Request::Sessions { valid_only: false }),
        ("show iroutes", Request::Users),
    ] {
        let server = Server::answering(vec![vec![Reply::End], vec![Reply::End]]);
        let text = server.occtl(line);
        assert_eq!((out(&text).as_str(), text.status.code()), ("", Some(0)), "{line}");
        assert_eq!(server.requests.recv(), Ok(request));
        assert_eq!(out(&server.occtl(&format!("-j {line}"))), "[\n]\n", "{line}");
    }
}
