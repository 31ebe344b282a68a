//! Commands that change something.

use super::*;

#[test]
fn actions_say_what_they_did_and_exit_accordingly() {
    for (line, request, yes, no) in [
        (
            "disconnect user alice",
            Request::DisconnectUser("alice".into()),
            "user 'alice' was disconnected",
            "could not disconnect user 'alice'",
        ),
        (
            "disconnect id 999",
            Request::DisconnectId(999),
            "connection ID '999' was disconnected",
            "could not disconnect ID '999'",
        ),
        (
            "terminate user alice",
            Request::TerminateUser("alice".into()),
            "user 'alice' was terminated (session invalidated)",
            "could not terminate user 'alice'",
        ),
        (
            "terminate id 5",
            Request::TerminateId(5),
            "connection ID '5' was terminated (session invalidated)",
            "could not terminate ID '5'",
        ),
        (
            "unban ip 1.2.3.4",
            Request::Unban("1.2.3.4".parse().expect("an address")),
            "IP '1.2.3.4' was unbanned",
            "could not unban IP '1.2.3.4'",
        ),
        (
            "reload",
            Request::Reload,
            "Server scheduled to reload",
            "Error scheduling reload",
        ),
        (
            "stop now",
            Request::Stop,
            "Server scheduled to stop",
            "Error scheduling server stop",
        ),
    ] {
        let server = Server::answering(vec![vec![Reply::Done(true)], vec![Reply::Done(false)]]);
        let done = server.occtl(line);
        assert_eq!((out(&done), done.status.code()), (format!("{yes}\n"), Some(0)));
        assert_eq!(server.requests.recv(), Ok(request));
        // -j changes nothing for actions
        let refused = server.occtl(&format!("-j {line}"));
        assert_eq!(
            (out(&refused), refused.status.code()),
            (format!("{no}\n"), Some(1))
        );
    }
}
