//! `make demo`: a server and a client of ours in two network namespaces, with ordinary files and
//! command lines; shows a login, the addresses, a ping, a short transfer and `occtl show users`.
//!
//! `KEEP=1` keeps the files in `demo-files/`. Ctrl-C at any moment tears everything down.

use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Instant;

use culvert_lab::client::DEVICE;
use culvert_lab::fixture::{Fixture, INNER_SERVER_V4, INNER_SERVER_V6, PASSWORD, SERVER_NAME, USER};
use culvert_lab::net::{CLIENT_V4, SERVER_V4};
use culvert_lab::{Client, ClientOptions, Make, Server, World, built, probe, wait};
use culvert_sys::epoll::{Events, Interest, Poller};
use culvert_sys::signal::{SIGHUP, SIGINT, SIGTERM, SignalFd};

fn main() -> ExitCode {
    let signals = match SignalFd::new(&[SIGINT, SIGTERM, SIGHUP]) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("cannot watch for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Unwinding is how an interrupted demo cleans up; that is no news to who pressed Ctrl-C.
    std::panic::set_hook(Box::new(|info| {
        if !wait::is_interrupted() {
            eprintln!("{info}");
        }
    }));
    let demo = thread::spawn(demo);
    // Ends with the process; until then it turns a signal into an orderly end of the demo.
    thread::spawn(move || interrupt_on(&signals));
    match demo.join() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if wait::is_interrupted() => {
            println!("\ninterrupted; everything is removed again");
            ExitCode::from(130)
        }
        Err(_) => ExitCode::FAILURE,
    }
}

fn interrupt_on(signals: &SignalFd) {
    let watch = || -> std::io::Result<()> {
        let poller = Poller::new()?;
        let mut events = Events::with_capacity(1);
        poller.add(signals, 0, Interest::READ)?;
        while signals.read()?.is_none() {
            poller.wait(&mut events, None)?;
        }
        Ok(())
    };
    if let Err(error) = watch() {
        eprintln!("cannot watch for signals: {error}");
    }
    wait::interrupt();
}

fn demo() {
    let keep = std::env::var_os("KEEP").is_some_and(|value| value == "1");
    let fixture = if keep {
        Fixture::keep_in(Path::new("demo-files"))
    } else {
        Fixture::new()
    };
    let dir = fixture.dir().display();

    title("Two hosts, a wire between them, and a server's files");
    let world = World::new();
    println!("server host: namespace {}, {}", world.server.name(), SERVER_V4);
    println!("client host: namespace {}, {}", world.client.name(), CLIENT_V4);
    add_user(&fixture);
    println!("\n{dir}/ocserv.conf:");
    for line in fixture.ocserv_conf(&[]).lines() {
        println!("    {line}");
    }

    title("The server");
    println!("# ocserv -f -d 3 --log-stderr -c {dir}/ocserv.conf");
    let server = Server::start(Make::Culvert, &world, &fixture);
    print!("{}", indent(&server.process.stderr(), 6));

    title("The client logs in");
    println!(
        "# openconnect --cafile {dir}/ca.pem --user {USER} --passwd-on-stdin --interface {DEVICE} \
         --resolve {SERVER_NAME}:{SERVER_V4} https://{SERVER_NAME}/ <{dir}/password"
    );
    let options = ClientOptions {
        script: false,
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &world, &fixture, &options);
    client.process.wait_for("Established DTLS connection");
    print!("{}", indent(&client.process.stdout(), 30));

    title("Addresses and routes of the client");
    print!("{}", indent(&world.client.ip("-br address show dev tunlab"), 4));
    print!("{}", indent(&world.client.routes(), 20));

    title("Packets through the tunnel");
    for address in [INNER_SERVER_V4, INNER_SERVER_V6] {
        println!("# ping -c 3 {address}");
        let text = world.client.run("ping", &["-n", "-c", "3", "-i", "0.2", address]);
        print!(
            "{}",
            indent(text.rsplit_once("\n\n").map_or(&text, |(_, summary)| summary), 4)
        );
    }
    throughput(&world, &fixture);

    title("What the administrator sees");
    println!("# occtl -s {dir}/occtl.sock show users");
    print!("{}", indent(&server.occtl(&["show", "users"]).1, 10));

    title("The end");
    client.process.signal("INT");
    client.process.wait();
    print!(
        "{}",
        indent(
            &client.process.stdout().lines().rev().take(1).collect::<String>(),
            2
        )
    );
    drop(client);
    drop(server);
    drop(world);
    if keep {
        println!("the files are kept in {dir}");
    } else {
        println!("everything is removed again (KEEP=1 make demo keeps the files)");
    }
}

/// Sets the user's password with our own `ocpasswd`.
fn add_user(fixture: &Fixture) {
    let file = fixture.path("ocpasswd");
    println!(
        "# ocpasswd -c {} -g staff {USER}        (the password is '{PASSWORD}')",
        file.display()
    );
    let script = format!(
        "printf '%s\\n' '{PASSWORD}' | '{}' -c '{}' -g staff {USER}",
        built("ocpasswd").display(),
        file.display()
    );
    let status = Command::new("/bin/sh").args(["-c", &script]).status();
    assert!(status.is_ok_and(|status| status.success()), "ocpasswd failed");
}

fn throughput(world: &World, fixture: &Fixture) {
    let address: IpAddr = Client::inner_v4(world);
    let server: IpAddr = INNER_SERVER_V4.parse().unwrap_or(address);
    for (direction, from, to, address) in [
        ("to the server", &world.client, &world.server, server),
        ("to the client", &world.server, &world.client, address),
    ] {
        let begin = Instant::now();
        probe::transfer(&built("transfer"), fixture.dir(), from, to, address);
        let megabytes = probe::TRANSFER_SIZE / 1_000_000;
        println!(
            "{megabytes} MB {direction} in {:.2} s, hashes equal",
            begin.elapsed().as_secs_f64()
        );
    }
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn indent(text: &str, most: usize) -> String {
    text.lines()
        .take(most)
        .map(|line| format!("    {line}\n"))
        .collect()
}
