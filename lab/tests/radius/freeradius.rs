//! FreeRADIUS as a process of the test, with a configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};

use culvert_lab::net::Host;
use culvert_lab::{Fixture, Make, Process, World};

/// The shared secret.
pub(crate) const SECRET: &str = "testing123";
/// From the port for questions to the one for TLS.
pub(crate) const TLS_OFFSET: u16 = 271;
/// The answer to both challenges.
pub(crate) const TOKEN: &str = "123456";

/// Users, and what they get.
///
/// - `full` gets everything, signed; `plain` a group; `admin` is for another service; `odd` gets a
///   route that is none; `unsigned` is answered without Message-Authenticator.
/// - `pooled` gets an address of a pool, `nowhere` of one that there is not.
/// - `brief` may stay for two seconds, `idle` while there is something to do.
/// - `token` is asked for two tokens.
const USERS: &str = r#"
full     Cleartext-Password := "good"
         Service-Type = Framed-User,
         Class = "OU=grp1;grp2",
         Framed-IP-Address = 10.77.5.5,
         Framed-IP-Netmask = 255.255.255.0,
         Framed-IPv6-Address = 2001:db8::77,
         Framed-Route = "10.55.0.0/16 0.0.0.0 1",
         Framed-IPv6-Prefix = 2001:db8:55::/64,
         MS-Primary-DNS-Server = 192.0.2.53,
         DNS-Server-IPv6-Address = 2001:db8::53,
         Session-Timeout = 3600,
         Acct-Interim-Interval = 1,
         Filter-Id = "none"
plain    Cleartext-Password := "good"
         Class = "staff",
         Filter-Id = "filtered"
pooled   Cleartext-Password := "good"
         Framed-Pool = "guests"
nowhere  Cleartext-Password := "good"
         Framed-Pool = "none"
brief    Cleartext-Password := "good"
         Session-Timeout = 2
idle     Cleartext-Password := "good"
         Idle-Timeout = 2
admin    Cleartext-Password := "good"
         Service-Type = Login-User
odd      Cleartext-Password := "good"
         Framed-Route = "10.55.0.0/99 0.0.0.0 1"
unsigned Cleartext-Password := "good"
"#;

/// A running FreeRADIUS.
pub(crate) struct FreeRadius {
    /// Its process.
    pub(crate) process: Process,
    detail: PathBuf,
}

impl FreeRadius {
    /// Starts one on the server's host that listens on `port` and the next one, for questions of this
    /// make of VPN server: the real one does not sign them.
    pub(crate) fn start(world: &World, fixture: &Fixture, port: u16, asked_by: Make) -> Self {
        Self::start_on(&world.server, fixture, port, asked_by)
    }

    /// The same on this host.
    pub(crate) fn start_on(host: &Host, fixture: &Fixture, port: u16, asked_by: Make) -> Self {
        let dir = fixture.path(&format!("radius{port}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("users"), USERS).unwrap();
        fs::write(dir.join("dictionary"), "").unwrap();
        let config = configuration(&dir, fixture.dir(), port, asked_by);
        fs::write(dir.join("radiusd.conf"), config).unwrap();
        let mut command = host.command("freeradius");
        command.arg("-f").arg("-d").arg(&dir).args(["-l", "stdout"]);
        let name = format!("freeradius{port}");
        let mut process = Process::start(command, fixture.dir(), &name, None);
        process.wait_for("Ready to process requests");
        Self {
            process,
            detail: dir.join("detail"),
        }
    }

    /// What was accounted so far, one text for each record.
    pub(crate) fn records(&self) -> Vec<Record> {
        let text = fs::read_to_string(&self.detail).unwrap_or_default();
        // The last one may be half written.
        let whole = text.rsplit_once("\n\n").map_or("", |(whole, _)| whole);
        whole
            .split("\n\n")
            .filter(|record| !record.trim().is_empty())
            .map(|record| Record(record.to_owned()))
            .collect()
    }
}

/// Its configuration, in this folder; key and certificate are among the files of the fixture.
fn configuration(folder: &Path, files: &Path, port: u16, asked_by: Make) -> String {
    let (shown, files) = (folder.display(), files.display());
    let (acct, tls) = (port + 1, port + TLS_OFFSET);
    let required = if asked_by == Make::Culvert { "yes" } else { "no" };
    format!(
        r#"
prefix = /usr
raddbdir = {shown}
confdir = {shown}
logdir = {shown}
run_dir = {shown}
libdir = /usr/lib/freeradius
pidfile = {shown}/pid
max_request_time = 5
cleanup_delay = 1
max_requests = 1024
security {{
    reject_delay = 0
    status_server = yes
}}
thread pool {{
    start_servers = 2
    max_servers = 4
    min_spare_servers = 1
    max_spare_servers = 3
}}
clients radsec {{
    client lab_tls {{
        ipaddr = 127.0.0.1
        proto = tls
        secret = radsec
    }}
}}
client lab {{
    ipaddr = 127.0.0.1
    proto = *
    secret = {SECRET}
    require_message_authenticator = {required}
}}
modules {{
    files {{ usersfile = {shown}/users }}
    pap {{ }}
    always handled {{ rcode = handled }}
    always reject {{ rcode = reject }}
    always ok {{ rcode = ok }}
    detail {{ filename = {shown}/detail }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    listen {{
        type = acct
        ipaddr = 127.0.0.1
        port = {acct}
    }}
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
        proto = tcp
    }}
    listen {{
        type = auth+acct
        ipaddr = 127.0.0.1
        port = {tls}
        proto = tcp
        clients = radsec
        tls {{
            private_key_file = {files}/server-key.pem
            certificate_file = {files}/server-cert.pem
            ca_file = {files}/ca.pem
            fragment_size = 8192
            require_client_cert = yes
            tls_min_version = "1.2"
            tls_max_version = "1.2"
        }}
    }}
    authorize {{
        if (&User-Name == "token") {{
            update control {{ Auth-Type := Token }}
        }}
        else {{
            files
            pap
        }}
    }}
    authenticate {{
        Auth-Type PAP {{
            pap
        }}
        Auth-Type Token {{
            update reply {{ Message-Authenticator := 0x00 }}
            if (!&State && &User-Password == "good") {{
                update reply {{
                    State := 0x5331
                    Reply-Message := "Enter token 1"
                }}
                update control {{ &Response-Packet-Type := Access-Challenge }}
                handled
            }}
            elsif (&State == 0x5331 && &User-Password == "{TOKEN}") {{
                update reply {{
                    State := 0x5332
                    Reply-Message := "Enter token 2"
                }}
                update control {{ &Response-Packet-Type := Access-Challenge }}
                handled
            }}
            elsif (&State == 0x5332 && &User-Password == "{TOKEN}") {{
                update reply {{ Class := "tokens" }}
                ok
            }}
            else {{
                reject
            }}
        }}
    }}
    post-auth {{
        if (&User-Name != "unsigned") {{
            update reply {{ Message-Authenticator := 0x00 }}
        }}
        Post-Auth-Type REJECT {{
            update reply {{
                Message-Authenticator := 0x00
                Reply-Message := "Nobody knows you here"
            }}
        }}
    }}
    accounting {{
        detail
    }}
}}
"#
    )
}

/// A record of the accounting log.
#[derive(Debug, Clone)]
pub(crate) struct Record(String);

impl Record {
    /// The value of an attribute.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let values = self.0.lines().filter_map(|line| line.trim().split_once(" = "));
        let value = values.into_iter().find(|(other, _)| *other == name)?.1;
        Some(value.trim_matches('"'))
    }

    /// The value of an attribute that must be there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.value(name)
            .unwrap_or_else(|| panic!("no {name}:\n{}", self.0))
    }

    /// A number that must be there.
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap()
    }
}
