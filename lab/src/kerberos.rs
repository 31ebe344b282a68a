//! A realm of Kerberos: MIT's KDC on the server host, principals, keytabs, tickets.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Fixture, PASSWORD, SERVER_NAME, USER};
use crate::net::{Host, SERVER_V4, World};
use crate::process::{Finished, Process};
use crate::wait;

/// Name of the realm.
pub const REALM: &str = "LAB.TEST";

/// A running KDC, which knows [`USER`] with [`PASSWORD`] and the service of the VPN server.
#[derive(Debug)]
pub struct Realm {
    /// `krb5kdc`; dropping this value ends it.
    pub kdc: Process,
    dir: PathBuf,
}

impl Realm {
    /// Makes the realm, with these further lines in the KDC's section of the realm.
    ///
    /// # Panics
    /// The KDC is not installed or does not come up.
    pub fn start(world: &World, fixture: &Fixture, lines: &str) -> Self {
        let path = |name: &str| fixture.path(name).display().to_string();
        fixture.write_file(
            "kdc.conf",
            &format!(
                "[kdcdefaults]\n kdc_listen = {SERVER_V4}:88\n kdc_tcp_listen = {SERVER_V4}:88\n{lines}\
                 [realms]\n {REALM} = {{\n  database_name = {}\n  key_stash_file = {}\n  acl_file = {}\n }}\n\
                 [logging]\n kdc = FILE:{}\n",
                path("principals"),
                path("stash"),
                path("kadm5.acl"),
                path("kdc.log"),
            ),
        );
        write_config(fixture, "krb5.conf", &format!("kdc = {SERVER_V4}:88"), "");
        let dir = fixture.dir().to_owned();
        let run = |program: &str, arguments: &[&str]| {
            let mut command = world.server.command(program);
            command.args(arguments);
            let done = finish(environment(command, &dir, "krb5.conf"), fixture, None);
            assert_eq!(done.code, 0, "{program}: {}{}", done.stdout, done.stderr);
        };
        run(
            "kdb5_util",
            &["create", "-s", "-r", REALM, "-P", "the master key"],
        );
        let kadmin = |query: &str| run("kadmin.local", &["-r", REALM, "-q", query]);
        kadmin(&format!("addprinc -pw \"{PASSWORD}\" {USER}"));
        for (service, host) in [
            ("HTTP", SERVER_NAME),
            ("HTTP", "proxy.test"),
            ("rcmd", "proxy.test"),
        ] {
            let keytab = path(&format!("{host}.keytab"));
            kadmin(&format!("addprinc -randkey {service}/{host}"));
            kadmin(&format!("ktadd -k {keytab} {service}/{host}"));
        }
        let mut command = world.server.command("krb5kdc");
        command.arg("-n");
        let kdc = Process::start(environment(command, &dir, "krb5.conf"), &dir, "krb5kdc", None);
        wait::until(&format!("the KDC\n{}", kdc.output()), || {
            let sockets = world.server.run("ss", &["-tlnH", "sport", "=", "88"]);
            (!sockets.is_empty()).then_some(())
        });
        Self { kdc, dir }
    }

    /// Runs a query of `kadmin.local`.
    ///
    /// # Panics
    /// It fails.
    pub fn administer(&self, world: &World, fixture: &Fixture, query: &str) {
        let mut command = world.server.command("kadmin.local");
        command.args(["-r", REALM, "-q", query]);
        let done = finish(environment(command, &self.dir, "krb5.conf"), fixture, None);
        assert_eq!(done.code, 0, "{query}: {}", done.stderr);
    }

    /// A command in the realm: its configuration is `krb5.conf`, its tickets are in `cache`.
    pub fn with_tickets(&self, mut command: Command, cache: &str) -> Command {
        command.env("KRB5CCNAME", format!("FILE:{}", self.dir.join(cache).display()));
        environment(command, &self.dir, "krb5.conf")
    }

    /// Gets a ticket on `host` into `cache` by this configuration.
    pub fn kinit(
        &self,
        host: &Host,
        fixture: &Fixture,
        (config, cache): (&str, &str),
        principal: &str,
    ) -> Finished {
        let mut command = host.command("kinit");
        command.arg(principal);
        let command = environment(self.with_tickets(command, cache), &self.dir, config);
        finish(command, fixture, Some(&format!("{PASSWORD}\n")))
    }
}

/// Writes a client's configuration, in which `kdc` says where the KDC is.
pub fn write_config(fixture: &Fixture, name: &str, kdc: &str, further: &str) -> PathBuf {
    fixture.write_file(
        name,
        &format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
             dns_canonicalize_hostname = false\n rdns = false\n\
             [realms]\n {REALM} = {{\n  {kdc}\n }}\n{further}\
             [domain_realm]\n .test = {REALM}\n"
        ),
    )
}

fn environment(mut command: Command, dir: &Path, config: &str) -> Command {
    command
        .env("KRB5_CONFIG", dir.join(config))
        .env("KRB5_KDC_PROFILE", dir.join("kdc.conf"))
        // Prompts are compared with nothing, but logs are read.
        .env("LC_ALL", "C");
    command
}

fn finish(command: Command, fixture: &Fixture, input: Option<&str>) -> Finished {
    Process::start(command, fixture.dir(), "kerberos", input).finish()
}
