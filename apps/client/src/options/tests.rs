use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

use culvert_getopt::Argument;
use culvert_token::Mode;
use culvert_vocab::SecretString;

use super::table::{OPTIONS, Opt};
use super::*;

/// A machine with scripted answers.
#[derive(Default)]
struct Scripted {
    warnings: Vec<String>,
    lines: Vec<&'static str>,
    files: HashMap<&'static str, &'static str>,
}

impl Host for Scripted {
    fn warn(&mut self, text: &str) {
        self.warnings.push(text.into());
    }
    fn read_line(&mut self) -> Result<SecretString, String> {
        if self.lines.is_empty() {
            return Err("End of file".into());
        }
        Ok(self.lines.remove(0).into())
    }
    fn read_file(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let content = path.to_str().and_then(|path| self.files.get(path));
        content
            .map(|text| text.as_bytes().to_vec())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }
    fn home(&mut self) -> Option<PathBuf> {
        Some("/home".into())
    }

    fn user_by_name(&mut self, name: &str) -> Option<UserIds> {
        (name == "nobody").then_some(UserIds {
            uid: 65534,
            gid: 65534,
        })
    }
    fn user_by_id(&mut self, uid: u32) -> Option<UserIds> {
        (uid == 65534).then_some(UserIds { uid, gid: 65534 })
    }
}

fn run_on(host: &mut Scripted, line: &[&str]) -> Result<Options, Stop> {
    let args: Vec<OsString> = std::iter::once(&"openconnect")
        .chain(line)
        .map(OsString::from)
        .collect();
    parse(&args, host)
}

fn run(line: &[&str]) -> Result<Options, Stop> {
    run_on(&mut Scripted::default(), line)
}

fn ok(line: &[&str]) -> Options {
    run(line).unwrap_or_else(|stop| panic!("{line:?}: {stop:?}"))
}

/// The captured command lines that end before any network traffic.
#[test]
fn command_lines_of_the_reference() {
    let vectors = include_str!("../../tests/vectors/cli-errors.txt");
    let files = [
        ("cfgA", "no-dtls foo"),
        ("cfgB", "mtu"),
        ("cfgC", "blah foo"),
        ("cfgD", "config=x"),
    ];
    let mut checked = 0;
    for case in vectors.split("\n$ openconnect ").skip(1) {
        let mut lines = case.lines();
        let command = lines.next().unwrap_or_default();
        let errors: Vec<&str> = case.lines().filter_map(|line| line.strip_prefix("E: ")).collect();
        let reaches_network = case.contains("Failed to complete authentication");
        let url_is_checked_later = errors.iter().any(|e| e.contains("server URL"));
        if reaches_network || url_is_checked_later {
            continue;
        }
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut host = Scripted {
            files: HashMap::from(files),
            ..Scripted::default()
        };
        let stop = run_on(&mut host, &words).expect_err(command);
        // Texts after a user name, a user id or `fgets` are a stale errno in the reference.
        let stable = |text: &str| {
            let stale = text.starts_with("fgets") || text.starts_with("Invalid user");
            text.split(": ")
                .next()
                .filter(|_| stale)
                .unwrap_or(text)
                .to_owned()
        };
        let (printed, usage) = match stop {
            Stop::Help => (String::new(), true),
            Stop::Version => (String::new(), false),
            Stop::Usage(text) => (text, true),
            Stop::Error(text) => (text, false),
        };
        let printed: Vec<String> = printed.lines().map(stable).collect();
        let wanted: Vec<String> = errors.iter().copied().map(stable).collect();
        assert_eq!(printed, wanted, "{command}");
        assert_eq!(usage, case.contains("O: usage"), "{command}");
        checked += 1;
    }
    assert!(checked >= 24, "only {checked} cases were read");
}

/// A value that each option accepts.
fn sample(opt: Opt) -> &'static str {
    match opt {
        Opt::Proxy => "http://proxy.test",
        Opt::SetUid | Opt::CsdUser => "nobody",
        Opt::Os => "win",
        Opt::Protocol => "AnyConnect",
        Opt::Compression => "none",
        Opt::GnutlsPriority => "NORMAL:-VERS-TLS1.3",
        Opt::DtlsCiphers | Opt::Dtls12Ciphers => "PSK-NEGOTIATE",
        Opt::FormEntry => "main:password=x",
        Opt::Resolve => "vpn.test:192.0.2.1",
        _ => "1400",
    }
}

/// Each option with an argument works the same in all its spellings.
#[test]
fn spellings_agree() {
    for spec in OPTIONS.iter().filter(|spec| spec.argument == Argument::Required) {
        // A token mode is nothing without a secret, see `tokens`.
        if matches!(spec.opt, Opt::Config | Opt::Server | Opt::TokenMode) {
            continue;
        }
        let value = sample(spec.opt);
        let long = run(&[&format!("--{}", spec.long), value, "h"]);
        assert_eq!(
            long,
            run(&[&format!("--{}={value}", spec.long), "h"]),
            "{}",
            spec.long
        );
        if let Some(letter) = spec.short {
            assert_eq!(long, run(&[&format!("-{letter}"), value, "h"]), "{}", spec.long);
            assert_eq!(long, run(&["h", &format!("-{letter}{value}")]), "{}", spec.long);
        }
        for line in [
            format!("{} {value}\n", spec.long),
            format!("\t {} =  {value}\r\n", spec.long),
            format!("# comment\n\n{}={value}", spec.long),
        ] {
            let mut host = Scripted {
                files: HashMap::from([("f", line.leak() as &str)]),
                ..Scripted::default()
            };
            assert_eq!(long, run_on(&mut host, &["--config=f", "h"]), "{}", spec.long);
        }
        assert!(long.is_ok(), "{}: {long:?}", spec.long);
    }
}

#[test]
fn flags_in_config_files_and_on_the_line_agree() {
    let immediate = [Opt::Help, Opt::Version, Opt::CookieOnStdin, Opt::PasswdOnStdin];
    for spec in OPTIONS
        .iter()
        .filter(|spec| spec.argument == Argument::None && !immediate.contains(&spec.opt))
    {
        let mut host = Scripted {
            files: HashMap::from([("f", spec.long)]),
            ..Scripted::default()
        };
        assert_eq!(
            run(&[&format!("--{}", spec.long), "h"]),
            run_on(&mut host, &["--config=f", "h"])
        );
    }
}

#[test]
fn order_and_accumulation() {
    assert_eq!(ok(&["-vv", "-q", "-v", "h"]).output.level, 1);
    assert_eq!(ok(&["-vvq", "h"]).output.level, 0);
    assert_eq!(
        ok(&["--servercert=a", "--servercert=b", "h"]).trust.pins,
        ["a", "b"]
    );
    assert!(ok(&["--servercert=a", "h"]).trust.no_system_trust);
    assert_eq!(ok(&["-m1300", "-m1400", "h"]).tunnel.mtu, Some(1400));
    let mode = |line: &[&str]| ok(line).login.cookie_mode;
    assert_eq!(mode(&["--authenticate", "--cookieonly", "h"]), CookieMode::Only);
    assert_eq!(
        mode(&["--cookieonly", "--authenticate", "h"]),
        CookieMode::Authenticate
    );
    assert_eq!(
        ok(&["--resolve=h:2001:db8::1", "h"]).network.resolve[0].address,
        "2001:db8::1"
    );
    assert_eq!(run(&["-V", "--bogus"]), Err(Stop::Version));
    assert_eq!(ok(&["--", "-v"]).server, "-v");
    assert_eq!(
        run(&["--server=a", "b"]),
        Err(Stop::Usage("Too many arguments on command line".into()))
    );
}

#[test]
fn standard_input_is_read_in_order() {
    let mut host = Scripted {
        lines: vec!["first", "second"],
        ..Scripted::default()
    };
    let options = run_on(&mut host, &["--cookie-on-stdin", "--passwd-on-stdin", "h"]).expect("two lines");
    assert_eq!(options.login.cookie, Some("first".into()));
    assert_eq!(options.login.password, Some("second".into()));
    let mut host = Scripted {
        lines: vec![""],
        ..Scripted::default()
    };
    let options = run_on(&mut host, &["--cookie-on-stdin", "h"]).expect("an empty line");
    assert_eq!(options.login.cookie, None);
}

#[test]
fn numbers_and_limits() {
    let warned = |line: &[&str]| {
        let mut host = Scripted::default();
        let options = run_on(&mut host, line).unwrap_or_else(|stop| panic!("{stop:?}"));
        (options, host.warnings)
    };
    let (options, warnings) = warned(&["-m", "100", "h"]);
    assert_eq!(
        (options.tunnel.mtu, warnings),
        (Some(576), vec!["MTU 100 too small".into()])
    );
    let (options, warnings) = warned(&["-Q", "0", "h"]);
    assert_eq!(options.tunnel.queue_len, 1);
    assert_eq!(warnings, ["Queue length zero not permitted; using 1"]);
    assert_eq!(ok(&["--force-dpd=1", "h"]).tunnel.force_dpd, Some(2));
    assert_eq!(ok(&["--force-dpd=0", "h"]).tunnel.force_dpd, None);
    assert_eq!(
        ok(&["--tcp-keepalive", "h"]).network.tcp_keepalive,
        TcpKeepalive::SystemInterval
    );
    assert_eq!(
        ok(&["--tcp-keepalive=9", "h"]).network.tcp_keepalive,
        TcpKeepalive::Seconds(9)
    );
    assert_eq!(ok(&["--reconnect-timeout=-1", "h"]).network.reconnect_timeout, -1);
    for bad in [
        "--mtu=12x",
        "--dtls-local-port=70000",
        "--reconnect-timeout=soon",
        "--queue-len=-1",
    ] {
        assert!(
            matches!(run(&[bad, "h"]), Err(Stop::Error(text)) if text.starts_with("Invalid number")),
            "{bad}"
        );
    }
    assert_eq!(
        ok(&["-U", "0xfffe", "h"]).process.user,
        ok(&["-U", "nobody", "h"]).process.user
    );
}

#[test]
fn header_injection_is_refused() {
    assert!(matches!(
        run(&["--useragent=a\r\nX: y", "h"]),
        Err(Stop::Error(_))
    ));
}

#[test]
fn form_entries() {
    let entry = |text: &str| ok(&["-F", text, "h"]).login.form_entries.remove(0);
    assert_eq!(entry("main:user=a=b:c").value, Some("a=b:c".into()));
    assert_eq!(entry("main:a:b=c").field, "a:b");
    assert_eq!(entry("main:hidden").value, None);
}

#[test]
fn help_names_every_visible_option() {
    let help = help_text();
    for spec in OPTIONS.iter().filter(|spec| spec.help.is_some()) {
        assert!(help.contains(&format!("--{}", spec.long)), "{}", spec.long);
    }
    assert!(!help.contains("no-cert-check"));
    assert!(help.starts_with("Usage:  openconnect [options] <server>\n"));
    assert_eq!(version_text().lines().count(), 4);
}

#[test]
fn tokens() {
    let token = |line: &[&str]| ok(line).login.token;
    let text = |mode, secret: &str| {
        Some(TokenOptions::Oath(OathOptions {
            mode,
            secret: TokenSecret::Text(secret.into()),
        }))
    };
    assert_eq!(token(&["--token-secret=x", "h"]), None);
    assert_eq!(
        token(&["--token-mode", "TOTP", "--token-secret", "key", "h"]),
        text(Mode::Totp, "key")
    );
    assert_eq!(
        token(&["--token-secret=key,3", "--token-mode=hotp", "h"]),
        text(Mode::Hotp, "key,3")
    );
    let mut host = Scripted {
        files: HashMap::from([
            ("/t", "key,3\n"),
            ("t", "key,4"),
            ("bearer", "abc\n"),
            (
                "/home/.stokenrc",
                "version 1\ntoken 264776164514936363764533471463346710742102273270227272044173150076753262716771514\npin 1234\n",
            ),
            ("f", "token-mode totp\ntoken-secret = @t"),
        ]),
        ..Scripted::default()
    };
    let mut run = |line: &[&str]| run_on(&mut host, line);
    for (argument, path) in [("/t", "/t"), ("@t", "t")] {
        let options = run(&["--token-mode=hotp", "--token-secret", argument, "h"]).expect(argument);
        let expected = OathOptions {
            mode: Mode::Hotp,
            secret: TokenSecret::File(path.into()),
        };
        assert_eq!(options.login.token, Some(TokenOptions::Oath(expected)));
    }
    let options = run(&["--config=f", "h"]).expect("configuration file");
    let Some(TokenOptions::Oath(OathOptions { mode: Mode::Totp, .. })) = options.login.token else {
        panic!("{:?}", options.login.token);
    };
    let options = run(&["--token-mode=rsa", "h"]).expect("~/.stokenrc");
    let Some(TokenOptions::SecurId(SecurIdOptions { pin: Some(pin), .. })) = options.login.token else {
        panic!("{:?}", options.login.token);
    };
    assert_eq!(pin.expose(), "1234");
    let options = run(&["--token-mode=yubioath", "--token-secret=lab:alice", "h"]).expect("credential");
    let credential = Some("lab:alice".into());
    assert_eq!(options.login.token, Some(TokenOptions::Yubikey { credential }));
    let options = run(&["--token-mode=oidc", "--token-secret=@bearer", "h"]).expect("bearer");
    assert_eq!(
        (options.login.bearer, options.login.token),
        (Some("abc".into()), None)
    );
    for (line, text) in [
        (
            &["--token-mode=hotp", "--token-secret=k,x", "h"][..],
            "Soft token string is invalid",
        ),
        (
            &["--token-mode=totp", "--token-secret=@no", "h"],
            "Failed to open no: No such file or directory",
        ),
        (
            &["--token-mode=oidc", "--token-secret=@no", "h"],
            "Failed to open no: No such file or directory\nCan't open oidc file",
        ),
        (
            &["--token-mode=rsa", "--token-secret=1234", "h"],
            "the token is no SecurID token of 81 digits (others need RSA's own programs)\nSoft token string is invalid",
        ),
    ] {
        assert_eq!(run(line), Err(Stop::Error(text.into())), "{line:?}");
    }
}

/// `docs/options-client.md` has a row for each option, in order, and names files that exist; the
/// tests that it names use the option.
#[test]
fn the_page_of_options_is_true() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    let page = read("docs/options-client.md");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| `--"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), OPTIONS.len());
    for (row, spec) in rows.iter().zip(OPTIONS) {
        let long = format!("--{}", spec.long);
        let short = spec.short.map(|letter| format!("-{letter}"));
        let name = match &short {
            Some(short) => format!("`{long}`, `{short}`"),
            None => format!("`{long}`"),
        };
        let [option, place, test] = row[..] else {
            panic!("{row:?}");
        };
        assert_eq!(option, name);
        read(place);
        if !matches!(test, "" | "spellings only") {
            let text = read(test);
            let used = short.is_some_and(|short| text.contains(&format!("\"{short}\"")));
            assert!(used || text.contains(&long), "{test} does not use {long}");
        }
    }
}

/// The manual has an entry for every option that the help has, and one only.
#[test]
fn the_manual_has_every_visible_option_once() {
    let page = include_str!("../../../../docs/man/openconnect.8").replace('\\', "");
    let lines: Vec<&str> = page.lines().collect();
    let entries: Vec<&str> = lines
        .windows(2)
        .filter(|pair| pair[0] == ".TP")
        .map(|pair| pair[1])
        .collect();
    let names = |entry: &&&str, long: &str| {
        entry
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .any(|word| word.strip_prefix("--") == Some(long))
    };
    for spec in table::OPTIONS.iter().filter(|spec| spec.help.is_some()) {
        let count = entries.iter().filter(|entry| names(entry, spec.long)).count();
        assert_eq!(count, 1, "--{}", spec.long);
    }
}
