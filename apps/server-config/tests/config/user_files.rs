//! Per-user and per-group files.

use std::path::Path;
use std::time::Duration;

use culvert_server_config::{Host, SessionSettings, UserConfigError, route_text};
use culvert_vocab::{GroupName, UserName};

use crate::common::config;

/// Directories for users and groups, and a host that uses them.
struct Files {
    directory: tempfile::TempDir,
    host: Host,
}

impl Files {
    fn new(options: &str) -> Self {
        let directory = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        for name in ["users", "groups"] {
            std::fs::create_dir(directory.path().join(name)).unwrap_or_else(|error| panic!("{error}"));
        }
        let root = directory.path().display();
        let host = config(&format!(
            "config-per-user = {root}/users\nconfig-per-group = {root}/groups\nroute = 10.0.0.0/8\n\
             dns = 8.8.8.8\nmtu = 1400\n{options}"
        ))
        .default_host;
        Self { directory, host }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> &Self {
        std::fs::write(self.path(name), text).unwrap_or_else(|error| panic!("{error}"));
        self
    }

    fn settings(&self, user: &str, group: Option<&str>) -> Result<SessionSettings, UserConfigError> {
        let user = UserName::new(user).unwrap_or_else(|error| panic!("{error}"));
        let group = group.map(|group| GroupName::new(group).unwrap_or_else(|error| panic!("{error}")));
        self.host
            .settings_for(&user, group.as_ref())
            .map(|(settings, _)| settings)
    }

    fn good(&self, user: &str, group: Option<&str>) -> SessionSettings {
        self.settings(user, group)
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

fn routes(settings: &SessionSettings) -> Vec<String> {
    settings.routes.nets.iter().map(route_text).collect()
}

#[test]
fn without_files_the_hosts_settings_count() {
    let files = Files::new("");
    assert_eq!(files.good("alice", Some("staff")), files.host.session);
    let host = config("dpd = 5").default_host;
    let user = UserName::new("alice").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        host.settings_for(&user, None).map(|(s, _)| s).ok(),
        Some(host.session),
        "no directories"
    );
}

#[test]
fn users_override_groups_override_hosts_and_lists_of_both_add_up() {
    let files = Files::new("keepalive = 11\ndpd = 12\nidle-timeout = 13");
    files
        .write(
            "groups/staff",
            "dpd = 22\nidle-timeout = 23\nroute = 172.16.0.0/12\ndns = 1.1.1.1\n",
        )
        .write(
            "users/alice",
            "idle-timeout = 33\nroute = 192.168.0.0/16\nno-udp = true\nexplicit-ipv4 = 10.1.1.1\n",
        );
    let both = files.good("alice", Some("staff"));
    let seconds = |n| Some(Duration::from_secs(n));
    assert_eq!(
        (both.keepalive, both.dpd, both.idle_timeout),
        (seconds(11), seconds(22), seconds(33))
    );
    assert_eq!(
        routes(&both),
        ["172.16.0.0/255.240.0.0", "192.168.0.0/255.255.0.0"]
    );
    assert_eq!(both.dns.len(), 1);
    assert!(both.no_udp && both.explicit_ipv4.is_some());
    assert_eq!(routes(&files.good("alice", None)), ["192.168.0.0/255.255.0.0"]);
    assert_eq!(files.good("bob", Some("staff")).dpd, seconds(22));
}

#[test]
fn routes_can_be_added_instead() {
    let files = Files::new("append-routes = true\nno-route = 10.5.0.0/16");
    files.write("users/alice", "route = 192.168.0.0/16\nno-route = 10.6.0.0/16\n");
    let settings = files.good("alice", None);
    assert_eq!(
        routes(&settings),
        ["10.0.0.0/255.0.0.0", "192.168.0.0/255.255.0.0"]
    );
    assert_eq!(settings.no_routes.len(), 2);
}

#[test]
fn a_default_route_for_a_user_takes_the_dns_along() {
    let files = Files::new("");
    files.write("users/alice", "route = default\n");
    let settings = files.good("alice", None);
    assert!(settings.routes.default && settings.routes.nets.is_empty() && settings.tunnel_all_dns);
    assert!(!files.host.session.tunnel_all_dns);
}

#[test]
fn the_mtu_is_never_larger_than_the_hosts() {
    let files = Files::new("");
    files
        .write("users/alice", "mtu = 9000\n")
        .write("users/bob", "mtu = 1300\n");
    assert_eq!(files.good("alice", None).mtu, Some(1400));
    assert_eq!(files.good("bob", None).mtu, Some(1300));
}

#[test]
fn fallbacks_stand_in_for_missing_files_and_must_exist() {
    let files = Files::new("");
    let root = files.directory.path().display();
    files
        .write("fallback", "dpd = 44\n")
        .write("users/alice", "dpd = 55\n");
    let host = |fallback: &str| Files {
        directory: tempfile::tempdir().unwrap_or_else(|error| panic!("{error}")),
        host: config(&format!(
            "config-per-user = {root}/users\ndefault-user-config = {root}/{fallback}"
        ))
        .default_host,
    };
    assert_eq!(
        host("fallback").good("bob", None).dpd,
        Some(Duration::from_secs(44))
    );
    assert_eq!(
        host("fallback").good("alice", None).dpd,
        Some(Duration::from_secs(55))
    );
    assert!(matches!(
        host("missing").settings("bob", None),
        Err(UserConfigError::Unreadable { .. })
    ));
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    let files = Files::new("");
    files.write("secret", "dpd = 1\n");
    for name in ["..", ".", "../secret", "a/b", "/etc/passwd"] {
        assert!(
            matches!(files.settings(name, None), Err(UserConfigError::UnsafeName(_))),
            "{name}"
        );
        assert!(
            matches!(
                files.settings("alice", Some(name)),
                Err(UserConfigError::UnsafeName(_))
            ),
            "{name}"
        );
    }
}

#[test]
fn links_and_other_kinds_of_files_are_refused() {
    let files = Files::new("");
    files.write("secret", "dpd = 1\n");
    std::os::unix::fs::symlink(files.path("secret"), files.path("users/link"))
        .unwrap_or_else(|e| panic!("{e}"));
    std::fs::create_dir(files.path("users/directory")).unwrap_or_else(|error| panic!("{error}"));
    let socket = std::os::unix::net::UnixListener::bind(files.path("users/socket"));
    assert!(socket.is_ok());
    for name in ["link", "directory", "socket"] {
        assert!(
            matches!(
                files.settings(name, None),
                Err(UserConfigError::Unreadable { .. })
            ),
            "{name}"
        );
    }
}

#[test]
fn wrong_files_are_named_with_their_line() {
    let files = Files::new("");
    files.write("groups/staff", "dpd = 3\n");
    for (text, message, line) in [
        (
            "dpd = 1\nnonsense\n",
            "neither option, section nor comment, or too long",
            2,
        ),
        (
            "route = 10.0.0.0/8;reboot\n",
            "route '10.0.0.0/8;reboot' has an invalid IPv4 prefix",
            1,
        ),
        (
            "\niroute = $(id)/8\n",
            "route '$(id)/8' has an invalid IPv4 address",
            2,
        ),
        (
            "restrict-user-to-ports = foo\n",
            "cannot parse restrict-user-to-ports: unknown protocol on restrict-user-to-ports: 'foo'",
            1,
        ),
        ("explicit-ipv4 = x\n", "invalid IPv4 address 'x'", 1),
    ] {
        files.write("users/alice", text);
        let Err(UserConfigError::Wrong(error)) = files.settings("alice", Some("staff")) else {
            panic!("accepted: {text}")
        };
        assert_eq!((error.message.as_str(), error.line), (message, Some(line)));
        assert_eq!(error.file, files.path("users/alice").as_path() as &Path);
    }
}

#[test]
fn unknown_and_misplaced_options_are_noted_and_ignored() {
    let files = Files::new("");
    files.write("users/alice", "bogus = 1\ntcp-port = 5\ndpd = 6\n");
    let user = UserName::new("alice").unwrap_or_else(|error| panic!("{error}"));
    let (settings, notes) = files
        .host
        .settings_for(&user, None)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(settings.dpd, Some(Duration::from_secs(6)));
    assert_eq!(
        crate::common::texts(&notes),
        [
            "warning: skipping unknown option 'bogus'",
            "warning: skipping unknown option 'tcp-port'"
        ]
    );
}

#[test]
fn networks_behind_clients_are_exposed_to_the_others() {
    let files = Files::new("expose-iroutes = true\n");
    files
        .write("users/berlin", "iroute = 10.7.0.0/16\niroute = fd07::/64\n")
        .write(
            "users/aachen",
            "route = 10.1.0.0/16\niroute = 10.8.0.0/255.255.0.0\n",
        )
        .write("users/broken", "iroute = 10.9.0.0/33\n")
        .write("users/nothing", "dns = 8.8.4.4\n");
    std::fs::create_dir(files.path("users/folder")).unwrap_or_else(|error| panic!("{error}"));
    let (routes, notes) = files.host.exposed_iroutes();
    let shown: Vec<String> = routes
        .iter()
        .map(|route| format!("{} {}", route.user, route.net))
        .collect();
    assert_eq!(
        shown,
        ["aachen 10.8.0.0/16", "berlin 10.7.0.0/16", "berlin fd07::/64"]
    );
    assert!(
        notes.len() == 1 && notes[0].to_string().contains("users/broken"),
        "{notes:?}"
    );

    let off = Files::new("");
    off.write("users/berlin", "iroute = 10.7.0.0/16\n");
    assert_eq!(off.host.exposed_iroutes(), (Vec::new(), Vec::new()));
}
