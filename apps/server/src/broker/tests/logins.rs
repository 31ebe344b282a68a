use culvert_vocab::{GroupName, SessionId};

use super::harness::*;
use crate::ipc::Text;
use crate::ipc::messages::{
    BrokerAnswer, BrokerQuery, BrokerToMain, BrokerToWorker, LoginFailure, LoginReply, LoginStart,
    MainToBroker, WorkerToBroker,
};
use crate::ipc::session::CloseReason;

const REFUSED: LoginReply = LoginReply::Failed(LoginFailure::Credentials);

fn prompt_of(reply: LoginReply) -> (SessionId, String) {
    match reply {
        LoginReply::Prompt {
            context,
            message,
            number: 0,
        } => (context, message.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn spellings_of_a_name() {
    for (option, other_spelling) in [("keep", false), ("lower", true)] {
        let files = Files::new(&format!("username-case = {option}"));
        run(async {
            let mut main = Main::start(&files).await;
            let mut worker = main.connect("198.51.100.1").await;
            let reply = worker.login("TeSt", Some("pw")).await;
            let user = match reply {
                LoginReply::Success { user, .. } => Some(user.to_string()),
                _ => None,
            };
            assert_eq!(user, other_spelling.then(|| "test".to_owned()), "{option}");
        });
    }
}

#[test]
fn one_step_and_two_steps() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        let reply = worker.login("test", Some("pw")).await;
        let LoginReply::Success {
            cookie, user, group, ..
        } = reply
        else {
            panic!("{reply:?}")
        };
        assert_eq!(
            (user.as_str(), group.as_ref().map(GroupName::as_str)),
            ("test", Some("staff"))
        );
        let BrokerToMain::LoggedIn { id, user, host, .. } = main.hear().await else {
            panic!()
        };
        assert_eq!((id, user.as_str(), host.as_str()), (worker.id, "test", "default"));
        assert_eq!(
            worker.ask(WorkerToBroker::CheckCookie(cookie)).await,
            BrokerToWorker::Cookie(true)
        );

        let mut worker = main.connect("198.51.100.1").await;
        let (context, message) = prompt_of(worker.login("alone", None).await);
        assert_eq!(message, "Please enter your password.");
        assert_eq!(
            worker.ask(WorkerToBroker::CheckCookie(context.clone())).await,
            BrokerToWorker::Cookie(false),
            "a pending login is no session"
        );
        let LoginReply::Success {
            cookie, group: None, ..
        } = worker.answer("pw").await
        else {
            panic!()
        };
        assert_eq!(cookie, context);
    });
}

/// `vectors/server-auth/ban-trace.txt`: each of three wrong passwords costs points, also the last.
#[test]
fn three_wrong_passwords_end_it() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        for user in ["test", "nobody", "a:b", "x\ny", &"long".repeat(100), ""] {
            let mut worker = main.connect("198.51.100.1").await;
            let (_, message) = prompt_of(worker.login(user, Some("wrong")).await);
            assert_eq!(message, "Login failed.\nPlease enter your password.", "{user:?}");
            prompt_of(worker.answer("wrong").await);
            assert_eq!(worker.answer("wrong").await, REFUSED);
            for _ in 0..3 {
                main.hear_failure(&worker, true).await;
            }
            assert_eq!(worker.answer("pw").await, REFUSED, "there is no fourth try");
            assert_eq!(worker.login("test", Some("pw")).await, REFUSED, "nor a new login");
            assert_eq!(
                main.query(BrokerQuery::Status).await,
                BrokerAnswer::Status(Default::default())
            );
        }
    });
}

#[test]
fn accounts_without_a_password_are_refused() {
    let files = Files::new("");
    std::fs::write(
        files.path("passwd"),
        format!("empty:*:\nlocked:*:!{HASH_OF_PW}\n"),
    )
    .unwrap();
    run(async {
        let mut main = Main::start(&files).await;
        for (user, password) in [("empty", ""), ("empty", "pw"), ("locked", "pw"), ("locked", "")] {
            let mut worker = main.connect("198.51.100.1").await;
            prompt_of(worker.login(user, None).await);
            prompt_of(worker.answer(password).await);
            main.hear_failure(&worker, true).await;
        }
    });
}

#[test]
fn the_right_password_after_a_wrong_one_is_right() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        prompt_of(worker.login("test", Some("wrong")).await);
        prompt_of(worker.answer("wrong").await);
        assert!(matches!(worker.answer("pw").await, LoginReply::Success { .. }));
    });
}

#[test]
fn beginning_anew_does_not_reset_the_tries() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut worker = main.connect("198.51.100.1").await;
        prompt_of(worker.login("test", Some("wrong")).await);
        prompt_of(worker.login("other", Some("wrong")).await);
        assert_eq!(worker.login("test", Some("wrong")).await, REFUSED);
        // One for each wrong password, and one for each login that was begun over another.
        for _ in 0..5 {
            main.hear_failure(&worker, true).await;
        }
    });
}

#[test]
fn groups_are_checked_here() {
    let files = Files::new("default-select-group = Any\nselect-group = staff\nselect-group = admins");
    run(async {
        let mut main = Main::start(&files).await;
        for (user, wish, want) in [
            ("test", Some("admins"), Some(Some("admins"))),
            ("test", Some("Any"), Some(Some("staff"))),
            ("test", None, Some(Some("staff"))),
            ("alone", None, Some(None)),
            ("alone", Some("admins"), None),
            ("test", Some("../x"), None),
            ("test", Some("a\u{1b}b"), None),
        ] {
            let mut worker = main.connect("198.51.100.1").await;
            let begin = LoginStart {
                group: wish.map(Text::truncated),
                ..start(user, Some("pw"))
            };
            let reply = worker.login_with(begin).await;
            match want {
                Some(group) => {
                    main.hear().await;
                    let LoginReply::Success { group: got, .. } = reply else {
                        panic!("{user} {wish:?}: {reply:?}")
                    };
                    assert_eq!(got.as_ref().map(GroupName::as_str), group);
                }
                None => {
                    assert_eq!(reply, REFUSED, "{user} {wish:?}");
                    main.hear_failure(&worker, false).await;
                }
            }
        }
    });
}

#[test]
fn a_login_goes_on_over_a_new_connection_of_the_same_source() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut first = main.connect("198.51.100.1").await;
        let (context, _) = prompt_of(first.login("test", None).await);
        main.close(first, CloseReason::Unspecified);

        let mut stranger = main.connect("198.51.100.2").await;
        assert_eq!(stranger.resume(&context, "pw").await, LoginReply::NotPending);
        let mut guess = main.connect("198.51.100.1").await;
        assert_eq!(
            guess.resume(&SessionId::from_bytes([1; 32]), "pw").await,
            LoginReply::NotPending
        );

        let mut second = main.connect("198.51.100.1").await;
        prompt_of(second.resume(&context, "wrong").await);
        let mut third = main.connect("198.51.100.1").await;
        prompt_of(third.resume(&context, "wrong").await);
        let mut fourth = main.connect("198.51.100.1").await;
        assert_eq!(
            fourth.resume(&context, "wrong").await,
            REFUSED,
            "the tries go with the login"
        );

        let mut fifth = main.connect("198.51.100.1").await;
        let (context, _) = prompt_of(fifth.login("test", None).await);
        let mut sixth = main.connect("198.51.100.1").await;
        assert!(matches!(
            sixth.resume(&context, "pw").await,
            LoginReply::Success { .. }
        ));
        assert_eq!(sixth.resume(&context, "pw").await, REFUSED, "once");
        assert_eq!(fifth.answer("pw").await, REFUSED, "it is no longer the fifth's");
    });
}

#[test]
fn a_ban_ends_logins_in_progress() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut barred = main.connect("2001:db8::1").await;
        prompt_of(barred.login("test", None).await);
        let mut other = main.connect("2001:db8:0:1::1").await;
        prompt_of(other.login("test", None).await);
        main.tell(&MainToBroker::Banned(ip("2001:db8::77")));
        assert!(matches!(main.query(BrokerQuery::Status).await, BrokerAnswer::Status(s) if s.entries == 1));
        assert_eq!(barred.answer("pw").await, REFUSED);
        assert_eq!(barred.login("test", Some("pw")).await, REFUSED);
        assert!(matches!(other.answer("pw").await, LoginReply::Success { .. }));
    });
}

#[test]
fn a_flood_of_logins_is_bounded_per_source() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        let mut workers = Vec::new();
        let mut honest = main.connect("203.0.113.9").await;
        prompt_of(honest.login("test", None).await);
        for _ in 0..100 {
            let mut worker = main.connect("198.51.100.1").await;
            prompt_of(worker.login("test", None).await);
            workers.push(worker);
        }
        assert!(matches!(main.query(BrokerQuery::Status).await, BrokerAnswer::Status(s) if s.entries == 17));
        let BrokerAnswer::Sessions { total, list } = main.query(BrokerQuery::Sessions { offset: 0 }).await
        else {
            panic!()
        };
        assert_eq!((total, list.len()), (17, 17));
        assert!(list.iter().all(|summary| !summary.authenticated));
        assert!(matches!(honest.answer("pw").await, LoginReply::Success { .. }));
    });
}

#[test]
fn an_unreadable_password_file_lets_nobody_in() {
    let files = Files::new("");
    run(async {
        let mut main = Main::start(&files).await;
        std::fs::remove_file(files.path("passwd")).unwrap();
        let mut worker = main.connect("198.51.100.1").await;
        let undecided = LoginReply::Failed(LoginFailure::Internal);
        assert_eq!(worker.login("test", Some("pw")).await, undecided);
        main.hear_failure(&worker, true).await;
    });
}
