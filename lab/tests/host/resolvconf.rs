//! A host with `resolvconf`: it is told about the tunnel's servers and domains, and to forget them.
//! The program is a stand-in that writes down what it is told.

use std::fs;

use culvert_lab::process::kill;
use culvert_lab::{Client, ClientOptions, Make, Process, wait};

use crate::Scene;

const ADDED: &str = "-a tunlab\nnameserver 10.99.1.1\nsearch corp.test\n";
const DELETED: &str = "-d tunlab\n";

fn told(end: impl Fn(&mut Process)) {
    let scene = Scene::new(Make::Real, &[("dns", "10.99.1.1")]);
    let before = scene.network();
    let folder = scene.fixture.path("programs");
    fs::create_dir(&folder).unwrap();
    let log = scene.fixture.path("told");
    scene.fixture.write_script(
        "programs/resolvconf",
        &format!("{{ echo \"$@\"; [ \"$1\" = -d ] || cat; }} >>{}", log.display()),
    );
    let options = ClientOptions {
        script: false,
        ..ClientOptions::default()
    };
    let client = Client::command(Make::Culvert, &scene.world, &scene.fixture, &options);
    // The host's namespace, then a mount namespace in which the program exists.
    let stage = scene.fixture.write_script(
        "stage",
        &format!(
            "mount -t overlay overlay -o lowerdir={}:/usr/sbin /usr/sbin && exec \"$@\"",
            folder.display()
        ),
    );
    let mut command = scene.world.client.command("unshare");
    command.arg("--mount").arg(stage).args(client.get_args().skip(3));
    let input = format!("{}\n", options.input);
    let mut client = Process::start(command, scene.fixture.dir(), options.name, Some(&input));
    client.wait_for("Configured as");
    let said = || fs::read_to_string(&log).unwrap_or_default();
    wait::until("resolvconf -a", || (said() == ADDED).then_some(()));
    assert_eq!(scene.network().1, before.1);
    end(&mut client);
    wait::until("resolvconf -d", || {
        (said() == [ADDED, DELETED].concat()).then_some(())
    });
    wait::until("the old network", || (scene.network() == before).then_some(()));
}

#[test]
fn resolvconf_is_told_and_forgets_after_sigint() {
    told(|client| {
        client.signal("INT");
        assert_eq!(client.exit_code(), 0, "{}", client.output());
    });
}

#[test]
fn resolvconf_forgets_after_sigkill() {
    told(|client| {
        kill(client.pid(), "9");
        client.wait();
    });
}
