//! `show sessions`, `show session`, `terminate`.

use super::*;

pub(crate) fn session(id: &str, user: &str, created: u64) -> Session {
    Session {
        id: safe_id(id),
        created,
        expires: None,
        state: AuthState::Authenticated,
        username: Some(user.into()),
        groupname: (user == "alice").then(|| "group1".into()),
        vhost: "default".into(),
        user_agent: Some("Open AnyConnect VPN Agent v9.01-3".into()),
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
        location: None,
        in_use: true,
        is_open: true,
        tls_auth_ok: false,
    }
}

fn sessions(list: &[Session]) -> Vec<Reply> {
    let sessions = list.iter().cloned().map(Box::new).map(Reply::Session);
    sessions.chain([Reply::End]).collect()
}

#[test]
fn show_sessions() {
    let list = |now: u64| {
        sessions(&[
            session("11N3AjaHY+OwHTXpS4GcLP8w8R4=", "test", now - 40),
            session("ZjgEVwFmPGhPZaM3qtX19plgzM4=", "alice", now - 2),
        ])
    };
    within_one_second(|now| {
        let server = Server::answering(vec![list(now)]);
        let ours = out(&server.occtl("show sessions valid"));
        assert_eq!(server.requests.recv(), Ok(Request::Sessions { valid_only: true }));
        (ours, captured("occtl show sessions valid").to_owned())
    });
    within_one_second(|now| {
        let ours = out(&Server::answering(vec![list(now)]).occtl("-j show cookies all"));
        let ours = as_captured(&as_captured(&ours, now - 2), now - 40);
        // 1.1.6 has a comma after the last member
        (
            ours,
            captured("occtl -j show sessions all").replace("\"in_use\":  1,", "\"in_use\":  1"),
        )
    });
}

#[test]
fn show_session() {
    let created = now();
    let one = Session {
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2))),
        ..session("NQE1cFmQNmeRzuQzgQS4+XsBCn0=", "alice", created)
    };
    let server = Server::answering(vec![
        sessions(std::slice::from_ref(&one)),
        sessions(&[]),
        sessions(&[]),
    ]);
    let found = server.occtl("show session NQE1cF");
    let captured = captured("occtl show session NQE1cF").replace("18:58", "18:27");
    assert_eq!(as_captured(&out(&found), created), captured);
    let missing = server.occtl("show session zzz");
    assert_eq!(
        (out(&missing).as_str(), missing.status.code()),
        ("Session ID not found or expired\n", Some(0))
    );
    assert_eq!(out(&server.occtl("-j show session zzz")), "[\n]\n");
}

#[test]
fn terminating_sessions() {
    let mut free = session("11N3AjaHY+OwHTXpS4GcLP8w8R4=", "test", 0);
    free.in_use = false;
    let busy = session("11NxxxaHY+OwHTXpS4GcLP8w8R4=", "alice", 0);
    let both = sessions(&[free, busy]);
    let server = Server::answering(vec![
        both.clone(),
        vec![Reply::Done(true)],
        both.clone(),
        vec![Reply::Done(true)],
        both.clone(),
        both,
    ]);
    let ended = server.occtl("terminate session 11N3");
    assert_eq!(
        (out(&ended).as_str(), ended.status.code()),
        ("session '11N3Aj' was terminated\n", Some(0))
    );
    assert_eq!(
        server.requests.recv(),
        Ok(Request::Sessions { valid_only: false })
    );
    let wanted = Request::TerminateSession(safe_id("11N3AjaHY+OwHTXpS4GcLP8w8R4="));
    assert_eq!(server.requests.recv(), Ok(wanted));
    let active = server.occtl("terminate session 11Nxxx");
    assert_eq!(
        err(&active),
        "warning: session '11Nxxx' (user: alice) has an active connection; the connection will not be dropped\n"
    );
    let ambiguous = server.occtl("terminate session 11N");
    assert_eq!(ambiguous.status.code(), Some(1));
    assert_eq!(
        out(&ambiguous),
        "ambiguous session ID '11N' matches 2 sessions:\n  11N3AjaHY+OwHTXpS4GcLP8w8R4=  user: test\n  \
         11NxxxaHY+OwHTXpS4GcLP8w8R4=  user: alice\nuse the full session ID to terminate a specific session\n"
    );
    let none = server.occtl("terminate session zzz");
    assert_eq!(
        (out(&none).as_str(), none.status.code()),
        ("no session matching 'zzz' was found\n", Some(1))
    );
    let long = server.occtl("terminate session 12345678901234567890123456789");
    assert_eq!(out(&long), "invalid session ID '12345678901234567890123456789'\n");
}
