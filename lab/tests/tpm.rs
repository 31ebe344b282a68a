//! Keys of a TPM 2.0 against the real ocserv: key files that tpm2-tools made with a software TPM log
//! in, with the passwords that they need. The real openconnect takes the same files.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use culvert_lab::{
    Client, ClientOptions, Finished, Fixture, Host, Make, Process, Server, ServerOptions, World,
};

/// Port of the software TPM, where the reference looks for it, too.
const PORT: u16 = 2321;

/// What wraps a key.
struct Parent {
    /// What tpm2_create calls it.
    context: &'static str,
    /// What the key file calls it; `None` leaves it out, in the older form of key files.
    handle: Option<&'static str>,
    password: &'static str,
}

/// Made anew by clients, from the template of the owner's hierarchy.
const OWNER: Parent = Parent {
    context: "owner.ctx",
    handle: Some("0x40000001"),
    password: "",
};
/// One that stays.
const KEPT: Parent = Parent {
    context: "0x81000001",
    handle: Some("0x81000001"),
    password: "parent",
};
/// The parent of older files.
const OLD: Parent = Parent {
    context: "old.ctx",
    handle: None,
    password: "",
};

/// A software TPM on a host.
struct Tpm<'a> {
    host: &'a Host,
    fixture: &'a Fixture,
    _process: Process,
}

impl<'a> Tpm<'a> {
    fn start(host: &'a Host, fixture: &'a Fixture) -> Self {
        let state = fixture.path("tpm-state");
        std::fs::create_dir(&state).unwrap();
        let mut command = host.command("swtpm");
        command
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
            .arg("--tpmstate")
            .arg(format!("dir={}", state.display()))
            .args(["--server", &format!("type=tcp,port={PORT},disconnect=false")])
            .args(["--ctrl", &format!("type=tcp,port={}", PORT + 1)]);
        let process = Process::start(command, fixture.dir(), "swtpm", None);
        let tpm = Self {
            host,
            fixture,
            _process: process,
        };
        culvert_lab::wait::until("the software TPM", || {
            let sockets = host.run("ss", &["-Hltn", "sport", "=", &PORT.to_string()]);
            (!sockets.trim().is_empty()).then_some(())
        });
        tpm
    }

    /// One of the tpm2-tools, in the fixture's folder.
    fn tool(&self, name: &str, arguments: &str) {
        let output = self
            .host
            .command(format!("tpm2_{name}"))
            .args(arguments.split_whitespace())
            .env("TPM2TOOLS_TCTI", format!("swtpm:host=localhost,port={PORT}"))
            .current_dir(self.fixture.dir())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tpm2_{name} {arguments}: {errors}");
        // The software TPM has no resource manager.
        if name != "flushcontext" {
            self.tool("flushcontext", "--transient-object");
            self.tool("flushcontext", "--loaded-session");
        }
    }

    /// `owner.ctx` and 0x81000001.
    fn make_parents(&self) {
        // The parent that clients make anew from the template of the owner's hierarchy.
        self.tool(
            "createprimary",
            "-C o -g sha256 -G ecc256:aes128cfb -c owner.ctx \
             -a userwithauth|restricted|decrypt|fixedtpm|fixedparent|noda|sensitivedataorigin",
        );
        // A parent that stays, with a password.
        self.tool(
            "createprimary",
            "-C o -g sha256 -G rsa2048:aes128cfb -p parent -c kept.ctx \
             -a userwithauth|restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin",
        );
        self.tool("evictcontrol", "-C o -c kept.ctx 0x81000001");
    }

    /// Writes `NAME.key`. tpm2_encodeobject would, too, but says of each key that it has a password.
    fn encode(&self, name: &str, label: &str, (oid, before, tagged): (&str, &str, bool)) {
        let hex = |suffix: &str| -> String {
            let octets = std::fs::read(self.fixture.path(&format!("{name}.{suffix}"))).unwrap();
            octets.iter().map(|octet| format!("{octet:02X}")).collect()
        };
        let tag = if tagged { "EXPLICIT:2," } else { "" };
        let description = format!(
            "asn1=SEQUENCE:key\n[key]\noid=OID:{oid}\n{before}\npublic={tag}FORMAT:HEX,OCTETSTRING:{}\n\
             private=FORMAT:HEX,OCTETSTRING:{}\n",
            hex("tpub"),
            hex("tpriv")
        );
        self.fixture.write_file("key.cnf", &description);
        self.fixture
            .openssl("asn1parse -genconf key.cnf -noout -out key.der");
        self.fixture.openssl("base64 -in key.der -out key.b64");
        let base64 = std::fs::read_to_string(self.fixture.path("key.b64")).unwrap();
        let pem = format!("-----BEGIN {label}-----\n{base64}-----END {label}-----\n");
        self.fixture.write_file(&format!("{name}.key"), &pem);
    }

    /// `NAME.key`, a key file, and `NAME.pub`; `parent` is what tpm2_create and the file call it.
    fn key(&self, name: &str, algorithm: &str, password: &str, parent: &Parent) {
        let Parent {
            context,
            password: parent_password,
            ..
        } = parent;
        // A key is no more fixed than its parent.
        let fixed = if parent.handle.is_some() {
            "fixedtpm|fixedparent|"
        } else {
            ""
        };
        let with = |flag: &str, password: &str| match password {
            "" => String::new(),
            password => format!("{flag} {password}"),
        };
        self.tool(
            "create",
            &format!(
                "-C {context} {} -G {algorithm} -u {name}.tpub -r {name}.tpriv -f pem -o {name}.pub {} \
                 -a userwithauth|sign|decrypt|{fixed}sensitivedataorigin|noda",
                with("-P", parent_password),
                with("-p", password)
            ),
        );
        let empty = if password.is_empty() { "TRUE" } else { "FALSE" };
        let empty = format!("empty=EXPLICIT:0,BOOLEAN:{empty}");
        match parent.handle {
            Some(handle) => {
                let before = format!("{empty}\nparent=INTEGER:{handle}");
                self.encode(name, "TSS2 PRIVATE KEY", ("2.23.133.10.1.3", &before, false));
            }
            None => self.encode(name, "TSS2 KEY BLOB", ("2.23.133.10.2", &empty, true)),
        }
    }
}

fn log_in(world: &World, fixture: &Fixture, client: Make, arguments: &[&str], input: &str) -> Finished {
    let ca = fixture.path("ca.pem").display().to_string();
    let mut all = vec!["--cookieonly", "--cafile", &ca];
    all.extend(arguments);
    let mut command = Client::bare(client, world, &all);
    command
        .current_dir(fixture.dir())
        .env("TPM_INTERFACE_TYPE", "socsim");
    Process::start(command, fixture.dir(), "client", Some(input)).finish()
}

/// `NAME.key` and `NAME.pem` of an authority.
fn make_authority(fixture: &Fixture, name: &str) {
    fixture.openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.pem -subj /CN={name} -days 30"
    ));
}

/// `NAME.pem` for the key `NAME.pub`, issued by this authority to this CN.
fn certify(fixture: &Fixture, authority: &str, name: &str, common_name: &str, more: &str) {
    fixture.openssl(&format!(
        "req -new -key {authority}.key -subj /CN={common_name} -out {name}.csr"
    ));
    fixture.openssl(&format!(
        "x509 -req -in {name}.csr -force_pubkey {name}.pub -CA {authority}.pem -CAkey {authority}.key \
             -CAcreateserial -days 80 {more} -out {name}.pem"
    ));
}

/// Keys with further arguments, what is typed, and whether they get in.
const LOGINS: [(&str, &[&str], &str, bool); 10] = [
    ("ec", &[], "", true),
    ("ec384", &[], "", true),
    ("rsa", &[], "", true),
    ("old", &[], "", true),
    ("locked", &["-p", "secret"], "", true),
    ("locked", &[], "wrong\nsecret\n", true),
    ("locked", &["-p", "wrong"], "secret\n", true),
    ("locked", &["--non-inter"], "", false),
    ("child", &["-p", "secret"], "parent\n", true),
    ("ec", &["-k", "locked.key", "-p", "secret"], "", false),
];

#[test]
fn keys_of_a_software_tpm() {
    let world = World::new();
    let fixture = Fixture::new();
    make_authority(&fixture, "client-ca");
    let authority = fixture.path("client-ca.pem").display().to_string();
    let options = ServerOptions {
        overrides: &[
            ("auth", "certificate"),
            ("ca-cert", &authority),
            ("cert-user-oid", "2.5.4.3"),
        ],
        ..ServerOptions::default()
    };
    let server = Server::start_with(Make::Real, &world, &fixture, &options);
    let tpm = Tpm::start(&world.client, &fixture);
    tpm.make_parents();
    // The parent of older files.
    tpm.tool(
        "createprimary",
        "-C o -g sha256 -G ecc256:aes128cfb -c old.ctx \
         -a userwithauth|restricted|decrypt|noda|sensitivedataorigin",
    );
    for (name, algorithm, password, parent) in [
        ("ec", "ecc256:null", "", &OWNER),
        ("ec384", "ecc384:null", "", &OWNER),
        ("rsa", "rsa2048:null", "", &OWNER),
        ("locked", "rsa2048:null", "secret", &OWNER),
        ("old", "rsa2048:null", "", &OLD),
        ("child", "ecc256:null", "secret", &KEPT),
    ] {
        tpm.key(name, algorithm, password, parent);
        certify(&fixture, "client-ca", name, name, "");
    }
    for (name, further, input, enters) in LOGINS {
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let mut arguments = vec!["-c", certificate.as_str()];
        if !further.contains(&"-k") {
            arguments.extend(["-k", key.as_str()]);
        }
        arguments.extend(further);
        let ours = log_in(&world, &fixture, Make::Culvert, &arguments, input);
        assert_eq!(ours.code == 0, enters, "{arguments:?}: {}", ours.stderr);
        assert_eq!(
            ours.stdout.contains("webvpn="),
            enters,
            "{arguments:?}: {}",
            ours.stdout
        );
        let real = log_in(&world, &fixture, Make::Real, &arguments, input);
        assert_eq!(real.code == 0, enters, "{arguments:?}: {}", real.stderr);
        for asked in ["Enter TPM2 key password:", "Enter TPM2 parent key password:"] {
            let expected = match asked {
                "Enter TPM2 key password:" => name == "locked" && !matches!(further, ["-p", "secret"]),
                _ => name == "child",
            };
            assert_eq!(
                ours.stderr.contains(asked),
                expected,
                "{arguments:?}: {}",
                ours.stderr
            );
        }
    }
    let mut lost = Client::bare(
        Make::Culvert,
        &world,
        &["-c", "ec.pem", "-k", "ec.key", "--cookieonly"],
    );
    lost.current_dir(fixture.dir())
        .env("TPM_DEVICE", "/nonexistent/tpm");
    let lost = Process::start(lost, fixture.dir(), "lost", None).finish();
    assert_eq!(lost.code, 1);
    let said =
        "Failed to load TPM2 key: cannot talk to the TPM at /nonexistent/tpm: No such file or directory";
    assert!(lost.stderr.contains(said), "{}", lost.stderr);
    drop(server);
    old_gateways(&world, &fixture, options.overrides);
}

/// The same keys where TLS is OpenSSL's.
fn old_gateways(world: &World, fixture: &Fixture, overrides: &[(&str, &str)]) {
    for (priorities, name) in [
        ("\"NORMAL:-VERS-ALL:+VERS-TLS1.0\"", "rsa"),
        ("\"NORMAL:-VERS-ALL:+VERS-TLS1.1\"", "ec"),
        (
            "\"NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-CBC\"",
            "ec384",
        ),
    ] {
        let overrides = [overrides, &[("tls-priorities", priorities)]].concat();
        let options = ServerOptions {
            overrides: &overrides,
            ..ServerOptions::default()
        };
        let _server = Server::start_with(Make::Real, world, fixture, &options);
        let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
        let ours = log_in(
            world,
            fixture,
            Make::Culvert,
            &["-c", &certificate, "-k", &key],
            "",
        );
        assert_eq!(ours.code, 0, "{name}: {}", ours.stderr);
        assert!(ours.stderr.contains("is weak: "), "{name}: {}", ours.stderr);
        assert!(ours.stdout.contains("webvpn="), "{name}: {}", ours.stdout);
    }
}

/// Keys of our server in its TPM: with and without passwords, and with a wrong one.
#[test]
fn keys_of_a_server() {
    let world = World::new();
    let fixture = Fixture::new();
    let tpm = Tpm::start(&world.server, &fixture);
    tpm.make_parents();
    tpm.key("open", "rsa2048:null", "", &OWNER);
    tpm.key("child", "ecc256:null", "secret", &KEPT);
    make_authority(&fixture, "own-ca");
    fixture.write_file("names.cnf", "subjectAltName=DNS:vpn.test\n");
    for name in ["open", "child"] {
        certify(&fixture, "own-ca", name, "vpn.test", "-extfile names.cnf");
    }
    fixture.write_file("srk-pin", "parent\n");
    let path = |name: &str| fixture.path(name).display().to_string();
    let (authority, srk_file) = (path("own-ca.pem"), path("srk-pin"));
    let under = ["env", "TPM_INTERFACE_TYPE=socsim"];
    for (name, pins, problem) in [
        ("open", &[][..], None),
        ("child", &[("key-pin", "secret"), ("srk-pin", "parent")], None),
        (
            "child",
            &[("key-pin", "secret"), ("srk-pin-file", srk_file.as_str())],
            None,
        ),
        (
            "child",
            &[("key-pin", "secret")],
            Some("srk-pin or srk-pin-file for what wraps it"),
        ),
        (
            "child",
            &[("key-pin", "wrong"), ("srk-pin", "parent")],
            Some("key-pin or pin-file for the key"),
        ),
    ] {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let mut overrides = vec![("server-cert", certificate.as_str()), ("server-key", &key)];
        overrides.extend(pins);
        let options = ServerOptions {
            overrides: &overrides,
            under: &under,
            ..ServerOptions::default()
        };
        let Some(problem) = problem else {
            let server = Server::start_with(Make::Culvert, &world, &fixture, &options);
            let login = ClientOptions {
                arguments: &["--cookieonly", "--cafile", &authority],
                ..ClientOptions::default()
            };
            let login = Client::run(Make::Real, &world, &fixture, &login);
            assert_eq!(login.code, 0, "{name}: {}{}", login.stderr, server.log());
            continue;
        };
        let server = Server::launch(Make::Culvert, &world, &fixture, &options)
            .process
            .finish();
        assert!(
            server.code == 1 && server.stderr.contains(problem),
            "{}",
            server.stderr
        );
    }
}
