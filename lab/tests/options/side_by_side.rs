//! The real client's command line and ours with the same input: what they say, where, and how
//! they end. What differs on purpose (`docs/differences.md`) is not among the input.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use culvert_lab::{Finished, Fixture, Make, World};
use culvert_sys::netns::NetworkNamespace;

/// A server that nobody is.
const NOBODY: &str = "127.0.0.1:9";
/// Options that openconnect 9.01 does not have.
const NEWER: [&str; 3] = ["--no-external-auth", "--sni", "--tcp-keepalive"];
/// Options that say something else on purpose, or that have no effect to speak of here.
const DIFFERENT: [&str; 7] = [
    "--juniper",
    "--no-http-keepalive",
    "--gnutls-debug",
    "--gnutls-priority",
    "--cookie-on-stdin",
    "--passwd-on-stdin",
    "--key-password-from-fsid",
];

/// A command line and what is on standard input.
type Case = (Vec<String>, &'static str);

fn case(words: &[&str]) -> Case {
    (words.iter().map(|word| (*word).to_owned()).collect(), "")
}

fn run(make: Make, folder: &Path, (words, input): &Case) -> Finished {
    let mut command = Command::new(make.program("openconnect"));
    command
        .arg0("openconnect")
        .args(words)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A program that does not read has its reasons.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What is compared: our help and version have words of their own.
fn comparable(finished: &Finished) -> String {
    let Finished { code, stdout, stderr } = finished;
    let stdout = match stdout.split_once("Usage:  openconnect [options] <server>\n") {
        Some((before, _)) => format!("{before}HELP\n"),
        None if stdout.starts_with("OpenConnect version v") => "VERSION\n".to_owned(),
        None => without_time(stdout),
    };
    format!(
        "exit {code}\n--- stdout\n{stdout}--- stderr\n{}",
        without_time(stderr)
    )
}

fn without_time(text: &str) -> String {
    let line = |line: &str| match line.split_once("] ") {
        Some((time, rest)) if time.starts_with("[20") => format!("[TIME] {rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}

/// Runs each case with both programs, a few at a time, on a host that nobody tells a name.
fn compare(folder: &Path, cases: &[Case]) {
    let left = Mutex::new(cases.iter());
    let differences = Mutex::new(Vec::new());
    let world = World::new();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let host = NetworkNamespace::named(world.client.name()).unwrap();
                host.join().unwrap();
                loop {
                    let Some(case) = left.lock().unwrap().next() else {
                        return;
                    };
                    let real = comparable(&run(Make::Real, folder, case));
                    let ours = comparable(&run(Make::Culvert, folder, case));
                    if real != ours {
                        let text = format!("$ openconnect {case:?}\nREAL {real}OURS {ours}");
                        differences.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let differences = differences.into_inner().unwrap();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// The options in the real program's order, and the letters of those that have one.
fn options(folder: &Path) -> Vec<(String, Option<char>)> {
    let listed = |word: &str| {
        let mut command = Command::new(Make::Real.program("openconnect"));
        command.args(["--autocomplete", word]).env("COMP_CWORD", "1");
        let output = command.current_dir(folder).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let letters: Vec<(char, String)> = ('A'..='Z')
        .chain('a'..='z')
        .map(|letter| (letter, listed(&format!("-{letter}")).trim().to_owned()))
        .collect();
    let letter = |option: &str| Some(letters.iter().find(|(_, long)| long == option)?.0);
    listed("--")
        .lines()
        .map(|option| (option.to_owned(), letter(option)))
        .collect()
}

/// A value that both take, and which shows.
fn value(option: &str) -> &'static str {
    match option {
        "--setuid" | "--csd-user" => "root",
        "--mtu" | "--base-mtu" => "100",
        "--queue-len" => "0",
        "--proxy" => "socks4://127.0.0.1:9",
        "--resolve" => "no-colon",
        "--os" => "beos",
        "--protocol" => "nonesuch",
        "--compression" => "zip",
        "--token-mode" => "sundial",
        "--form-entry" => "no-colon",
        "--server" => "https://127.0.0.1:0/",
        "--config" => "/nonexistent",
        "--xmlconfig" => "/nonexistent",
        "--certificate" | "--sslkey" | "--cafile" => "/nonexistent",
        _ => "14",
    }
}

/// Each option: with and without value, abbreviated, by its letter, in a configuration file.
#[test]
fn every_option_in_every_spelling() {
    let fixture = Fixture::new();
    let folder = fixture.dir();
    let options = options(folder);
    assert!(options.len() > 70, "{options:?}");
    let mut cases = Vec::new();
    for (option, letter) in &options {
        if DIFFERENT.contains(&option.as_str()) {
            continue;
        }
        let (option, value) = (option.as_str(), value(option));
        cases.push(case(&[option]));
        cases.push(case(&["-q", &format!("{option}={value}"), NOBODY]));
        cases.push(case(&["-q", option, value, NOBODY]));
        let cut = &option[..option.len() - 1];
        if !NEWER.iter().any(|newer| newer.starts_with(cut)) {
            cases.push(case(&["-q", &format!("{cut}={value}"), NOBODY]));
        }
        if let Some(letter) = letter {
            cases.push(case(&["-q", &format!("-{letter}"), value, NOBODY]));
            cases.push(case(&[&format!("-q{letter}{value}"), NOBODY]));
            cases.push(case(&[&format!("-q{letter}")]));
        }
        let name = option.trim_start_matches('-');
        for (at, line) in [
            format!("{name} {value}\n"),
            format!("# of {name}\r\n\n \t{name} =  {value}\r\n"),
            format!("quiet\n{name}=\n"),
        ]
        .iter()
        .enumerate()
        {
            let file = fixture.write_file(&format!("{name}-{at}"), line);
            let config = format!("--config={}", file.display());
            cases.push(case(&["-q", &config, NOBODY]));
        }
    }
    compare(folder, &cases);
}

/// Configuration files and profiles, by name.
const FILES: [(&str, &str); 12] = [
    ("nested", "config=x\n"),
    ("dashes", "--mtu 1300\n"),
    ("short", "mt 1300\n"),
    ("nameless", "=x\n"),
    ("lonely", " = \n"),
    ("quotes", "user \"a\"\nos \"linux\"\n"),
    ("server", "server 127.0.0.1:9\nmtu =100\nqueue-len\t0\n"),
    ("second", "no-dtls\nprotocol=zz\n"),
    ("empty.xml", ""),
    ("no.xml", "no XML"),
    ("other.xml", "<a/>"),
    (
        "list.xml",
        "<A><ServerList><HostEntry><HostName> My Host </HostName><HostAddress>127.0.0.1:9</HostAddress>\
         <UserGroup>grp</UserGroup></HostEntry></ServerList></A>",
    ),
];

/// Command lines, whose words have no blanks.
const LINES: [&str; 107] = [
    "",
    "-q 127.0.0.1:9",
    "127.0.0.1:9",
    "127.0.0.1:9 -vv",
    "--timestamp 127.0.0.1:9",
    "a b",
    "-- -v",
    "- x",
    "-V --bogus",
    "-h --bogus",
    "--bogus -V",
    "-qV",
    "-vh",
    "--vers",
    "--ver",
    "--he",
    "-?",
    "-Z",
    "-q-",
    "--no-p h",
    "--no-cert-check x",
    "--version=1",
    "--request-ip=1 h",
    "--passtos=1 h",
    "--hip-x",
    "--openssl-ciphers=x h",
    "--config=nested h",
    "--config=dashes h",
    "--config=short h",
    "--config=nameless h",
    "--config=lonely h",
    "--config=quotes h",
    "--config=server",
    "--config=server x",
    "--config=second h",
    "--config=. h",
    "--server=a b",
    "--server=ftp://b --server=127.0.0.1:9",
    "--server=nobody.invalid --server=127.0.0.1:9",
    "http://foo",
    "ftp://foo",
    "https:/127.0.0.1:9",
    "127.0.0.1:",
    "127.0.0.1:-1",
    "127.0.0.1:+9",
    "127.0.0.1:70000",
    "127.0.0.1:12x",
    "https://127.0.0.1:9:9",
    "https://u@127.0.0.1:9/",
    "[::1]:9",
    "127.0.0.1:9/path?x",
    "-g grp 127.0.0.1:9/",
    "-g grp 127.0.0.1:9/path",
    "127.0.0.1:00009",
    "-q --protocol=help h",
    "-q --protocol=AnyConnect 127.0.0.1:9",
    "-q --compression=ALL h",
    "-q --os=Linux h",
    "-q --token-mode=totp h",
    "-q --token-mode=TOTP --token-secret=base32:A1 h",
    "-q --token-mode=hotp --token-secret=raw,x h",
    "-q --token-mode=oidc h",
    "-q --token-mode=oidc --token-secret=@no h",
    "-q --token-mode=rsa h",
    "-q --token-mode=rsa --token-secret=/no h",
    "-q --token-mode=totp --token-secret=@no h",
    "-q --resolve=127.0.0.1:x 127.0.0.1:9",
    "--resolve foo:bar 127.0.0.1:9",
    "--resolve :x 127.0.0.1:9",
    "--resolve 127.0.0.1:::1 127.0.0.1:9",
    "-F a:b=c 127.0.0.1:9",
    "-F :x=y h",
    "-F a=b:c h",
    "-q -P ftp://foo h",
    "-q -P socks5h://foo h",
    "-P 127.0.0.1:9 127.0.0.1:8",
    "-P socks5://127.0.0.1:9 127.0.0.1:8",
    "-q --proxy-auth=foo,basic --http-auth= 127.0.0.1:9",
    "--no-proxy -P http://127.0.0.1:9 127.0.0.1:8",
    "-P http://127.0.0.1:9 --no-proxy 127.0.0.1:8",
    "-x no 127.0.0.1:9",
    "-x . 127.0.0.1:9",
    "-x other.xml 127.0.0.1:9",
    "-x list.xml --server nobody.invalid",
    "-x list.xml nobody.invalid",
    "--pid-file=/nonexistent/x 127.0.0.1:9",
    "-b 127.0.0.1:9",
    "-k /nonexistent 127.0.0.1:9",
    "-c /nonexistent 127.0.0.1:9",
    "--mca-certificate=/nonexistent 127.0.0.1:9",
    "--cafile /nonexistent 127.0.0.1:9",
    "--servercert x 127.0.0.1:9",
    "--authenticate 127.0.0.1:9",
    "--cookieonly 127.0.0.1:9",
    "--printcookie 127.0.0.1:9",
    "--cookieonly -C abc h",
    "--cookieonly -C abc= h",
    "--cookieonly --authenticate --cookieonly -C it's h",
    "--printcookie -C webvpn=abc 127.0.0.1:9",
    "-C abc 127.0.0.1:9",
    "-v -C abc= 127.0.0.1:9",
    "--timestamp -C abc 127.0.0.1:9",
    "-b -C abc 127.0.0.1:9",
    "-i xxxxxxxxxxxxxxxxxxxxxxx -C a 127.0.0.1:9",
    "--dump-http-traffic 127.0.0.1:9",
    "--no-dtls --pfs --no-xmlpost 127.0.0.1:9",
    "--allow-insecure-crypto 127.0.0.1:9",
];

/// Command lines, and what is typed.
const TYPED: [(&str, &str); 6] = [
    ("-q --cookie-on-stdin 127.0.0.1:9", "cookie"),
    ("--cookie-on-stdin --cookieonly 127.0.0.1:9", "cookie\nmore\n"),
    ("-q --cookie-on-stdin 127.0.0.1:9", "\n"),
    (
        "--passwd-on-stdin --cookie-on-stdin --cookieonly h",
        "password\ncookie\n",
    ),
    (
        "--passwd-on-stdin --cookie-on-stdin --version",
        "password\ncookie\n",
    ),
    ("-q --passwd-on-stdin 127.0.0.1:9", "password"),
];

/// The habits of getopt, of the configuration file, and of values.
#[test]
fn command_lines() {
    let fixture = Fixture::new();
    for (name, text) in FILES {
        fixture.write_file(name, text);
    }
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    let mut cases: Vec<Case> = LINES.iter().map(|line| (words(line), "")).collect();
    cases.push(case(&["-x", "list.xml", "My Host"]));
    cases.push(case(&["-q", "-x", "list.xml", "My Host", "-g", "other"]));
    cases.extend(TYPED.iter().map(|(line, input)| (words(line), *input)));
    compare(fixture.dir(), &cases);
}
