//! The program itself: what needs no server, servers that are silent, events, the interactive mode.

use super::*;

#[test]
fn commands_that_need_no_server() {
    let nowhere = Path::new("/no/such/socket");
    for (line, code, text, error) in [
        (
            "foo",
            1,
            "",
            "unknown command: foo\nuse help or '?' to get a list of the available commands\n",
        ),
        ("unban ip foo", 1, "", "Cannot parse IP: foo"),
        ("reset", 0, "", ""),
        ("show cookies", 1, captured("occtl show cookies"), ""),
        ("show", 1, captured("occtl show"), ""),
    ] {
        let output = occtl(nowhere, line);
        assert_eq!(
            (output.status.code(), out(&output).as_str(), err(&output).as_str()),
            (Some(code), text, error)
        );
    }
    for line in ["show user", "show id 0", "show id abc", "disconnect user ?"] {
        let output = occtl(nowhere, line);
        assert!(
            output.status.code() == Some(1) && out(&output).contains(" show cookies valid\t"),
            "{line}"
        );
    }
    assert_eq!(occtl(nowhere, "-j").status.code(), Some(1));
    let version = occtl(nowhere, "--version");
    assert!(
        version.status.success() && version.stdout.is_empty() && err(&version).contains("For help type ?")
    );
    let help = occtl(nowhere, "--help");
    assert!(help.status.success() && out(&help).contains("\nAvailable Commands\n disconnect user [NAME]\t"));
}

#[test]
fn servers_that_do_not_answer() {
    let output = occtl(Path::new("/no/such/socket"), "show users");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error connecting to ocserv socket '/no/such/socket': No such file or directory\n"
    );
    // refused by the server: it closes the connection
    let server = Server::answering(vec![vec![], vec![], vec![]]);
    let output = server.occtl("show users");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "could not send message; possibly insufficient permissions or server is offline.\n"
    );
    let output = server.occtl("show status");
    assert_eq!(
        (output.status.code(), out(&output).as_str()),
        (Some(1), "\tStatus: offline\n")
    );
    let output = server.occtl("-j show status");
    assert_eq!(out(&output), "  {\n    \"Status\":  \"offline\"\n  }\n");
}

/// Whoever pipes events into `head` must not find the program waiting for the next one for ever.
#[test]
fn events_end_when_nobody_reads_them() {
    let (reader, gone) = std::io::pipe().expect("a pipe");
    drop(reader);
    let full = std::fs::File::create("/dev/full").expect("always there");
    for (output, code, words) in [
        (Stdio::from(gone), 0, ""),
        (Stdio::from(full), 1, "events: No space left on device"),
    ] {
        let server = Server::answering(vec![vec![Reply::End]]);
        let ended = Command::new(env!("CARGO_BIN_EXE_occtl"))
            .arg("-s")
            .arg(server.socket())
            .args(["show", "events"])
            .stdin(Stdio::null())
            .stdout(output)
            .output()
            .expect("occtl runs");
        assert_eq!(ended.status.code(), Some(code), "{}", err(&ended));
        assert!(err(&ended).starts_with(words) && err(&ended).is_empty() == words.is_empty());
    }
}

#[test]
fn events_are_printed_until_the_server_ends() {
    let connection = Connection {
        id: 3556,
        remote_ip: Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2))),
        ipv4: Some(TunnelAddresses {
            client: Ipv4Addr::new(10, 99, 1, 77),
            server: Ipv4Addr::new(10, 99, 1, 1),
        }),
        ..alice(now())
    };
    let event = |kind| {
        Reply::Event(Box::new(Event {
            kind,
            connection: connection.clone(),
        }))
    };
    let ended = EventKind::Disconnect {
        reason: DisconnectReason::Server,
        duration: 3,
    };
    let replies = vec![Reply::End, event(EventKind::Connect), event(ended)];
    let server = Server::answering(vec![replies.clone(), replies]);
    let output = server.occtl("show events");
    assert_ne!(output.status.code(), Some(0), "the server ended first");
    let captured = captured("occtl show events   (text; connect then administrative disconnect)");
    let first_four: Vec<&str> = captured.lines().take(5).collect();
    assert_eq!(out(&output).lines().collect::<Vec<_>>(), first_four);
    assert!(err(&output).starts_with("events: "), "{}", err(&output));

    let json = out(&server.occtl("-j show events"));
    let (_, events) = json
        .split_once("Press 'q' or CTRL+C to quit\n\n")
        .expect("the hint");
    let mut events = serde_json::Deserializer::from_str(events).into_iter::<serde_json::Value>();
    let connect = events.next().expect("an event").expect("valid JSON");
    assert_eq!(
        (connect[0]["Event"].as_str(), connect[0]["ID"].as_u64()),
        (Some("connect"), Some(3556))
    );
    let disconnect = events.next().expect("an event").expect("valid JSON");
    assert_eq!(disconnect[0]["Reason"], "server disconnected");
}

#[test]
fn interactive_sessions_go_on_after_errors_and_end_with_the_input() {
    let server = Server::answering(vec![vec![Reply::Done(true)]]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_occtl"))
        .arg("-s")
        .arg(server.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("occtl runs");
    let mut input = child.stdin.take().expect("piped");
    input
        .write_all(b"foo\n\n  reload  \nshow us?\n")
        .expect("writable");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    // To the letter what 1.1.6 says, what is typed included.
    assert_eq!(
        out(&output),
        "> foo\n> \n>   reload  \nServer scheduled to reload\n> show us?\n\
        \x20      show users\tPrints the connected users\n\
        \x20   show user [NAME]\tPrints information on the specified user\n> "
    );
    assert!(err(&output).contains("unknown command: foo\n"));
}
