use std::process::ExitCode;
use std::time::Duration;

use culvert_vocab::{AddressV4, SessionId, UserName};

use super::harness::*;
use crate::ipc::messages::{
    BrokerAnswer, BrokerQuery, BrokerToMain, BrokerToWorker, MainToBroker, Refusal, TunnelReply,
    WorkerToBroker,
};
use crate::ipc::session::{Addresses, CloseReason};

#[test]
fn a_cookie_opens_a_tunnel_again_and_again() {
    let files = Files::new("session-timeout = 1000\nroute = 10.0.0.0/8\ncustom-header = \"X-User: %{U}\"");
    run(async {
        let mut main = Main::start(&files).await;
        let (mut first, cookie) = main.log_in("test").await;
        assert_eq!(
            first.open(&cookie).await,
            BrokerToWorker::Tunnel(TunnelReply::Accepted)
        );
        let BrokerToMain::OpenTunnel { id, session, wish } = main.hear().await else {
            panic!()
        };
        assert_eq!(id, first.id);
        assert_eq!(
            (session.user.as_str(), session.host.as_str()),
            ("test", "default")
        );
        assert_eq!(session.id, cookie.safe_id());
        assert_eq!(session.settings.routes, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!(session.settings.custom_headers, ["X-User: test"]);
        assert!(
            session
                .session_left
                .is_some_and(|left| left > Duration::from_secs(990))
        );
        assert_eq!(wish.hostname.as_ref().map(|name| name.as_str()), Some("laptop"));

        let got = Addresses {
            ipv4: Some(AddressV4 {
                address: "10.99.1.7".parse().unwrap(),
                netmask: None,
            }),
            ..Addresses::default()
        };
        main.tell(&MainToBroker::TunnelOpened {
            id: first.id,
            addresses: got,
        });
        let (second, session) = main.open(&cookie, "203.0.113.1").await.ok().unwrap();
        assert_eq!(session.previous, got, "roaming, while the old connection lives");
        main.close(first, CloseReason::ServerDisconnect);
        main.close(second, CloseReason::DpdTimeout);
        let (third, _) = main.open(&cookie, "203.0.113.1").await.ok().unwrap();
        main.close(third, CloseReason::UserLogout);
        assert!(
            main.open(&cookie, "203.0.113.1").await.is_err(),
            "after a log-out"
        );
    });
}

#[test]
fn cookies_that_open_nothing() {
    let files = Files::new(
        "deny-roaming = true\nmax-same-clients = 1\n[vhost:two.example.com]\nipv4-network = 10.98.0.0/24",
    );
    run(async {
        let mut main = Main::start(&files).await;
        assert!(
            main.open(&SessionId::from_bytes([3; 32]), "198.51.100.1")
                .await
                .is_err(),
            "forged"
        );
        let mut pending = main.connect("198.51.100.1").await;
        let reply = pending.login("test", None).await;
        let crate::ipc::messages::LoginReply::Prompt { context, .. } = reply else {
            panic!()
        };
        assert!(
            main.open(&context, "198.51.100.1").await.is_err(),
            "of a login in progress"
        );

        let (_, cookie) = main.log_in("test").await;
        assert!(main.open(&cookie, "198.51.100.2").await.is_err(), "roaming");
        let mut other_host = main.connect_silent("198.51.100.1");
        let name = crate::ipc::Text::truncated("two.example.com");
        let BrokerToWorker::Host(index) = other_host.ask(WorkerToBroker::ServerName(Some(name))).await else {
            panic!()
        };
        assert_eq!(index.0, 1);
        assert_eq!(
            other_host.open(&cookie).await,
            BrokerToWorker::Tunnel(TunnelReply::Refused(Refusal::NotAcceptable)),
            "of another host"
        );
        main.hear().await;

        let (first, _) = main.open(&cookie, "198.51.100.1").await.ok().unwrap();
        let (_, second_cookie) = main.log_in("test").await;
        let mut one_too_many = main.connect("198.51.100.1").await;
        assert_eq!(
            one_too_many.open(&second_cookie).await,
            BrokerToWorker::Tunnel(TunnelReply::Refused(Refusal::NotAcceptable)),
            "max-same-clients"
        );
        let said = main.hear().await;
        assert!(
            matches!(&said, BrokerToMain::TooManyClients { id, user, max: 1, .. }
                if *id == one_too_many.id && user.as_str() == "test"),
            "{said:?}"
        );
        main.hear_failure(&one_too_many, false).await;
        main.tell(&MainToBroker::TunnelRefused(first.id));
        assert!(
            main.open(&second_cookie, "198.51.100.1").await.is_ok(),
            "main refused the first one"
        );
    });
}

#[test]
fn files_of_users_and_groups_decide() {
    let files = Files::new("");
    let users = files.path("users");
    std::fs::create_dir(&users).unwrap();
    files.configure(&format!("config-per-user = {}", users.display()));
    std::fs::write(
        users.join("test"),
        "explicit-ipv4 = 10.99.1.50\nsession-timeout = 77\n",
    )
    .unwrap();
    std::fs::write(users.join("alone"), "route = not-a-route\n").unwrap();
    run(async {
        let mut main = Main::start(&files).await;
        let (_, cookie) = main.log_in("test").await;
        let (_, session) = main.open(&cookie, "198.51.100.1").await.ok().unwrap();
        assert_eq!(
            session.settings.explicit_ipv4,
            Some("10.99.1.50".parse().unwrap())
        );
        assert_eq!(session.settings.session_timeout, Some(Duration::from_secs(77)));
        let (_, cookie) = main.log_in("alone").await;
        assert!(
            main.open(&cookie, "198.51.100.1").await.is_err(),
            "a broken file refuses"
        );
        let (_, cookie) = main.log_in("other").await;
        assert!(
            main.open(&cookie, "198.51.100.1").await.is_ok(),
            "no file is fine"
        );
    });
}

#[test]
fn settings_too_large_for_a_message_refuse_one_tunnel() {
    let files = Files::new("");
    let users = files.path("users");
    std::fs::create_dir(&users).unwrap();
    files.configure(&format!("config-per-user = {}", users.display()));
    let routes: String = (0..30_000u32)
        .map(|n| format!("route = 10.{}.{}.0/24\n", n >> 8, n & 0xff))
        .collect();
    std::fs::write(users.join("test"), routes).unwrap();
    run(async {
        let mut main = Main::start(&files).await;
        let (mut worker, cookie) = main.log_in("test").await;
        let refused = BrokerToWorker::Tunnel(TunnelReply::Refused(Refusal::Configuration));
        assert_eq!(worker.open(&cookie).await, refused);
        let (_, cookie) = main.log_in("other").await;
        assert!(main.open(&cookie, "198.51.100.1").await.is_ok());
    });
}

#[test]
fn the_administrator_ends_sessions() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let (_, idle) = main.log_in("test").await;
        let (_, cookie) = main.log_in("test").await;
        let (tunnel, _) = main.open(&cookie, "198.51.100.1").await.ok().unwrap();
        let BrokerAnswer::Sessions { total: 2, list } = main.query(BrokerQuery::Sessions { offset: 0 }).await
        else {
            panic!()
        };
        assert_eq!(list.iter().filter(|summary| summary.in_use).count(), 1);
        let test = UserName::new("test").unwrap();
        main.tell(&MainToBroker::Control {
            number: 1,
            query: BrokerQuery::TerminateUser(test),
        });
        assert_eq!(main.hear().await, BrokerToMain::Disconnect(vec![tunnel.id]));
        assert_eq!(
            main.hear().await,
            BrokerToMain::ControlReply {
                number: 1,
                reply: BrokerAnswer::Terminated(2)
            }
        );
        assert!(main.open(&idle, "198.51.100.1").await.is_err());
        assert!(main.open(&cookie, "198.51.100.1").await.is_err());

        let (_, cookie) = main.log_in("test").await;
        let answer = main.query(BrokerQuery::TerminateSession(cookie.safe_id())).await;
        assert_eq!(answer, BrokerAnswer::Terminated(1));
        assert!(main.open(&cookie, "198.51.100.1").await.is_err());
        let answer = main.query(BrokerQuery::TerminateSession(cookie.safe_id())).await;
        assert_eq!(answer, BrokerAnswer::Terminated(0));
    });
}

#[test]
fn a_restarted_broker_honours_cookies_of_users_that_exist() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let (_, kept) = main.log_in("test").await;
        let (_, removed) = main.log_in("alone").await;
        main.tell(&MainToBroker::Stop);
        assert_eq!((&mut main.broker).await.unwrap().unwrap(), ExitCode::SUCCESS);
        drop(main);

        let users = format!("test:staff:{HASH_OF_PW}\n");
        std::fs::write(files.path("passwd"), users).unwrap();
        let mut main = Main::start(&files).await;
        assert!(main.open(&kept, "198.51.100.1").await.is_ok());
        assert!(
            main.open(&removed, "198.51.100.1").await.is_err(),
            "the user was removed meanwhile"
        );
        let journal = std::fs::read_dir(files.path("."))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "sessions"))
            .unwrap();
        let journal = std::fs::read(journal).unwrap();
        assert!(
            !journal.windows(32).any(|window| window == kept.expose()),
            "no cookie on disk"
        );
    });
}

#[test]
fn a_reload_changes_new_connections_only_and_errors_change_nothing() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let (mut old, cookie) = main.log_in("test").await;
        files.configure("route = nonsense");
        main.tell(&MainToBroker::Reload);
        let BrokerToMain::Reloaded(Some(problem)) = main.hear().await else {
            panic!()
        };
        assert!(problem.as_str().contains("error"), "{problem}");
        assert!(main.open(&cookie, "198.51.100.1").await.is_ok());
        files.configure("route = 10.1.0.0/16");
        main.tell(&MainToBroker::Reload);
        assert_eq!(main.hear().await, BrokerToMain::Reloaded(None));
        let (_, session) = main.open(&cookie, "198.51.100.1").await.ok().unwrap();
        assert_eq!(session.settings.routes, ["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(
            old.open(&cookie).await,
            BrokerToWorker::Tunnel(TunnelReply::Accepted)
        );
        let BrokerToMain::OpenTunnel { session, .. } = main.hear().await else {
            panic!()
        };
        assert!(session.settings.routes.is_empty());
    });
}

#[test]
fn main_is_served_while_a_reload_waits_for_a_slow_key() {
    let files = Files::new("");
    let key = std::fs::read(files.path("key.pem")).unwrap();
    run(async {
        let mut main = Main::start(&files).await;
        std::fs::remove_file(files.path("key.pem")).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(files.path("key.pem"))
            .status();
        assert!(made.unwrap().success());
        main.tell(&MainToBroker::Reload);
        for _ in 0..3 {
            let (query, number) = (BrokerQuery::Status, 7);
            main.tell(&MainToBroker::Control { number, query });
            let BrokerToMain::ControlReply { number: 7, .. } = main.hear().await else {
                panic!()
            };
        }
        let slow = files.path("key.pem");
        let written = tokio::task::spawn_blocking(move || std::fs::write(slow, key));
        assert_eq!(main.hear().await, BrokerToMain::Reloaded(None));
        written.await.unwrap().unwrap();
    });
}

#[test]
fn a_start_that_fails_says_why() {
    let files = Files::new("");
    std::fs::write(files.path("key.pem"), "no key").unwrap();
    run(async {
        let mut main = Main::launch(&files.path("ocserv.conf"));
        let BrokerToMain::Failed(why) = main.hear().await else {
            panic!()
        };
        assert!(why.as_str().contains("key.pem"), "{why}");
        assert_eq!((&mut main.broker).await.unwrap().unwrap(), ExitCode::FAILURE);
    });
}

#[test]
fn the_end_of_main_ends_the_broker() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let broker = std::mem::replace(
            &mut main.broker,
            tokio::task::spawn_local(async { Ok(ExitCode::SUCCESS) }),
        );
        drop(main);
        assert_eq!(broker.await.unwrap().unwrap(), ExitCode::FAILURE);
    });
}
