//! What clients say of their sessions is compared, and what they said of their hosts is remembered.

use std::time::Duration;

use culvert_vocab::SessionId;

use super::harness::*;
use crate::ipc::Text;
use crate::ipc::messages::{
    BrokerToMain, BrokerToWorker, LoginReply, LoginStart, MainToBroker, TunnelReply, TunnelRequest,
    WorkerToBroker,
};
use crate::ipc::session::{Claims, CloseReason, ReportName};

fn claims(user: &str, computer: &str) -> Claims {
    Claims {
        user: Some(Text::truncated(user)),
        computer: Some(Text::truncated(computer)),
    }
}

async fn log_in(main: &mut Main) -> SessionId {
    let mut login = LoginStart {
        repeatable: true,
        ..start("test", Some("pw"))
    };
    login.client.computer = Text::truncated("pc");
    let mut worker = main.connect("198.51.100.1").await;
    let LoginReply::Success { cookie, .. } = worker.login_with(login).await else {
        panic!("refused")
    };
    assert!(matches!(main.hear().await, BrokerToMain::LoggedIn { .. }));
    main.close(worker, CloseReason::Unspecified);
    cookie
}

const WRONG: [(&str, &str); 4] = [("other", "pc"), ("Test", "pc"), ("test", "other"), ("test", "")];

#[test]
fn a_tunnel_is_for_who_has_logged_in() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let cookie = log_in(&mut main).await;
        for (user, computer) in WRONG {
            let mut worker = main.connect("198.51.100.1").await;
            let request = TunnelRequest {
                claims: claims(user, computer),
                ..tunnel_request(&cookie)
            };
            let refused = worker.ask(WorkerToBroker::OpenTunnel(request)).await;
            assert!(
                matches!(refused, BrokerToWorker::Tunnel(TunnelReply::Refused(_))),
                "{user} {computer}"
            );
            main.hear_failure(&worker, false).await;
            let join = WorkerToBroker::Join {
                cookie: cookie.clone(),
                claims: claims(user, computer),
            };
            assert_eq!(
                worker.ask(join).await,
                BrokerToWorker::Login(LoginReply::NotPending)
            );
            main.hear_failure(&worker, false).await;
        }
        // The session lives.
        let mut worker = main.connect("198.51.100.1").await;
        let join = WorkerToBroker::Join {
            cookie: cookie.clone(),
            claims: claims("test", "pc"),
        };
        let BrokerToWorker::Login(LoginReply::Success { user, .. }) = worker.ask(join).await else {
            panic!("refused")
        };
        assert_eq!(user.as_str(), "test");
        let request = TunnelRequest {
            claims: claims("test", "pc"),
            ..tunnel_request(&cookie)
        };
        let accepted = BrokerToWorker::Tunnel(TunnelReply::Accepted);
        assert_eq!(worker.ask(WorkerToBroker::OpenTunnel(request)).await, accepted);
    });
}

/// Whoever has the cookie may end the session, whatever else he says; but he hears that it does not fit.
#[test]
fn a_log_out_ends_the_session_in_any_case() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        for (said, fits) in [(claims("test", "pc"), true), (claims("other", "pc"), false)] {
            let cookie = log_in(&mut main).await;
            let mut worker = main.connect("198.51.100.1").await;
            let end = WorkerToBroker::EndSession {
                cookie: cookie.clone(),
                claims: said,
            };
            assert_eq!(worker.ask(end.clone()).await, BrokerToWorker::Cookie(fits));
            assert_eq!(worker.ask(end).await, BrokerToWorker::Cookie(false));
            let check = WorkerToBroker::CheckCookie(cookie);
            assert_eq!(worker.ask(check).await, BrokerToWorker::Cookie(false));
        }
    });
}

#[test]
fn reports_about_hosts_are_remembered() {
    let files = Files::new("");
    let recall = |cookie: &SessionId, name: ReportName| WorkerToBroker::RecallReport {
        cookie: cookie.clone(),
        name,
    };
    let recent = |reply: BrokerToWorker| match reply {
        BrokerToWorker::Report(age) => age.is_some_and(|age| age < Duration::from_secs(600)),
        other => panic!("{other:?}"),
    };
    run(async {
        let mut main = Main::start(&files).await;
        let cookie = log_in(&mut main).await;
        let mut worker = main.connect("198.51.100.1").await;
        assert!(!recent(worker.ask(recall(&cookie, [1; 16])).await));
        let keep = WorkerToBroker::KeepReport {
            cookie: cookie.clone(),
            name: [1; 16],
        };
        assert_eq!(worker.ask(keep).await, BrokerToWorker::Cookie(true));
        assert!(recent(worker.ask(recall(&cookie, [1; 16])).await));
        assert!(
            !recent(worker.ask(recall(&cookie, [2; 16])).await),
            "another host's"
        );
        let mut elsewhere = main.connect("198.51.100.2").await;
        assert!(
            !recent(elsewhere.ask(recall(&cookie, [1; 16])).await),
            "another address"
        );
        let unknown = SessionId::from_bytes([9; 32]);
        assert_eq!(
            worker.ask(recall(&unknown, [1; 16])).await,
            BrokerToWorker::Cookie(false)
        );

        // The tunnel's process learns of it, and tells of others that it takes.
        let (tunnel, session) = main
            .open(&cookie, "198.51.100.1")
            .await
            .unwrap_or_else(|_| panic!("refused"));
        assert_eq!(session.report.map(|(name, _)| name), Some([1; 16]));
        main.tell(&MainToBroker::Report {
            id: tunnel.id,
            name: [3; 16],
        });
        // Main's words come first: it has said nothing else when this connection begins.
        let mut worker = main.connect("198.51.100.1").await;
        assert!(recent(worker.ask(recall(&cookie, [3; 16])).await));
        assert!(
            !recent(worker.ask(recall(&cookie, [1; 16])).await),
            "one at a time"
        );
    });
}
