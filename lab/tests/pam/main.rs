//! `auth = pam` with Debian's library and modules; the users are those of a private `/etc`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hanging;
mod repeated;
mod sessions;

use std::fs;

use culvert_lab::authority::UID;
use culvert_lab::{
    Authority, Client, ClientOptions, Finished, Fixture, Make, PASSWORD, Process, Server, ServerOptions,
    USER, World, process, wait,
};

/// A module of libpam-wrapper that asks, and changes passwords.
const MATRIX: &str = "/usr/lib/x86_64-linux-gnu/pam_wrapper/pam_matrix.so";
/// One that gives the user the name of the environment.
const SET_ITEMS: &str = "/usr/lib/x86_64-linux-gnu/pam_wrapper/pam_set_items.so";
/// A script decides about accounts.
const ACCOUNT: &str = "account required pam_exec.so @/account\n";
/// The system's own users.
const UNIX: &str = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n";
/// A server that asks PAM, on a host with users of its own.
struct Scene {
    server: Server,
    fixture: Fixture,
    world: World,
}

impl Scene {
    /// `@` in the stack stands for the fixture's folder.
    fn new(make: Make, stack: &str, options: &ServerOptions<'_>) -> Self {
        Self::on(World::new(), Fixture::new(), make, stack, options)
    }

    /// The same on these hosts.
    fn on(world: World, fixture: Fixture, make: Make, stack: &str, options: &ServerOptions<'_>) -> Self {
        write_users(&world);
        write_stack(&world, &fixture, stack);
        let auth = options.overrides.iter().any(|(name, _)| *name == "auth");
        let pam: &[_] = if auth { &[] } else { &[("auth", "pam")] };
        let overrides = [options.overrides, pam].concat();
        let options = ServerOptions {
            overrides: &overrides,
            ..options.clone()
        };
        Self {
            server: Server::start_with(make, &world, &fixture, &options),
            fixture,
            world,
        }
    }

    fn plain(stack: &str) -> Self {
        Self::new(Make::Culvert, stack, &ServerOptions::default())
    }

    fn log_in(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> Finished {
        let arguments = [&["--cookieonly"], arguments].concat();
        let options = ClientOptions {
            user,
            input,
            arguments: &arguments,
            ..ClientOptions::default()
        };
        Client::run(client, &self.world, &self.fixture, &options)
    }

    fn accepts(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> String {
        let login = self.log_in(client, user, input, arguments);
        assert_eq!(login.code, 0, "{user}: {}\n{}", login.stderr, self.server.log());
        assert!(login.stdout.contains("webvpn="), "{user}: {}", login.stdout);
        login.stderr
    }

    fn refuses(&self, client: Make, user: &str, input: &str, arguments: &[&str]) -> String {
        let login = self.log_in(client, user, input, arguments);
        assert_eq!(login.code, 1, "{user}: {}\n{}", login.stderr, self.server.log());
        assert_eq!(login.stdout, "", "{user}");
        login.stderr
    }

    /// Ban points of the client's address.
    fn points(&self) -> Option<u64> {
        let (_, shown) = self.server.occtl(&["--json", "show", "ip", "ban", "points"]);
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        shown[0]["Score"].as_u64()
    }

    /// The helper processes at the moment.
    fn helpers(&self) -> Vec<u32> {
        process::children(self.server.process.pid())
            .into_iter()
            .filter(|pid| process::title(*pid).contains("ocserv-sm"))
            .flat_map(process::children)
            .filter(|pid| process::title(*pid).contains("ocserv-helper"))
            .collect()
    }

    fn wait_for_helpers(&self, count: usize) {
        wait::until(&format!("{count} helpers"), || {
            (self.helpers().len() == count).then_some(())
        });
    }

    fn wait_for_log(&self, text: &str, times: usize) {
        self.server.wait_for_log(text, times);
    }
}

fn write_users(world: &World) {
    let hash = process::run("openssl", &["passwd", "-6", PASSWORD]);
    let hash = hash.trim();
    let mut passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/usr/sbin/nologin\n".to_owned();
    let mut shadow = "root:*:19000::::::\nnobody:*:19000::::::\n".to_owned();
    // The account of `old` expired long ago; `stale` has to change his password.
    for (uid, user, ages) in [
        (2001, "alice", "19000:0:99999:7:::"),
        (2002, "bob", "19000:0:99999:7:::"),
        (2003, "sleepy", "19000:0:99999:7:::"),
        (2004, "old", "19000:0:99999:7::1:"),
        (2005, "stale", "0:0:99999:7:::"),
    ] {
        passwd.push_str(&format!("{user}:x:{uid}:2000::/:/bin/sh\n"));
        shadow.push_str(&format!("{user}:{hash}:{ages}\n"));
    }
    let group = "root:x:0:\nnogroup:x:65534:\nstaff:x:2000:\nadmins:x:3000:alice\n";
    world.server.write_etc("passwd", &passwd);
    world.server.write_etc("shadow", &shadow);
    world.server.write_etc("group", group);
}

fn write_stack(world: &World, fixture: &Fixture, stack: &str) {
    let stack = stack.replace('@', &fixture.dir().display().to_string());
    world.server.write_etc("pam.d/ocserv", &stack);
}

/// The system's users: passwords, groups, accounts, what modules are told.
fn users_of_the_system(client: Make) {
    let stack = format!("{UNIX}{ACCOUNT}");
    let groups = [
        ("auth", "pam[gid-min=1000]"),
        ("auto-select-group", "true"),
        ("max-ban-score", "1000"),
        ("ban-points-connection", "0"),
    ];
    let options = ServerOptions {
        overrides: &groups,
        ..ServerOptions::default()
    };
    let scene = Scene::new(Make::Culvert, &stack, &options);
    let told = scene.fixture.path("told");
    let script = format!("env | grep ^PAM_ | sort > {}", told.display());
    scene.fixture.write_script("account", &script);

    scene.accepts(client, "alice", PASSWORD, &["--authgroup", "staff"]);
    let told = fs::read_to_string(told).unwrap();
    for line in [
        "PAM_RHOST=192.0.2.2",
        "PAM_SERVICE=ocserv",
        "PAM_USER=alice",
        "PAM_TYPE=account",
    ] {
        assert!(told.lines().any(|other| other == line), "{line}: {told}");
    }
    for line in ["PAM_TTY", "PAM_RUSER"] {
        assert!(!told.contains(line), "{told}");
    }
    scene.accepts(client, "alice", PASSWORD, &["--authgroup", "admins"]);
    let offered = scene.refuses(client, "alice", PASSWORD, &[]);
    assert!(offered.contains("[nogroup|staff|admins]"), "{offered}");
    scene.refuses(client, "bob", PASSWORD, &["--authgroup", "admins"]);
    scene.wait_for_log("user 'bob' requested group 'admins' but is not a member", 1);

    let staff = ["--authgroup", "staff"];
    assert_eq!(scene.points(), None, "right passwords cost nothing");
    // PAM's own limits of tries count, so there is one try, and nobody learns which users there are.
    let wrong = scene.refuses(client, "bob", "wrong\nwrong\nwrong", &staff);
    assert!(!wrong.contains("Login failed."), "{wrong}");
    assert_eq!(
        scene.refuses(client, "nemo", "wrong\nwrong\nwrong", &staff),
        wrong
    );
    // The client has its answer before the points are counted.
    wait::until("the points", || scene.points().filter(|points| *points >= 20));
    assert_eq!(scene.points(), Some(20), "once for each login");
    scene.refuses(client, "old", PASSWORD, &staff);
    scene.wait_for_log(
        "user 'old' from 192.0.2.2: User account has expired (PAM result 13)",
        1,
    );
    scene.wait_for_helpers(0);
}

#[test]
fn users_of_the_system_with_the_real_client() {
    users_of_the_system(Make::Real);
}

#[test]
fn users_of_the_system_with_our_client() {
    users_of_the_system(Make::Culvert);
}

/// Several prompts, texts before them, and a password that has to be changed.
fn questions(client: Make, server: Make) {
    let stack = format!(
        "auth required {MATRIX} passdb=@/first\n\
         auth required {MATRIX} echo passdb=@/second\n\
         account required pam_unix.so\n\
         password required {MATRIX} passdb=@/first\n"
    );
    let scene = Scene::new(server, &stack, &ServerOptions::default());
    scene
        .fixture
        .write_file("first", "alice:one:ocserv\nstale:one:ocserv\n");
    scene
        .fixture
        .write_file("second", "alice:two:ocserv\nstale:two:ocserv\n");
    scene.accepts(client, "alice", "one\ntwo\n", &[]);
    scene.refuses(client, "alice", "one\nthree\n", &[]);
    scene.refuses(client, "alice", "three\ntwo\n", &[]);
    let asked = scene.accepts(client, "stale", "one\ntwo\none\nnew one\nnew one\n", &[]);
    for prompt in [
        "Old password:",
        "Password1:",
        "New Password :\nPassword2:",
        "Verify New Password :\nPassword3:",
    ] {
        assert!(asked.contains(prompt), "{prompt}: {asked}");
    }
    // The real server loses what a module says before the call with the question.
    let said =
        asked.contains("You are required to change your password immediately (administrator enforced). Old");
    assert_eq!(said, server == Make::Culvert, "{asked}");
    let passwords = fs::read_to_string(scene.fixture.path("first")).unwrap();
    assert_eq!(passwords, "alice:one:ocserv\nstale:new one:ocserv\n");
}

#[test]
fn questions_to_the_real_client() {
    questions(Make::Real, Make::Culvert);
}

#[test]
fn questions_to_our_client() {
    questions(Make::Culvert, Make::Culvert);
}

#[test]
fn questions_of_the_real_server() {
    questions(Make::Real, Make::Real);
}

/// Modules that refuse, fail or die, and that are not there.
#[test]
fn modules_that_do_not_work() {
    let scene = Scene::plain("auth required pam_deny.so\naccount required pam_permit.so\n");
    scene.refuses(Make::Real, "alice", PASSWORD, &[]);
    scene.fixture.write_script("die", "kill -ABRT $PPID\nsleep 1");
    for (stack, said) in [
        (
            "auth optional pam_unix.so\nauth required pam_exec.so @/die\naccount required pam_permit.so\n",
            "pam helper for user 'alice' ended by signal 6",
        ),
        (
            "auth required pam_unix.so\naccount required pam_no_such_module.so\n",
            "pam helper for user 'alice': Module is unknown (PAM result 28)",
        ),
        (
            "auth required pam_unix.so\naccount required pam_deny.so\n",
            "user 'alice' from 192.0.2.2: ",
        ),
    ] {
        write_stack(&scene.world, &scene.fixture, stack);
        scene.refuses(Make::Real, "alice", PASSWORD, &[]);
        scene.wait_for_log(said, 1);
    }
    // No question, and one with a text before it.
    let silent = "auth required pam_permit.so\naccount required pam_permit.so\n";
    write_stack(&scene.world, &scene.fixture, silent);
    for client in [Make::Real, Make::Culvert] {
        scene.accepts(client, "alice", "whatever", &[]);
    }
    scene.fixture.write_file("notice", "The cellar is flooded.");
    let noted = format!("auth optional pam_echo.so file=@/notice\n{UNIX}");
    write_stack(&scene.world, &scene.fixture, &noted);
    scene.accepts(Make::Real, "alice", PASSWORD, &[]);
    scene.wait_for_helpers(0);
}

/// A module gives the user another name, which is his from then on; `acct = pam` asks for his account
/// when a tunnel opens.
#[test]
fn names_of_modules_and_accounts_of_tunnels() {
    let overrides = [("acct", "pam"), ("cookie-timeout", "60")];
    let options = ServerOptions {
        overrides: &overrides,
        under: &["env", "PAM_USER=bob"],
        ..ServerOptions::default()
    };
    let stack = format!("auth required pam_unix.so\nauth required {SET_ITEMS}\n{ACCOUNT}");
    let scene = Scene::new(Make::Culvert, &stack, &options);
    scene.fixture.write_script("account", "test \"$PAM_USER\" = bob");
    let options = ClientOptions {
        user: "alice",
        ..ClientOptions::default()
    };
    let mut client = Client::connect_with(Make::Culvert, &scene.world, &scene.fixture, &options);
    scene.wait_for_log("auth complete for user 'bob'", 1);
    let (_, users) = scene.server.occtl(&["--json", "show", "users"]);
    assert!(users.contains("\"bob\"") && !users.contains("alice"), "{users}");
    client.process.signal("INT");
    assert_eq!(client.process.exit_code(), 0, "{}", client.process.output());

    // The account may be closed between login and tunnel.
    let stack = stack.replace(
        "pam_exec.so",
        "pam_listfile.so item=user sense=allow onerr=fail file=@/allowed\naccount optional pam_exec.so",
    );
    write_stack(&scene.world, &scene.fixture, &stack);
    scene.fixture.write_file("allowed", "bob\n");
    let script = format!(": > {}", scene.fixture.path("allowed").display());
    scene.fixture.write_script("account", &script);
    let refused = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    scene.wait_for_log("the account of user 'bob' is refused: ", 1);
}

/// A certificate and PAM: both have to speak of the same user, after the modules have named him.
#[test]
fn and_certificate() {
    let (world, fixture) = (World::new(), Fixture::new());
    let authority = Authority::new(&fixture, "users.pem");
    for user in ["alice", "bob"] {
        authority.issue(&fixture, user, Some(user), None);
    }
    let authorities = fixture.path("users.pem").display().to_string();
    let overrides = [
        ("auth", "certificate"),
        ("auth", "pam"),
        ("ca-cert", authorities.as_str()),
        ("cert-user-oid", UID),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        under: &["env", "PAM_USER=bob"],
        ..ServerOptions::default()
    };
    let scene = Scene::on(world, fixture, Make::Culvert, UNIX, &options);
    let path = |name: &str| scene.fixture.path(name).display().to_string();
    let (alices, bobs) = (
        ["-c", &path("alice.pem"), "-k", &path("alice.key")],
        ["-c", &path("bob.pem"), "-k", &path("bob.key")],
    );
    for client in [Make::Real, Make::Culvert] {
        scene.accepts(client, "alice", PASSWORD, &alices);
        scene.refuses(client, "alice", "wrong", &alices);
        scene.refuses(client, "alice", PASSWORD, &bobs);
        scene.refuses(client, "alice", PASSWORD, &[]);
    }
    let renaming = format!("{UNIX}auth required {SET_ITEMS}\n");
    write_stack(&scene.world, &scene.fixture, &renaming);
    scene.accepts(Make::Real, "alice", PASSWORD, &bobs);
    scene.refuses(Make::Real, "alice", PASSWORD, &alices);
    scene.wait_for_log(
        "user 'bob' from 192.0.2.2 presented a certificate which is for user 'alice'",
        1,
    );
}

/// `ocserv test-auth` goes the same way without a server.
#[test]
fn a_login_without_a_server() {
    let scene = Scene::plain(UNIX);
    let config = scene.fixture.path("ocserv.conf").display().to_string();
    let test_auth = |arguments: &[&str], input: &str| {
        let mut command = scene.world.server.command(Make::Culvert.program("ocserv"));
        command.args(["test-auth", "-c", &config]).args(arguments);
        Process::start(command, scene.fixture.dir(), "test-auth", Some(input)).finish()
    };
    for (arguments, input, code, said) in [
        (
            &["alice"][..],
            PASSWORD,
            0,
            &[
                "virtual host 'default', lines: auth = pam",
                "prompt 0: Please enter your password.",
                "accepted as 'alice'",
                "groups: staff, admins",
                "group in force: staff",
                "the login succeeds",
            ][..],
        ),
        (
            &["alice", "--group", "admins"],
            PASSWORD,
            0,
            &["group in force: admins"],
        ),
        (
            &["bob", "--group", "admins"],
            PASSWORD,
            1,
            &["no member of the group"],
        ),
        (
            &["alice"],
            "wrong",
            1,
            &["refused: Authentication failure (PAM result 7)"],
        ),
        (&["old"], PASSWORD, 1, &["refused: User account has expired"]),
        (&["alice"], "", 1, &["no answer: given up"]),
    ] {
        let tried = test_auth(arguments, input);
        assert_eq!(
            tried.code, code,
            "{arguments:?}: {}{}",
            tried.stdout, tried.stderr
        );
        for text in said {
            assert!(
                tried.stdout.contains(text),
                "{text}: {}{}",
                tried.stdout,
                tried.stderr
            );
        }
    }
    // With a session, which is opened and closed.
    let script = format!("echo \"$PAM_TYPE\" >> {}", scene.fixture.path("types").display());
    scene.fixture.write_script("session", &script);
    write_stack(
        &scene.world,
        &scene.fixture,
        &format!("{UNIX}session required pam_exec.so @/session\n"),
    );
    let auth = [("auth", "pam[session=true]")];
    let config_with_session = scene
        .fixture
        .write_file("session.conf", &scene.fixture.ocserv_conf(&auth));
    let tried = test_auth(
        &["-c", &config_with_session.display().to_string(), "alice"],
        PASSWORD,
    );
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
    assert!(
        tried.stdout.contains("the PAM session opens and closes"),
        "{}",
        tried.stdout
    );
    let types = fs::read_to_string(scene.fixture.path("types")).unwrap();
    assert_eq!(types, "open_session\nclose_session\n");
    // The same for another configuration; three wrong answers are the end there, too.
    let config = scene
        .fixture
        .write_file("plain.conf", &scene.fixture.ocserv_conf(&[]));
    let config = config.display().to_string();
    for (input, code, said) in [
        (format!("wrong\n{PASSWORD}\n"), 0, "wrong answer\n"),
        (format!("1\n2\n3\n{PASSWORD}\n"), 1, "refused: 3 wrong answers\n"),
    ] {
        let tried = test_auth(&["-c", &config, USER], &input);
        assert_eq!(tried.code, code, "{}{}", tried.stdout, tried.stderr);
        assert!(
            tried.stdout.contains(said),
            "{said}: {}{}",
            tried.stdout,
            tried.stderr
        );
    }
    let nothing = test_auth(&["alice", "--certificate"], "");
    assert_eq!(nothing.code, 1);
    assert!(
        nothing.stderr.contains("for this kind of login"),
        "{}",
        nothing.stderr
    );
}
