//! Connect, disconnect and host-update scripts: what they are told, by ours and by the real server.

use std::collections::BTreeMap;
use std::fs;

use culvert_lab::{Client, Fixture, Make, Server, ServerOptions, World, probe, wait};

use crate::inner_server;

/// The documented variables of one run of a script.
type Variables = BTreeMap<String, String>;

/// Variables that scripts are told; what else is in the environment is the server's own.
const DOCUMENTED: [&str; 29] = [
    "REASON",
    "ID",
    "VHOST",
    "USERNAME",
    "GROUPNAME",
    "HOSTNAME",
    "REMOTE_HOSTNAME",
    "DEVICE",
    "USER_AGENT",
    "DEVICE_TYPE",
    "DEVICE_PLATFORM",
    "IP_REAL",
    "IP_REAL_LOCAL",
    "IP_LOCAL",
    "IP_REMOTE",
    "IPV6_LOCAL",
    "IPV6_REMOTE",
    "IPV6_PREFIX",
    "OCSERV_ROUTES",
    "OCSERV_ROUTES4",
    "OCSERV_ROUTES6",
    "OCSERV_NO_ROUTES",
    "OCSERV_NO_ROUTES4",
    "OCSERV_DNS",
    "OCSERV_DNS4",
    "OCSERV_DNS6",
    "STATS_BYTES_IN",
    "STATS_BYTES_OUT",
    "STATS_DURATION",
];

/// Runs one client and gives what each script was told, by its reason.
fn told(make: Make) -> BTreeMap<String, Variables> {
    let (world, fixture) = (World::new(), Fixture::new());
    let dir = fixture.dir().display().to_string();
    let script = fixture.write_script(
        "record",
        &format!("env >{dir}/$REASON.part; mv {dir}/$REASON.part {dir}/$REASON.env"),
    );
    let script = script.display().to_string();
    let overrides = [
        ("connect-script", script.as_str()),
        ("disconnect-script", &script),
        ("host-update-script", &script),
        ("no-route", "10.9.0.0/16"),
    ];
    let options = ServerOptions {
        overrides: &overrides,
        ..ServerOptions::default()
    };
    let server = Server::start_with(make, &world, &fixture, &options);
    let mut client = Client::connect(Make::Real, &world, &fixture);
    probe::ping(&world.client, inner_server());
    client.process.signal("INT");
    client.process.wait();
    let read = |reason: &str| {
        let path = fixture.path(&format!("{reason}.env"));
        let text = wait::until(&format!("{reason}\n{}", server.log()), || {
            fs::read_to_string(&path).ok()
        });
        let variables = text.lines().filter_map(|line| line.split_once('='));
        variables
            .filter(|(name, _)| DOCUMENTED.contains(name))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect::<Variables>()
    };
    ["connect", "disconnect", "host-update"]
        .into_iter()
        .map(|reason| (reason.to_owned(), read(reason)))
        .collect()
}

#[test]
fn scripts_are_told_what_the_real_server_tells_them() {
    let (ours, theirs) = (told(Make::Culvert), told(Make::Real));
    // These differ from run to run, and the counters with the client's timing.
    let changing = ["ID", "STATS_BYTES_IN", "STATS_BYTES_OUT", "STATS_DURATION"];
    for (reason, ours) in &ours {
        let theirs = &theirs[reason];
        let names = |variables: &Variables| variables.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(ours), names(theirs), "{reason}");
        for (name, value) in ours.iter().filter(|(name, _)| !changing.contains(&name.as_str())) {
            // 1.1.6 may append an interface to IPv6 addresses.
            let expected = theirs[name].split('%').next().unwrap();
            assert_eq!(value, expected, "{reason}: {name}");
        }
    }
    let disconnect = &ours["disconnect"];
    for name in ["STATS_BYTES_IN", "STATS_BYTES_OUT"] {
        assert!(
            disconnect[name].parse::<u64>().unwrap() >= 84,
            "{name}: {disconnect:?}"
        );
    }
}
